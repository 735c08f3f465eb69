"""The end of a job: records become ``meta.json``, no shard is touched; several may do it at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.prep.select.selection import Evidence
from jobctl.prep.shards import litdata_index, statistics
from jobctl.prep.shards.format import Meta, Shard, check_size, token_dtype, write_meta
from jobctl.prep.sources import manifest as manifests
from jobctl.prep.sources.documents import field_names
from jobctl.prep.sources.listing import Source
from jobctl.prep.sources.manifest import Manifest
from jobctl.prep.work import stages
from jobctl.prep.work.job import Job
from jobctl.prep.work.unit import Record, UnitJob, load_record, reject_file

REJECTS = "rejects.jsonl"


def records(output: Path, count: int) -> list[Record]:
    """The record of every unit. Raises UserError that says how many are missing."""
    found = []
    missing = []
    for index in range(count):
        try:
            found.append(load_record(output, index))
        except FileNotFoundError:
            missing.append(index)

    if missing:
        hint = "run the same command again; what is done stays"
        raise UserError(f"{len(missing)} of {count} shards are not done; the first: {missing[0]}", hint=hint)

    return found


def write_rejects(output: Path, count: int) -> None:
    """All units' rejected lines in one file, in the units' order; no file where there is none."""
    parts = [reject_file(output, index).read_bytes() for index in range(count)]
    if any(parts):
        write_whole(output / REJECTS, b"".join(parts))


def check_rejects(job: Job, done: Sequence[Record]) -> None:
    rejected = sum(record.statistics.rejected for record in done)
    lines = rejected + sum(record.lines for record in done)
    if rejected > job.config.max_reject_share * lines:
        raise UserError(
            f"{rejected} of {lines} source lines are broken, more than the share of "
            f"{job.config.max_reject_share:g} that is allowed; "
            f"the first: {next(record.first_reject for record in done if record.first_reject)}",
            hint="look at rejects.jsonl, or allow more with --max-reject-share",
        )


def check_names(job: Job, evidence: Evidence, sources: Sequence[Source]) -> None:
    """Raise UserError where a field, a weight or a language that the user named matched no document."""
    entry = job.entry
    if not evidence.documents:
        return

    for option, field, count in (
        ("--source-field", entry.source_field, evidence.labelled),
        ("--language-field", entry.language_field, evidence.with_language),
    ):
        if field and not count:
            raise UserError(
                f"{option}: no document has a field '{field}'", hint=nearest(field, field_names(sources))
            )

    for option, names, values in (
        ("--weights: no document's source is", job.config.weights, evidence.labels),
        (
            "--languages: no document's language is",
            entry.languages if entry.language_field else (),
            evidence.languages,
        ),
    ):
        for name in names:
            if name not in values:
                raise UserError(f"{option} '{name}'", hint=nearest(name, values))


def check_kept(total: statistics.Statistics) -> None:
    """Raise UserError where no document was kept."""
    if total.total.documents:
        return

    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(total.left_out.items()))
    raise UserError(
        "no document was kept" + (f"; left out: {reasons}" if reasons else ": the sources have none"),
        hint="loosen the filters, and prepare into a new folder with --output",
    )


def meta_of(job: Job, shards: Sequence[Shard], manifest: Manifest) -> Meta:
    """Return what ``meta.json`` says of these shards; its fingerprint is still to come."""
    return Meta(
        dataset=job.dataset,
        dtype=token_dtype(job.tokens.vocab_size),
        vocab_size=job.tokens.vocab_size,
        tokenizer=job.tokenizer,
        eos_id=job.tokens.eos_id,
        bos_id=job.tokens.bos_id,
        documents=sum(shard.documents for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        text_bytes=sum(shard.text_bytes for shard in shards),
        shards=tuple(shards),
        sources=manifest.files,
        options=job.options,
    )


def merge(work: UnitJob, manifest: Manifest, sources: Sequence[Source]) -> Meta:
    """Check that all is there and unchanged; write statistics, rejects and ``meta.json``."""
    output = work.output
    job = work.job
    count = len(work.units)
    done = records(output, count)
    manifests.compare(manifest, sources)
    write_rejects(output, count)
    check_rejects(job, done)
    total = statistics.Statistics()
    evidence = Evidence()

    for record in done:
        total.add(record.statistics)
        evidence.add(record.evidence)

    check_names(job, evidence, sources)
    check_kept(total)
    shards = stages.shards(work, done)
    dtype = token_dtype(job.tokens.vocab_size)

    for shard in shards:
        check_size(output, shard, dtype)

    write_whole(output / statistics.FILE, msgspec.json.format(msgspec.json.encode(total, order="sorted")))
    meta = meta_of(job, shards, manifest)

    for leftover in output.glob(".*.bin.*.partial"):
        leftover.unlink(missing_ok=True)  # of workers that were killed, or that are too slow to be needed

    litdata_index.write(output, meta)

    return write_meta(output, meta)
