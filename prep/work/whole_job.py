"""A whole job on this node: manifest, units, merge; each step is skipped where others have done it."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jobctl.prep.encode.encoders import Encoders
from jobctl.prep.shards.format import META_FILE, Meta, read_meta
from jobctl.prep.sources import manifest as manifests
from jobctl.prep.sources.listing import Source
from jobctl.prep.sources.manifest import Manifest
from jobctl.prep.work import origin as origins
from jobctl.prep.work import progress
from jobctl.prep.work.claims import POLL
from jobctl.prep.work.describing import all_described, describe, describing
from jobctl.prep.work.job import Job, claims, clear, create, load, work_dir
from jobctl.prep.work.merge import merge
from jobctl.prep.work.origin import Origin
from jobctl.prep.work.plan import plan
from jobctl.prep.work.pool import Pool, cores, work_off
from jobctl.prep.work.progress import Reporter, Status, Sum, Tally
from jobctl.prep.work.repair import forget_lost
from jobctl.prep.work.stages import Stage, guarded, stages
from jobctl.prep.work.unit import UnitJob

GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it spread any number of workers evenly over the tasks."""
Show = Callable[[str, bool], None]
"""Told a line of progress, and whether it is the last of its step."""


def manifest_of(output: Path, job: Job, sources: Sequence[Source], workers: int, show: Show) -> Manifest:
    """The manifest. All nodes read the files for it; the first that finds them read puts it together."""
    work = work_dir(output)
    size = sum(manifests.size_of(source) for source in sources)
    stage = describing(output, job, sources)

    def seen(count: int) -> None:
        show(f"manifest: {count / 1e6:,.1f} of {size / 1e6:,.1f} MB checked by this node", False)

    def make() -> None:
        manifests.save(manifests.combined(sources, all_described(stage, sources)), work)
        show(f"manifest: {len(sources)} files, {size / 1e6:,.1f} MB", True)

    if manifests.load(work) is None:
        describe(stage, claims(output, job), workers, seen)

    def waiting() -> None:
        show("manifest: waiting for the process that makes it", False)

    found = claims(output, job).once("manifest", lambda: manifests.load(work), make, waiting)
    manifests.compare(found, sources)

    return found


@contextlib.contextmanager
def beside(do: Callable[[], object]) -> Iterator[None]:
    """Have a process of its own do what will be asked for after the block; what fails there fails here then."""

    def quietly() -> None:
        with contextlib.suppress(Exception, KeyboardInterrupt):
            do()

    process = multiprocessing.get_context("fork").Process(target=quietly, daemon=True)
    process.start()

    try:
        yield
    finally:
        process.join()


def work_of(
    output: Path, job: Job, manifest: Manifest, sources: Sequence[Source], encoders: Encoders
) -> UnitJob:
    """What is to be done, the same on every node; workers inherit it."""
    return UnitJob(
        job=job,
        output=output,
        units=plan(manifest, sources, job.config.shard_bytes),
        files={file.path: file for file in manifest.files},
        encoders=encoders,
    )


def work_through(work: UnitJob, rank: int, ranks: int, slot: int) -> None:
    """What a worker process does: stage after stage, tasks until none is left."""
    reporter = Reporter(work.output)
    reporter.beat()
    place = (rank + slot * ranks) * GOLDEN % 1
    for stage in stages(work):

        def do(index: int, stage: Stage = stage) -> None:
            reporter.begin(stage.name, index)
            guarded(stage, index, reporter.seen)
            reporter.finish()

        if not work_off(stage, claims(work.output, work.job), first=int(place * stage.count), do=do):
            return


def status(output: Path) -> Status:
    """How far the job in ``output`` is, over all nodes. Raises UserError where there is none."""
    job = load(output)
    manifest = manifests.load(work_dir(output))
    if manifest is None:
        return progress.status([], state="manifest", tasks=0, done=Sum(), size=0)

    nowhere = [Source(file.path, Path()) for file in manifest.files]
    encoders = Encoders(job.tokens, job.config.encoder, Path(), job.config.control_tokens)

    return status_of(work_of(output, job, manifest, nowhere, encoders), Tally(output))


