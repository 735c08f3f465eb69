"""What is written into a directive is what the real sbatch reads out of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobctl.jobs.core.errors import UserError
from jobctl.slurm.directives import directives, literal_path, quote_directive
from tests.clusters.slurm import SlurmCluster

ANY_TEXT = st.text(
    st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), min_size=1, max_size=200
)
SYNTAX = st.text("\"'\\#;$()`%:=-\t\r ab{}|&<>*?!~é", min_size=1, max_size=60)


def test_options_become_lines_in_order() -> None:
    text = directives(
        {
            "job-name": "a run", "nodes": 2, "requeue": True, "exclusive": False, "account": None, "qos": "",
            "exclude": ["n1", "n2"], "mail-type": (), "signal": "B:USR2@300",
        }
    )  # fmt: skip
    assert text == (
        '#SBATCH --job-name="a run"\n#SBATCH --nodes=2\n#SBATCH --requeue\n#SBATCH --exclude=n1,n2\n'
        "#SBATCH --signal=B:USR2@300\n"
    )


@pytest.mark.parametrize("value", ["a\nb", "\n", "a\0"])
def test_a_line_break_or_nul_is_refused_by_the_option_s_name(value: str) -> None:
    with pytest.raises(UserError, match="--comment: "):
        directives({"comment": value})


@pytest.mark.parametrize("name", ["", "Comment", "a b", "--x", "x=1\n#SBATCH"])
def test_an_impossible_option_name_is_a_mistake_of_ours(name: str) -> None:
    with pytest.raises(ValueError, match="long name"):
        directives({name: "x"})


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(ANY_TEXT, SYNTAX))
@example("hetjob packjob")
@example('"; rm -rf / #')
@example("$(touch /tmp/x) `id` $HOME")
@example("ends in a backslash\\")
@example("ends in a return\r")
@example(" spaces around ")
@example("#SBATCH --hold")
@example("日本語 🙂 \u2028 \x85")
def test_sbatch_reads_back_every_value(slurm_cluster: SlurmCluster, value: str) -> None:
    script = (
        f"#!/bin/sh\n{directives({'output': '/dev/null', 'hold': True, 'comment': value, 'nice': 7})}true\n"
    )
    sbatch = subprocess.run(["sbatch", "--parsable"], input=script.encode(), capture_output=True, check=False)
    assert sbatch.returncode == 0, sbatch.stderr
    shown = subprocess.run(
        ["scontrol", "show", "job", sbatch.stdout.strip()], capture_output=True, check=True
    ).stdout
    comment = shown.partition(b"\n   Comment=")[2].partition(b" \n   StdErr=")[0]
    assert comment == value.encode()
    assert b" Nice=7 " in shown, "the next directive is read too"


def test_every_value_is_data_to_the_shell_that_runs_the_script() -> None:
    """To the shell the line is a comment: no value may end it."""
    for value in ('"; echo EVIL', "'; echo EVIL", "$(echo EVIL)", "x\r; echo EVIL", "\\"):
        script = f"#SBATCH --comment={quote_directive(value)}\necho end\n"
        for shell in ("sh", "bash"):
            if shutil.which(shell):
                assert subprocess.run([shell], input=script.encode(), capture_output=True).stdout == b"end\n"


def test_a_literal_path_is_where_the_output_is(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    names = ["plain", "a b", "100%j", "%%", "back\\slash%j", "\\", "q\"'$(x);#", "é"]
    outputs = [tmp_path / f"log {name}" for name in names]
    headers = [directives({"output": literal_path(str(output))}) for output in outputs]
    jobs = [slurm_cluster.run("sbatch", "--parsable", stdin=f"#!/bin/sh\n{h}echo written\n") for h in headers]
    for job, output in zip(jobs, outputs, strict=True):
        slurm_cluster.wait_for_job(job, "COMPLETED")
        assert output.read_text() == "written\n"
