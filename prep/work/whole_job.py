"""Run a whole job on this node: manifest, units, merge. A step that another node has done is skipped."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jobctl.jobs.core.amounts import counted
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
"""The golden ratio's fraction. Its multiples spread any number of workers evenly over the tasks."""
Show = Callable[[str, bool], None]
"""A function that gets a line of progress, and True if it is the last line of its step."""


def manifest_of(output: Path, job: Job, sources: Sequence[Source], workers: int, show: Show) -> Manifest:
    """Return the manifest. All nodes read the files for it, and the first node that is done makes it."""
    work = work_dir(output)
    size = sum(manifests.size_of(source) for source in sources)
    stage = describing(output, job, sources)

    def seen(count: int) -> None:
        show(f"manifest: {count / 1e6:,.1f} of {size / 1e6:,.1f} MB checked by this node", False)

    def make() -> None:
        manifests.save(manifests.combined(sources, all_described(stage, sources)), work)
        show(f"manifest: {counted(len(sources), 'file')}, {size / 1e6:,.1f} MB", True)

    if manifests.load(work) is None:
        describe(stage, claims(output, job), workers, seen)

    def waiting() -> None:
        show("manifest: waiting for the process that makes it", False)

    manifest = claims(output, job).once("manifest", lambda: manifests.load(work), make, waiting)
    # Another node may have made the manifest, perhaps from files that differ from those of this node.
    manifests.compare(manifest, sources)

    return manifest


@contextlib.contextmanager
def beside(do: Callable[[], object]) -> Iterator[None]:
    """Run ``do`` in another process while the block runs.

    Its errors are ignored: the caller does it again later.
    """

    def quietly() -> None:
        with contextlib.suppress(Exception, KeyboardInterrupt):
            do()

    # A process and no thread: this process must have no threads when it forks its workers.
    process = multiprocessing.get_context("fork").Process(target=quietly, daemon=True)
    process.start()

    try:
        yield
    finally:
        process.join()


def work_of(
    output: Path, job: Job, manifest: Manifest, sources: Sequence[Source], encoders: Encoders
) -> UnitJob:
    """Return the work of the job, the same on every node. Worker processes inherit it."""
    return UnitJob(
        job=job,
        output=output,
        units=plan(manifest, sources, job.config.shard_bytes),
        files={file.path: file for file in manifest.files},
        encoders=encoders,
    )


def work_through(work: UnitJob, rank: int, ranks: int, slot: int) -> None:
    """Do the tasks of one stage after the other, in a worker process, until none is left."""
    reporter = Reporter(work.output)
    reporter.beat()
    # Each worker of all nodes has its own number, spread over the tasks.
    place = (rank + slot * ranks) * GOLDEN % 1
    for stage in stages(work):

        def do(index: int, stage: Stage = stage) -> None:
            reporter.begin(stage.name, index)
            guarded(stage, index, reporter.seen)
            reporter.finish()

        if not work_off(stage, claims(work.output, work.job), first=int(place * stage.count), do=do):
            return


def status(output: Path) -> Status:
    """Return the progress of the job in ``output`` over all nodes. Raises UserError if there is no job."""
    job = load(output)
    manifest = manifests.load(work_dir(output))
    if manifest is None:
        return progress.status([], state="manifest", tasks=0, done=Sum(), size=0)

    # The files need not be on this machine. The plan takes only their names and sizes.
    nowhere = [Source(file.path, Path()) for file in manifest.files]
    encoders = Encoders(job.tokens, job.config.encoder, Path(), job.config.control_tokens)

    return status_of(work_of(output, job, manifest, nowhere, encoders), Tally(output))


def status_of(work: UnitJob, tally: Tally) -> Status:
    """Return the progress of ``work``. ``tally`` adds up its finished tasks."""
    if (work.output / META_FILE).exists():
        return progress.whole(read_meta(work.output), len(work.units))

    # A later stage may be requested only when this one is done.
    for stage in stages(work):
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
    """The number of this node and the count of all nodes. They only spread the workers over the tasks."""

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
    """Prepare ``job`` into ``output`` and return its meta. Finished tasks are not done again.

    ``find`` lists the source files again at the end. A shard whose size is not that of its record is made
    again; with ``checksums`` also a shard with other bytes. Raises UserError.
    """
    workers = job.config.workers or cores()
    create(output, job)
    if origin:
        origins.save(output, origin)

    # Before the first stage: a task counts as done as long as its record exists.
    lost = forget_lost(output, job, checksums)
    if lost:
        show(f"{counted(lost, 'task')} must be done again: shards are missing or damaged", True)

    # The encoders must load in this process, which has to be free of threads when it forks its workers.
    with beside(lambda: manifest_of(output, job, sources, workers, show)):
        if not (output / META_FILE).exists():
            encoders.load()

    manifest = manifest_of(output, job, sources, workers, show)

    # Asked again, because another node may have finished the job meanwhile.
    if not (output / META_FILE).exists():
        work = work_of(output, job, manifest, sources, encoders)
        finish(work, manifest, find, show, nodes, workers)

    # This also runs if the data set was already whole: an earlier attempt may have been killed at this point.
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
    """Do the remaining tasks, and write the meta."""
    output = work.output
    tally = Tally(output)
    pool = Pool(output, work_through, (work, nodes.rank, nodes.ranks), min(workers, len(work.units)))

    try:
        while pool.running():
            began = time.monotonic()
            report(work, tally, show)
            # With many tasks a report takes a while. It should take at most 5% of the time.
            pool.wait(max(POLL, 20 * (time.monotonic() - began)))
    finally:
        pool.stop()

    def merged() -> Meta | None:
        return read_meta(output) if (output / META_FILE).exists() else None

    claims(output, work.job).once("merge", merged, lambda: merge(work, manifest, find()))
    report(work, tally, show, final=True)


def repair(output: Path, show: Show) -> Meta:
    """Run the job of ``output`` again for shards whose bytes do not match their records."""
    job = load(output)
    origin = origins.load(output)
    encoders = origin.encoders(job)

    def find() -> list[Source]:
        return origin.find(job)

    return run(output, job, find(), find, encoders, show, origin=origin, checksums=True)


def show_on(stream: object = None) -> Show:
    """Return a function that shows progress on stderr.

    On a terminal it rewrites one line. Elsewhere it prints a line now and then.
    """
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
