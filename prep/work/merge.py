"""The end of a job: make ``meta.json`` of the records.

No shard is touched, and several workers may do it at once.
"""

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
from jobctl.prep.work.unit import Record, UnitJob, load_record, write_rejects


def records(output: Path, count: int) -> list[Record]:
    """Return the record of every unit. Raises UserError with the number of missing ones."""
    present = []
    missing = []
    for index in range(count):
        try:
            present.append(load_record(output, index))
        except FileNotFoundError:
            missing.append(index)

    if missing:
        hint = "run the same command again; finished work is kept"
        raise UserError(f"{len(missing)} of {count} shards are not done; the first: {missing[0]}", hint=hint)

    return present


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
    """Raise UserError if a field, a weight or a language that the user named matched no document."""
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
    """Raise UserError if no document was kept."""
    if total.total.documents:
        return

    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(total.left_out.items()))
    raise UserError(
        "no document was kept" + (f"; left out: {reasons}" if reasons else ": the sources have none"),
        hint="loosen the filters, and prepare into a new folder with --output",
    )


def meta_of(job: Job, shards: Sequence[Shard], manifest: Manifest) -> Meta:
    """Return ``meta.json`` for these shards, still without its fingerprint."""
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
    """Check that everything is complete and unchanged. Write statistics, rejects and ``meta.json``."""
    output = work.output
    job = work.job
    count = len(work.units)
    done = records(output, count)
    # This is checked again at the end: a source that changed during the job would not match its hash.
    manifests.compare(manifest, sources)
    # It is written before the check, whose message tells the user to read it.
    write_rejects(output, range(count))
    check_rejects(job, done)
    total = statistics.Statistics()
    evidence = Evidence()

    for record in done:
        total.add(record.statistics)
        evidence.add(record.evidence)

    # This comes before the count of kept documents: a wrong name is the likelier reason for a count of 0.
    check_names(job, evidence, sources)
    check_kept(total)
    shards = stages.shards(work, done)
    dtype = token_dtype(job.tokens.vocab_size)

    # A shared disk may have lost a shard whose record is still there.
    for shard in shards:
        check_size(output, shard, dtype)

    write_whole(output / statistics.FILE, msgspec.json.format(msgspec.json.encode(total, order="sorted")))
    meta = meta_of(job, shards, manifest)

    for leftover in output.glob(".*.bin.*.partial"):
        # They are from killed workers, or from workers so slow that others did their tasks.
        leftover.unlink(missing_ok=True)

    litdata_index.write(output, meta)

    # This comes last: readers take the data set as whole as soon as this file exists.
    return write_meta(output, meta)
