"""Read the records in a run directory. Check each one, because another user may have written it.

``run.json`` becomes a typed value, whatever version of jobctl wrote it. A record of format 1 has no number,
because jobctl 0.1 had no formats. A new format adds its step to ``_MIGRATIONS``.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.catalog.schema import (
    SITE_SECTIONS,
    HardwareFacts,
    Inputs,
    ModelConfig,
    Resources,
    Site,
    TrainConfig,
)
from jobctl.jobs.catalog.schema.keys import OLD_NAMES
from jobctl.jobs.core import layout
from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.exit_codes import code_of
from jobctl.jobs.core.log_files import has_training
from jobctl.jobs.core.reading import read_regular
from jobctl.jobs.core.stamps import utc_stamp
from jobctl.jobs.runs.edits import Edit, edited
from jobctl.jobs.spec.job_spec import RECORD_FORMAT, JobSpec, TrainSpec
from jobctl.jobs.targets.registry import target_entry

Settings = dict[str, Any]
_NUMBERED = re.compile(r"[0-9]{1,9}\.json")
_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "resources": Resources,
    "inputs": Inputs,
    "site": Site,
    "facts": HardwareFacts,
    "model": ModelConfig,
    "train": TrainConfig,
}


class BadRun(UserError):
    """A run directory that cannot be read: it is private, damaged, or not a run."""

    def __init__(self, origin: object, reason: str, hint: str = "") -> None:
        super().__init__(f"{origin}: {reason}", hint=hint, code=1)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a scheduler's job at a run. The job itself wrote this record."""

    attempt: int
    job_id: str
    target: str
    host: str
    nodes: str
    pid: int
    start: str
    end: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    step: str = kinds.TRAIN.name
    """The name of its kind: ``train``, or for example ``eval``, which reads a run's checkpoint."""
    task: int = 0
    tasks: int = 1
    """The number of tasks. In an array each task makes separate attempts."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run as it was submitted."""

    spec: JobSpec
    format: int = RECORD_FORMAT
    """The format in which the record was written."""
    spec_hash: str = ""
    """The hash that its writer computed. To compare two jobs, use ``spec.fingerprint()`` of both."""
    submitted: str = ""
    """UTC time in ISO 8601. It is empty if a user submitted the script by hand."""
    git_revision: str | None = None
    """The revision of the source tree that submitted the run."""
    edits: tuple[Edit, ...] = ()
    """Later changes of settings, the oldest first. ``spec`` does not contain them."""

    @property
    def edited_spec(self) -> JobSpec:
        """Return the spec with all edits. Raises UserError for an edit that this version cannot read."""
        return edited(self.spec, self.edits)

    def spec_to_resume(self, trusted: Sequence[str] = ()) -> JobSpec:
        """Return the spec for another attempt, with all edits.

        It keeps the hash of its record, because the script compares it. It trusts only the owners in
        ``trusted``.
        """
        return msgspec.structs.replace(
            self.edited_spec,
            trusted=tuple(trusted) or msgspec.UNSET,
            recorded_hash=self.spec_hash or msgspec.UNSET,
        )


class _Submission(msgspec.Struct, frozen=True):
    """The part of a record beside its spec."""

    spec_hash: str = ""
    submitted: str = ""
    git_revision: str | None = None
    edits: tuple[Edit, ...] = ()


def read_record(file: Path) -> RunRecord:
    """Return the record of a run. Raises BadRun if the file is missing, private, or not a record."""
    try:
        data = read_regular(file)
    except FileNotFoundError:
        if has_training(file.parent):
            run = file.parent.name
            hint = (
                f"read its log: jobctl analyze {run}, jobctl watch {run}; stop or resume it by hand as well"
            )
            raise BadRun(file.parent, "jobctl did not start it: it was started by hand", hint=hint) from None

        raise BadRun(file.parent, f"has no {file.name}; its submission did not finish") from None
    except OSError as error:
        raise BadRun(file, error.strerror or str(error)) from None

    return parse_record(data, file)


def parse_record(data: bytes | str, origin: object) -> RunRecord:
    """Return the record in ``data``. Raises BadRun with ``origin`` in its message if it is not a record."""
    try:
        settings = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRun(origin, f"not a run's record: {error}") from None

    if not isinstance(settings, dict) or not isinstance(settings.get("spec"), dict):
        raise BadRun(origin, "not a run's record: it has no spec")

    written = settings.get("format", 1)
    newer_hint = "use the version of jobctl that submitted the run, or submit it again with another name"
    if not isinstance(written, int) or not 1 <= written <= RECORD_FORMAT:
        raise BadRun(
            origin, f"its format is {written!r}; this jobctl reads formats up to {RECORD_FORMAT}", newer_hint
        )

    try:
        # Migrate one format at a time, so that a migration has to know only the next format.
        for number in range(written, RECORD_FORMAT):
            settings = _MIGRATIONS[number](settings)

        spec = read_spec(settings["spec"])
        submission = msgspec.convert(settings, _Submission)
        # The package of a target may be missing. Then only this run is left out of a list.
        target_entry(spec.target)
    except msgspec.ValidationError as error:
        # Cut it, because another user may have written a text of any length.
        version = str(settings["spec"].get("version", "unknown"))[:40]
        reason = f"this version cannot read the run's record: {error}; jobctl {version} wrote it"
        raise BadRun(origin, reason, newer_hint) from None
    except UserError as error:
        raise BadRun(origin, f"not a run's record: {error.message}"[:200]) from None

    return RunRecord(spec=spec, format=written, **msgspec.structs.asdict(submission))


