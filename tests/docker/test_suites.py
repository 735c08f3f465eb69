"""The suites of prep and of the trainer, with the Python and the packages of the image, by the user it runs as.

``JOBCTL_WHOLE_SUITES=1`` runs all of them (``make test-image``); else the slow files are left to the host's Python.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clusters import containers
from tests.clusters.containers import PROJECT, Engine
from tests.prep import real_tokenizers

SLOW = {
    "prep": (
        "encode",
        "test_mirror.py",
        "test_main.py",
        "test_shared_root.py",
        "test_without_native_packages.py",
        "work",
    ),
    "trainer": (
        "checkpoint/test_kills.py",
        "checkpoint/test_resuming.py",
        "fused",
        "models/test_loss.py",
        "models/test_recipe.py",
        "optim",
        "reporting/test_reporting.py",
        "test_main.py",
        "test_distributed.py",
        "test_export.py",
        "training",
    ),
}
ONLY_TESTS_NEED = ("pytest", "hypothesis", "transformers", "triton")
RUN = "import sys; sys.path += ['/tools/0', '/tools/1']; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
"""Last on the path, so that nothing of the image is hidden."""


def tools(python: str) -> list[Path]:
    """Folders of what only tests need: this environment's, or fetched once where the image has another ``python``."""
    if python == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return [Path(folder) for folder in sys.path if folder.endswith("/site-packages")]
    lines = (PROJECT / "requirements/test.txt").read_text().splitlines()
    wanted = [line.partition(" ;")[0] for line in lines if line.startswith(ONLY_TESTS_NEED)]
    key = hashlib.sha256("\n".join([python, *wanted]).encode()).hexdigest()[:16]
    folder = containers.CACHE / f"tools-{key}"
    with containers.locked("tools"):
        if not folder.exists():
            aside = folder.with_name(f".{folder.name}.{os.getpid()}")
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
            subprocess.run([*pip, f"--python-version={python}", f"--target={aside}", *wanted], check=True)
            aside.rename(folder)
    return [folder]


@pytest.mark.parametrize("suite", SLOW)
def test_the_suite_passes_in_the_images_python(podman: Engine, built_image: str, suite: str) -> None:
    ours = ("run", "--rm", "--network=none")
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = podman.run(*ours, built_image, "python3", "-c", version)
    tokenizers = [real_tokenizers.tokenizer_json(name) for name in real_tokenizers.BUILDERS]  # by pip
    slow = () if os.environ.get("JOBCTL_WHOLE_SUITES") == "1" else SLOW[suite]
    said = podman.run(
        *ours, "--shm-size=1g",
        f"--volume={PROJECT}/tests:/opt/jobctl/tests:ro",
        f"--volume={PROJECT}/pyproject.toml:/opt/jobctl/pyproject.toml:ro",
        f"--volume={PROJECT}/CONTRIBUTING.md:/opt/jobctl/CONTRIBUTING.md:ro",
        *(f"--volume={folder}:/tools/{number}:ro" for number, folder in enumerate(tools(python))),
        *(f"--volume={file}:/tokenizers/{file.name}:ro" for file in tokenizers), "--env=JOBCTL_TEST_CACHE=/tokenizers",
        "--env=HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis", "--workdir=/opt/jobctl", built_image,
        "python3", "-c", RUN, "-p", "no:cacheprovider", "--tb=short", "--durations=20",
        *(f"--ignore=tests/{suite}/{file}" for file in slow), f"tests/{suite}",
        timeout=3600,
    )  # fmt: skip
    print(said)
    assert " passed" in said.splitlines()[-1]
