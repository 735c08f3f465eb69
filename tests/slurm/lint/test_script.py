"""A script is read as sbatch and bash read it."""

from __future__ import annotations

import pytest

from jobctl.slurm.lint.script import read_script


def test_directives_are_read_in_every_spelling() -> None:
    first = '#SBATCH -N 2 -t10 --comment "a b" --mem=0 # --qos=x'
    text = (
        f"#!/bin/sh\n{first}\n#SBATCH -J=j\n\n# text\n#SBATCH --exclusive\n#SBATCH --requeue --account a#b\n"
    )
    options = {name: directive.value for name, directive in read_script(text).options.items()}
    assert options == {
        "nodes": "2",
        "time": "10",
        "comment": "a b",
        "mem": "0",
        "job-name": "j",
        "exclusive": "",
        "requeue": "",
        "account": "a#b",
    }


def test_a_command_over_several_lines_is_one() -> None:
    script = read_script(
        "#!/bin/bash\nsrun \\\n  a \\\n  b\n\nbash -c '\n  x\n'\necho end # it's\necho \"it's\"\n"
    )
    assert [(command.line, command.text.split()[0]) for command in script.commands] == [
        (2, "srun"),
        (6, "bash"),
        (9, "echo"),
        (10, "echo"),
    ]
    assert "b" in script.commands[0].text


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/bash\nsbatch <<EOF\n#!/bin/bash\n#SBATCH --time=$T\nEOF\n",
        "#!/bin/bash\ncat > job <<-'END'\n#SBATCH --time=$T\n\tEND\nsbatch job\n",
        '#!/bin/bash\nHEAD="#!/bin/bash\n#SBATCH --time=$T\n"\n',
    ],
)
def test_the_script_of_another_job_is_no_part_of_this_one(text: str) -> None:
    script = read_script(text)
    assert (script.directives, script.late, script.generates) == ((), (), True)


def test_a_directive_after_a_command_is_late() -> None:
    script = read_script("#!/bin/bash\n#SBATCH --mem=1\n\n# text\necho\n#SBATCH --time=1\n")
    assert list(script.options) == ["mem"]
    assert script.late == ((6, "#SBATCH --time=1"),)


@pytest.mark.parametrize(
    ("nodes", "several"),
    [("2", True), ("1", False), ("2-4", True), ("1-2", False), ("", False), ("x", False)],
)
def test_several_nodes_are_asked_for_by_number(nodes: str, several: bool) -> None:
    assert read_script(f"#!/bin/bash\n#SBATCH --nodes={nodes}\n").several_nodes == several


@pytest.mark.parametrize(
    ("first", "shell"),
    [
        ("#!/bin/bash -l", True),
        ("#!/usr/bin/env zsh", True),
        ("#!/usr/bin/python3", False),
        ("#SBATCH -n 1", True),
    ],
)
def test_the_first_line_says_who_reads_the_commands(first: str, shell: bool) -> None:
    assert read_script(f"{first}\n").is_shell == shell
