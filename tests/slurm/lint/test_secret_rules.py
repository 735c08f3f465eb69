"""Secrets in a script are found, and what only looks like one is not."""

from __future__ import annotations

import pytest

from jobctl.slurm.lint import lint
from jobctl.slurm.lint.secret_rules import is_secret
from tests.slurm.lint.good import GOOD, found

WORD = "a1b2c3d4e5f6a7b8c9d0"


@pytest.mark.parametrize(
    "line",
    [
        f"export WANDB_API_KEY={WORD}",
        f"export HF_TOKEN='hf_{WORD}{WORD}'",
        f"python x.py --token hf_{WORD}{WORD}",
        f"DB_PASSWORD={WORD} ./run",
        f"export aws_secret_access_key={WORD}",
    ],
)
def test_a_secret_is_named_and_not_shown(line: str) -> None:
    (finding,) = [f for f in lint(f"{GOOD}{line}\n") if f.rule == "secret"]
    assert finding.severity == "error"
    assert finding.line == len(GOOD.splitlines()) + 1
    assert WORD not in finding.message


@pytest.mark.parametrize(
    "text",
    [
        f"# export WANDB_API_KEY={WORD}",
        f"#HF_TOKEN=hf_{WORD}{WORD}",
        f"cat >.netrc <<EOF\nmachine x\npassword={WORD}\nEOF",
        f"true # token was hf_{WORD}{WORD}",
    ],
)
def test_a_secret_that_no_command_uses_is_one_all_the_same(text: str) -> None:
    """Slurm keeps comments and here-documents as well."""
    (finding,) = [f for f in lint(f"{GOOD}{text}\n") if f.rule == "secret"]
    assert (finding.severity, WORD in finding.message) == ("error", False)


def test_a_secret_in_a_directive_is_one() -> None:
    script = GOOD.replace("--job-name=x", f"--export=ALL,HF_TOKEN=hf_{WORD}{WORD}")
    assert found(script)["secret"] == "error"


@pytest.mark.parametrize(
    "line",
    [
        'export HF_TOKEN="$(cat ~/.hf)"',
        "export X_TOKEN=$Y",
        "HF_TOKEN= true",
        "export HF_TOKEN=/home/me/.cache/token1234567",
        "export WANDB_API_KEY=your_api_key_here_123",
        "export WANDB_API_KEY=<KEY>",
        "TOKENIZER=gpt2-large-2024-01-01",
        "# export HF_TOKEN=hf_your_token_goes_here_1234567",
        "# sbatch --export=HF_TOKEN=$HF_TOKEN x.sh",
        "export TOKENIZER_PATH=abcdefgh12345678abcd",
        "MAX_TOKENS=1000000000000000000000",
        "export HF_TOKEN=hf_xxxxxxxxxxxxxxxxxxxxxxxx",
    ],
)
def test_what_is_no_secret_is_no_finding(line: str) -> None:
    assert lint(f"{GOOD}{line}\n") == []


def test_a_value_is_a_secret_by_its_look() -> None:
    assert is_secret(WORD)
    assert not is_secret("short1")
    assert not is_secret("onlylettersandnodigits")


@pytest.mark.parametrize("line", ["set -x", "set -euxo pipefail", "set -o xtrace"])
def test_a_trace_shows_what_it_should_not(line: str) -> None:
    assert found(f"{GOOD}{line}\n") == {"xtrace": "hint"}
