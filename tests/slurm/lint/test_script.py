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


def options_of(line: str) -> dict[str, str]:
    text = f"#!/bin/bash\n#SBATCH {line}\n"
    return {name: directive.value for name, directive in read_script(text).options.items()}


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("--time=1:00 --time=2:00", {"time": "2:00"}),
        ("--exclusive node7", {"exclusive": ""}),
        ("--exclusive=user -N1", {"exclusive": "user", "nodes": "1"}),
        ("--mem 4G -p gpu", {"mem": "4G", "partition": "gpu"}),
        ("--mem -p gpu", {"mem": "", "partition": "gpu"}),
        ("-pgpu -t=5", {"partition": "gpu", "time": "5"}),
        ("-Z 3", {"Z": "3"}),
        ("--comment='it is \"x\"' -N2", {"comment": "it is x", "nodes": "2"}),
        ("--comment='a # b' # --mem=1", {"comment": "a # b"}),
        ("gpu --mem=1", {"mem": "1"}),
        ("--", {}),
        ("", {}),
    ],
)
def test_a_directive_is_cut_into_options_as_sbatch_cuts_it(line: str, options: dict[str, str]) -> None:
    assert options_of(line) == options


@pytest.mark.parametrize(
    ("value", "number"), [("", 7), ("12", 12), ("0", 0), ("1-2", None), ("$N", None), ("-1", None)]
)
def test_a_number_is_the_default_only_where_the_option_is_absent(value: str, number: int | None) -> None:
    line = f"#SBATCH --nodes={value}\n" if value else ""
    assert read_script(f"#!/bin/bash\n{line}").number("nodes", default=7) == number


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("echo a \\\n  b\n", ["echo a  \n  b"]),
        ("echo 'a\\'\necho b\n", ["echo 'a\\'", "echo b"]),
        ("echo a\\\\\necho b\n", ["echo a\\\\", "echo b"]),
        ('echo "a\nb" c\n', ['echo "a\nb" c']),
        ('echo "it\'s"\necho b\n', ['echo "it\'s"', "echo b"]),
        ('echo \\"\necho b\n', ['echo \\"', "echo b"]),
        ("echo a # it's\necho b\n", ["echo a # it's", "echo b"]),
        ("echo a#'b'\necho c\n", ["echo a#'b'", "echo c"]),
        ("cat <<A <<B\n1\nA\n2\nB\necho c\n", ["cat <<A <<B", "echo c"]),
        ("cat <<'A B'\necho c\n", ["cat <<'A B'", "echo c"]),
        ("echo '<<A'\necho c\n", ["echo '<<A'", "echo c"]),
        ("cat <<-A\n\tx\n\tA\necho c\n", ["cat <<-A", "echo c"]),
        ("cat <<A\nnever ended\n", ["cat <<A"]),
        ("echo 'never ended\n", ["echo 'never ended"]),
        ("echo a \\", ["echo a  "]),
        ("\n  # a comment\n\n", []),
        ("", []),
    ],
)
def test_commands_end_where_bash_ends_them(text: str, commands: list[str]) -> None:
    assert [command.text for command in read_script(text).commands] == commands


def test_lines_of_a_here_document_are_found_by_no_rule() -> None:
    script = read_script("#!/bin/bash\ncat <<A\nrm -r x\nA\nsrun true\n")
    assert script.has(r"\bsrun\b")
    assert not script.has(r"\brm\b")
    assert [command.line for command in script.find("srun")] == [5]


def test_a_file_of_another_system_is_read_like_ours_and_known() -> None:
    text = "#!/bin/bash\n#SBATCH --nodes=2\nsrun true\n"
    ours = read_script(text)
    theirs = read_script(text.replace("\n", "\r\n"))
    assert (ours.crlf, theirs.crlf) == (False, True)
    assert (theirs.lines, theirs.directives, theirs.commands) == (ours.lines, ours.directives, ours.commands)


def test_a_rule_is_ignored_for_the_script_the_next_line_or_its_own_line() -> None:
    script = read_script(
        "#!/bin/bash\n"
        "# jobctl-lint: ignore=whole\n"
        "#SBATCH --mem=1  # jobctl-lint: ignore=here,there\n"
        "srun a\n"
        "  # jobctl-lint: ignore=next\n"
        "srun b  # jobctl-lint: ignore=line-end\n"
        "# jobctl-lint: ignore=second\n"
        "# jobctl-lint: ignored\n"
    )
    assert script.ignored_rules == {
        0: frozenset({"whole"}),
        3: frozenset({"here", "there"}),
        6: frozenset({"next", "line-end"}),
        8: frozenset({"second"}),
    }


def test_an_empty_file_is_a_script_without_anything() -> None:
    script = read_script("")
    assert (script.lines, script.commands, script.directives, script.is_shell) == ((), (), (), True)
