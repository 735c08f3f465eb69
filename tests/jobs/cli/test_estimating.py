"""What the verbs ask of this host before they estimate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.cli import estimating
from jobctl.jobs.cli.estimating import goodput_of, host_gib_free, probes_dir, read_probe
from jobctl.jobs.core.goodput import Goodput
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec
from jobctl.jobs.submission import store_for
from tests.jobs.estimate.test_rates import probe


def test_the_kernel_says_what_is_available(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       100 kB\nMemAvailable:   2097152 kB\n")
    assert host_gib_free(meminfo) == 2.0
    meminfo.write_text("MemTotal:       100 kB\n")
    assert host_gib_free(meminfo) is None
    assert host_gib_free(tmp_path / "none") is None


def test_a_probe_is_read_from_the_root_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    assert read_probe(tmp_path, "h200") is None
    file = probes_dir(tmp_path) / "h200.json"
    file.parent.mkdir()
    file.write_bytes(msgspec.json.encode(probe()))
    assert read_probe(tmp_path, "h200") == probe()
    file.write_text("{")
    assert read_probe(tmp_path, "h200") is None


def test_goodput_is_the_mean_of_runs_of_the_same_kind(
    job: Callable[..., JobSpec], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = {"a": 0.9, "b": 0.7, "other": 0.1, "short": 0.2}

    def read(run: Path) -> Goodput:
        share = shares[run.name]
        return Goodput(wall_seconds=100.0, seconds={"steps": 100 * share}, tokens=1, attempts=1, starts=1)

    monkeypatch.setattr(estimating, "read_goodput", read)
    for name in ("a", "b"):
        start(job("true", run=name), root)

    start(job("true", run="other", model="llama2_smoke"), root)
    start(job("true", run="short", stage="smoke"), root)
    spec = job("true")
    assert isinstance(spec, TrainSpec)
    assert goodput_of(root, spec) == (pytest.approx(0.8), 2)


def test_runs_of_other_models_hide_none_of_the_same_kind(
    job: Callable[..., JobSpec], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the others are newer, and come later by name."""
    monkeypatch.setattr(estimating, "MOST_RUNS", 2)
    goodput = Goodput(wall_seconds=100.0, seconds={"steps": 50.0}, tokens=1, attempts=1, starts=1)
    monkeypatch.setattr(estimating, "read_goodput", lambda run: goodput)
    for name in ("a", "b", "c"):
        start(job("true", run=name), root)

    for name in ("x", "y", "z"):
        start(job("true", run=name, model="llama2_smoke"), root)

    spec = job("true")
    assert isinstance(spec, TrainSpec)
    assert goodput_of(root, spec) == (pytest.approx(0.5), 2)


def start(spec: JobSpec, root: Path) -> None:
    """Claim the run directory of ``spec`` and write its record."""
    store_for(spec, root).start(spec)


def test_a_root_without_runs_has_had_no_goodput(job: Callable[..., JobSpec], root: Path) -> None:
    spec = job("true")
    assert isinstance(spec, TrainSpec)
    assert goodput_of(root, spec) == (None, 0)