def with_edit(text: str, edit: Edit) -> str:
    """Return the record ``text`` with one more edit. Keep all other keys, also those of a later version."""
    settings = json.loads(text)
    edits = [*settings.get("edits", []), msgspec.to_builtins(edit)]
    return json.dumps({**settings, "edits": edits}, indent=1, sort_keys=True) + "\n"


def read_spec(settings: Mapping[str, Any]) -> JobSpec:
    """Return the spec from ``settings``. Ignore keys that this version does not have.

    Raises msgspec.ValidationError for a missing key and for a wrong value.
    """
    known = {name: _known(name, value) for name, value in settings.items()}
    return msgspec.convert(known, TrainSpec if settings.get("kind") == kinds.TRAIN.name else JobSpec)


def _known(name: str, value: Any) -> Any:
    section = _SECTIONS.get(name)
    if section is None or not isinstance(value, dict):
        return value

    # Otherwise a key of a later version would be refused, and an older jobctl could read none of its runs.
    known = {key: value[key] for key in section.__struct_fields__ if key in value}
    for key in SITE_SECTIONS if section is Site else ():
        if isinstance(known.get(key), dict):
            known[key] = {k: v for k, v in known[key].items() if k in SITE_SECTIONS[key].__struct_fields__}

    return known


def _from_1(settings: Settings) -> Settings:
    """Return the record in format 2, which leaves out settings that only other targets read.

    Image variants that are no longer built become an image.
    """
    spec = {**settings["spec"]}
    # The types are checked after all migrations, so a migration must bear any value.
    inputs: Any = spec.get("inputs")
    variant = inputs.get("image_variant") if isinstance(inputs, dict) else None
    if variant in _IMAGE_VARIANTS_OF_1:
        image = inputs.get("image") or f"jobctl:{spec.get('version')}-{variant}"
        spec["inputs"] = {**inputs, "image": image, "image_variant": _IMAGE_VARIANTS_OF_1[variant]}

    facts = spec.get("facts")
    if isinstance(facts, dict) and isinstance(facts.get("image_variants"), list):
        variants = [_IMAGE_VARIANTS_OF_1.get(name, name) for name in facts["image_variants"]]
        spec["facts"] = {**facts, "image_variants": variants}

    return {**settings, "spec": spec, "submitted": settings.get("submitted") or ""}


def _from_2(settings: Settings) -> Settings:
    """Return the record in format 3, which gives a site sections: ``slurm.partition`` was ``partition``."""
    spec = {**settings["spec"]}
    if not isinstance(spec.get("site"), dict):
        return settings

    site: Settings = {}
    for key, value in spec["site"].items():
        section, _, name = OLD_NAMES.get(key, "").partition(".")
        if section:
            site.setdefault(section, {})[name] = value
        else:
            site[key] = value

    return {**settings, "spec": {**spec, "site": site}}


_IMAGE_VARIANTS_OF_1 = {"cu128": "cu132"}
"""Image variants of format 1 that no longer exist, each with the variant that replaced it."""
_MIGRATIONS: dict[int, Callable[[Settings], Settings]] = {1: _from_1, 2: _from_2}
"""For each old format: the function that makes a record of the next format."""


def read_attempts(run: Path) -> tuple[Attempt, ...]:
    """Return all attempts in a run directory, sorted by number. Raises BadRun."""
    try:
        # Other names are those of files that are being written.
        files = [path for path in (run / "attempts").iterdir() if _NUMBERED.fullmatch(path.name)]
    except FileNotFoundError:
        # The run has not begun.
        return ()
    except OSError as error:
        raise BadRun(run / "attempts", error.strerror or str(error)) from None

    return tuple(sorted(map(_read_attempt, files), key=lambda attempt: attempt.attempt))


def record_kill(run: Path, number: int) -> None:
    """Record the end of an attempt that was killed before it could write its end itself."""
    for attempt in read_attempts(run):
        # Read the attempts again: the script may have written the end in the meantime.
        if attempt.attempt == number and attempt.end is None:
            end = utc_stamp()
            code = code_of(-signal.SIGKILL)
            ended = msgspec.structs.replace(attempt, end=end, exit_code=code, reason="cancelled")
            write_whole(layout.attempt_file(run, number), msgspec.json.encode(ended) + b"\n")


def _read_attempt(file: Path) -> Attempt:
    try:
        return msgspec.json.decode(read_regular(file), type=Attempt)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRun(file, f"not an attempt's record: {error}") from None
    except OSError as error:
        raise BadRun(file, error.strerror or str(error)) from None
