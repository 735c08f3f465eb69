"""Of all nodes' exit codes, which one a run is said to have ended with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jobctl.jobs.core.exit_codes import EXIT_CONTINUE, EXIT_HARDWARE
from jobctl.jobs.render import render_template


@pytest.mark.parametrize(
    ("scheduler", "codes", "cause"),
    [
        (0, [0, 0], 0),
        (0, [200, 200], 200),  # a task's 200 is a 0 to srun
        (137, [1, 137], 137),
        (1, [137, 1], 137),
        (139, [1, 139, 143], 139),
        (201, [1, 201], 201),
        (2, [1, 2], 2),
        (1, [1, 143], 1),
        (137, [1], 1),  # the other one hung, and had to be killed
        (137, [143], 137),  # the other one was killed without a word, and srun ended this one
        (137, [0], 137),
        (1, [], 1),
        (0, [143], 143),  # of a step that Slurm has ended srun says 0
        (143, [200, 143], 200),
    ],
)
def test_what_led_to_the_others_is_the_cause(
    scheduler: int, codes: list[int], cause: int, tmp_path: Path
) -> None:
    function = render_template(
        "cause.sh.j2", {"exit_hardware": EXIT_HARDWARE, "exit_continue": EXIT_CONTINUE}
    )
    files = [tmp_path / f"exit-n{number}" for number in range(len(codes))]
    for file, code in zip(files, codes, strict=True):
        file.write_text(f"{code}\n")
    words = [str(file) for file in files] or [str(tmp_path / "exit-*")]
    done = subprocess.run(
        ["bash", "-euc", f'{function}\ncause "$@"', "cause", str(scheduler), *words],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) == cause
