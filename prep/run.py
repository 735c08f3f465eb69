"""A whole job on this node: manifest, units, merge; each step is skipped where others have done it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from prep import manifest as manifests
from prep import progress
from prep.claims import Claims
from prep.encoders import choose
from prep.job import Job, create, load, work_dir
from prep.manifest import Manifest
from prep.merge import merge, records
from prep.plan import plan
from prep.pool import POLL, Pool, Tasks, cores, work_off
from prep.progress import Reporter, Status
from prep.shards import META_FILE, Meta, read_meta
from prep.sources import Source
from prep.unit import UnitJob, prepare, record_file

Show = Callable[[str, bool], None]
"""Told a line of progress, and whether it is the last of its step."""


def claims_of(output: Path, job: Job) -> Claims:
    return Claims(work_dir(output) / "claims", stale=job.config.stale_seconds)


def manifest_of(output: Path, job: Job, sources: Sequence[Source], workers: int, show: Show) -> Manifest:
    """The manifest, made by the first worker that comes; the others wait for it."""
    work, claims = work_dir(output), claims_of(output, job)
    size, read = sum(source.path.stat().st_size for source in sources), 0

    def seen(count: int) -> None:
        nonlocal read
        read += count
        show(f"manifest: {read / 1e6:,.1f} of {size / 1e6:,.1f} MB checked", False)

    while (found := manifests.load(work)) is None:
        if claims.take("manifest"):
            with claims.held("manifest"):
                manifests.save(manifests.make(sources, workers, seen), work)
                show(f"manifest: {len(sources)} files, {size / 1e6:,.1f} MB", True)
        else:
            time.sleep(POLL)
    manifests.compare(found, sources)
    return found


def tokenize(
    output: Path, sources: Sequence[Source], tokenizer: Path, rank: int, ranks: int, slot: int
) -> None:
    """What a worker process does."""
    job = load(output)
    manifest = manifests.load(work_dir(output))
    assert manifest
    work = UnitJob(
        job=job,
        output=output,
        units=plan(manifest, sources, job.config.shard_bytes, job.config.shuffle),
        files={file.path: file for file in manifest.files},
        encoder=choose(job.tokens, job.config.encoder, tokenizer),
        reference=choose(job.tokens, "tokenizers", tokenizer),
    )
    count, reporter = len(work.units), Reporter(output)

    def do(index: int) -> None:
        reporter.begin(f"unit {index}")
        prepare(work, index, reporter.seen)
        reporter.finish()

    tasks = Tasks("unit", count, lambda index: record_file(output, index).exists(), do)
    work_off(
        tasks, claims_of(output, job), first=(rank + slot * ranks) * max(1, count // (ranks * 2)) % count
    )


def status(output: Path) -> Status:
    """How far the job in ``output`` is, over all nodes. Raises UserError where there is none."""
    job, manifest = load(output), manifests.load(work_dir(output))
    if manifest is None:
        return progress.status(
            [], state="manifest", tasks=0, tasks_done=0, size=0, size_done=0, tokens_done=0
        )
    nowhere = [Source(file.path, Path()) for file in manifest.files]
    count = len(plan(manifest, nowhere, job.config.shard_bytes, job.config.shuffle))
    done = [record_file(output, index) for index in range(count)]
    finished = [msgspec.json.decode(path.read_bytes(), type=dict) for path in done if path.exists()]
    return progress.status(
        progress.workers(output),
        state="finished" if (output / META_FILE).exists() else "tokenizing",
        tasks=count,
        tasks_done=len(finished),
        size=manifest.size,
        size_done=sum(record["source_bytes"] for record in finished),
        tokens_done=sum(shard["tokens"] for record in finished for shard in record["shards"]),
    )


def run(
    output: Path,
    job: Job,
    sources: Sequence[Source],
    tokenizer: Path,
    show: Show,
    rank: int = 0,
    ranks: int = 1,
) -> Meta:
    """Prepare ``job`` into ``output`` and return its meta; what is done already is not done again.

    ``rank`` of ``ranks`` only spreads the workers of several nodes over the units. Raises UserError.
    """
    workers = job.config.workers or cores()
    create(output, job)
    manifest = manifest_of(output, job, sources, workers, show)
    if (output / META_FILE).exists():
        return read_meta(output)
    count = len(plan(manifest, sources, job.config.shard_bytes, job.config.shuffle))
    left = sum(not record_file(output, index).exists() for index in range(count))
    if left:
        pool = Pool(output, tokenize, (output, sources, tokenizer, rank, ranks), min(workers, left))
        try:
            while pool.running():
                show(progress.bar(status(output)), False)
                time.sleep(POLL)
        finally:
            pool.stop()
        show(progress.bar(status(output)), True)
    records(output, count)
    return merge(output, job, manifest, sources, count)


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