def status_of(work: UnitJob, tally: Tally) -> Status:
    """The same, of work whose finished tasks ``tally`` adds up."""
    if (work.output / META_FILE).exists():
        return progress.whole(read_meta(work.output), len(work.units))

    for stage in stages(work):  # to the first that is not done
        if stage.undone(range(stage.count)):
            break

    done = tally.done(stage.name)
    reports = progress.workers(work.output)

    return progress.status(reports, state=stage.name, tasks=stage.count, done=done, size=stage.size)


def report(work: UnitJob, tally: Tally, show: Show, final: bool = False) -> None:
    now = status_of(work, tally)
    progress.publish(work.output, now)
    show(progress.bar(now), final)


class Nodes(NamedTuple):
    """This node's number and how many nodes there are: they only spread the workers over the tasks."""

    rank: int = 0
    ranks: int = 1


def run(
    output: Path,
    job: Job,
    sources: Sequence[Source],
    find: Callable[[], Sequence[Source]],
    encoders: Encoders,
    show: Show,
    origin: Origin | None = None,
    nodes: Nodes = Nodes(),  # noqa: B008 - it is immutable
    checksums: bool = False,
) -> Meta:
    """Prepare ``job`` into ``output`` and return its meta; what is done already is not done again.

    ``find`` lists the source files again, at the end. A shard of another size than its record says is
    made again; with ``checksums`` also one of other bytes. Raises UserError.
    """
    workers = job.config.workers or cores()
    create(output, job)
    if origin:
        origins.save(output, origin)

    lost = forget_lost(output, job, checksums)
    if lost:
        show(f"{lost} tasks are done again: their shards are gone or damaged", True)

    with beside(lambda: manifest_of(output, job, sources, workers, show)):
        if not (output / META_FILE).exists():
            encoders.load()

    manifest = manifest_of(output, job, sources, workers, show)

    if not (output / META_FILE).exists():
        work = work_of(output, job, manifest, sources, encoders)
        finish(work, manifest, find, show, nodes, workers)

    clear(output)

    return read_meta(output)


def finish(
    work: UnitJob,
    manifest: Manifest,
    find: Callable[[], Sequence[Source]],
    show: Show,
    nodes: Nodes,
    workers: int,
) -> None:
    """Do the tasks that nobody has done, and write the meta."""
    output = work.output
    tally = Tally(output)
    pool = Pool(output, work_through, (work, nodes.rank, nodes.ranks), min(workers, len(work.units)))

    try:
        while pool.running():
            began = time.monotonic()
            report(work, tally, show)
            pool.wait(max(POLL, 20 * (time.monotonic() - began)))  # many tasks take a while to look at
    finally:
        pool.stop()

    def merged() -> Meta | None:
        return read_meta(output) if (output / META_FILE).exists() else None

    claims(output, work.job).once("merge", merged, lambda: merge(work, manifest, find()))
    report(work, tally, show, final=True)


def repair(output: Path, show: Show) -> Meta:
    """Run the job of ``output`` again for the shards whose bytes are not what their records say."""
    job = load(output)
    origin = origins.load(output)
    encoders = origin.encoders(job)

    def find() -> list[Source]:
        return origin.find(job)

    return run(output, job, find(), find, encoders, show, origin=origin, checksums=True)


def show_on(stream: object = None) -> Show:
    """Progress on stderr: one line that is rewritten on a terminal, a line now and then elsewhere."""
    last = 0.0

    def show(line: str, final: bool) -> None:
        nonlocal last
        terminal = sys.stderr.isatty()
        if terminal:
            print(f"\r\x1b[K{line}", end="\n" if final else "", file=sys.stderr, flush=True)
        elif final or time.monotonic() - last > 10:
            last = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    return show
