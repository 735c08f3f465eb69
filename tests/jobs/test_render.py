"""Rendered text: deterministic, quoted, checked by shellcheck, and every combination of the catalogue renders."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobctl.jobs.catalog.loader import names
from jobctl.jobs.catalog.schema import ContainerRuntime
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.render import Verbatim, quote_shell, quote_yaml, render_template
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.targets import registry
from jobctl.jobs.targets.registry import load_target
from tests.jobs.spec.test_resolution import spec_of

NASTY = "a b'c\"d$(touch pwned)`touch pwned`;touch pwned\n#!&|<>*?~\\ é"
HOSTILE_VALUES = [NASTY, "", "-rf", "\n", "$HOME", "'", "*", "a\tb", "\\"]


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=6))
def test_shell_quoting_gives_back_each_value_as_one_word(values: list[str]) -> None:
    script = "printf '%s\\0' begin " + " ".join(quote_shell(value) for value in values)
    printed = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    assert printed.decode().split("\0")[1:-1] == values


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_yaml_quoting_gives_back_each_value(value: object) -> None:
    assert yaml.safe_load(quote_yaml(value)) == value


def test_a_nul_cannot_be_quoted() -> None:
    with pytest.raises(UserError, match="NUL"):
        quote_shell("a\0b")


def test_a_template_prints_nothing_unquoted_but_what_is_marked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import jobctl.jobs.render

    (tmp_path / "x.sh.j2").write_text("echo {{ data }} {{ known }}\n")
    monkeypatch.setattr(jobctl.jobs.render, "TEMPLATES", tmp_path)
    jobctl.jobs.render._template.cache_clear()
    try:
        assert render_template("x.sh.j2", {"data": "$(x)", "known": Verbatim("$(y)")}) == "echo '$(x)' $(y)\n"
    finally:
        jobctl.jobs.render._template.cache_clear()


def every_choice() -> list[dict[str, Any]]:
    product = itertools.product(
        names("models"), names("hardware"), (1, 2, 3, 4), names("stages"), registry.names()
    )
    return [
        {"model": model, "hardware": hardware, "tier": tier, "stage": stage, "target": place}
        for model, hardware, tier, stage, place in product
    ]


def rendered(**choices: Any) -> str:
    spec = resolve(Choices(**choices), version="0.0.0", root="/shared/jobctl").spec
    return load_target(spec.target).render(spec)


def test_every_model_tier_stage_target_and_hardware_renders_the_same_each_time() -> None:
    choices = every_choice()
    assert len(choices) == len(names("models")) * len(names("hardware")) * 4 * 5 * len(registry.names())
    # Of some hardware the processors run no image of jobctl's.
    image = {"image": "registry.example.org/jobctl:1"}
    texts = [rendered(**choice, named=image) for choice in choices]
    assert all(len(text) > 500 for text in texts)
    assert texts[::97] == [rendered(**choice, named=image) for choice in choices[::97]]


def scripts() -> list[tuple[str, str]]:
    """One script of every shape that a template can take."""
    found = []
    for place, site in (("local", None), ("docker", None), ("slurm", None), ("slurm", "example-slurm")):
        for model, stage in (("qwen3_1.8b", "train"), ("qwen3_1.8b", "sweep"), ("gpt2_smoke", "eval")):
            found.append(
                (
                    f"{place}-{site}-{model}-{stage}",
                    rendered(model=model, stage=stage, target=place, site=site),
                )
            )
        for runtime in get_args(ContainerRuntime) if place == "slurm" and site else ():
            image = "jobctl" if runtime == "shifter" else "/images/jobctl"
            sets = (f"container_runtime={runtime}", "container.mounts=[]", f"image={image}")
            text = rendered(model="llama3_2.2b", target=place, site=site, sets=sets)
            found.append((f"{place}-{runtime}", text))
        for kind in ("prep", "export"):
            spec = resolve(
                Choices(kind=kind, target=place, site=site, trainer_flags=("--workers=2",), run="r"),
                version="0.0.0", root="/shared/jobctl",
            ).spec  # fmt: skip
            found.append((f"{place}-{site}-{kind}", load_target(place).render(spec)))
    nasty = spec_of(target="local", sets=(f"project_dir={NASTY}", f"env.A={NASTY}", f"python={NASTY}"))
    found.append(("nasty", load_target("local").render(nasty)))
    return found


def test_shellcheck_finds_nothing_in_any_script(tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None and os.environ.get("JOBCTL_REQUIRE_SHELLCHECK") != "1":
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    for name, text in scripts():
        (tmp_path / f"{name}.sh").write_text(text)
    files = sorted(str(path) for path in tmp_path.glob("*.sh"))
    # SC2016 wonders at dollar signs in single quotes, which is where data belongs.
    answer = subprocess.run(
        ["shellcheck", "--severity=style", "--exclude=SC2016", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stdout == ""
    assert len(files) > 20


def run_with_a_fake_python(
    spec: JobSpec, tmp_path: Path, **environment: str
) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment that a local job's payload really gets."""
    seen = tmp_path / "seen"
    script = load_target("local").render(spec)
    answer = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "SEEN": str(seen), **environment}, cwd=tmp_path, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    words, _, variables = seen.read_bytes().partition(b"\0\0\0")
    pairs = (pair.decode().partition("=") for pair in variables.split(b"\0") if pair)
    return [word.decode() for word in words.split(b"\0")], {name: value for name, _, value in pairs}


FAKE_PYTHON = "#!/bin/bash\n{ printf '%s\\0' \"$@\"; printf '\\0\\0'; env -0; } >\"$SEEN\"\n"


@pytest.mark.parametrize("value", HOSTILE_VALUES)
def test_paths_and_environment_come_through_a_script_as_data(value: str, tmp_path: Path) -> None:
    folder = tmp_path / f"odd {value.replace('/', '')}"[:200]
    (folder / "src").mkdir(parents=True)
    python = folder / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    spec = resolve(
        Choices(
            model="qwen3_smoke", run="r", sets=(f"env.ODD={value}", f"python={python}", f"project_dir={folder}")
        ),
        version="0", root=str(folder / "root"),
    ).spec  # fmt: skip
    words, variables = run_with_a_fake_python(spec, tmp_path)
    assert variables["ODD"] == value
    assert f"--dataset={folder}/root/datasets/sotu-gpt2" in words
    assert f"--run_dir={folder}/root/runs/r" in words
    assert variables["PYTHONPATH"].startswith(f"{folder}/src")
    assert variables["PWD"] == f"{folder}/src"
    assert not list(tmp_path.rglob("pwned"))


def test_the_trainer_gets_every_setting_by_its_name(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    spec = spec_of(model="gpt2_smoke", run="r", sets=(f"python={python}",), trainer_flags=("--max_iters=7",))
    words, variables = run_with_a_fake_python(
        type(spec)(
            **{f: getattr(spec, f) for f in spec.__struct_fields__} | {"site": _rooted(spec, tmp_path)}
        ),
        tmp_path,
    )
    flags = dict(word[2:].split("=", 1) for word in words[words.index("--") + 1 :] if word.startswith("--"))
    assert flags["max_iters"] == "7"
    assert flags["architecture"] == "gpt2"
    assert {
        "batch_size",
        "gradient_accumulation_steps",
        "block_size",
        "dtype",
        "compile",
        "use_zero1",
    } <= set(flags)
    assert variables["OMP_NUM_THREADS"] == "1"


def _rooted(spec: JobSpec, root: Path) -> object:
    import msgspec

    return msgspec.structs.replace(spec.site, root=str(root))
