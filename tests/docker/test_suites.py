"""The suites of prep and of the trainer, with the Python and the packages of the image."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.clusters.containers import Engine
from tests.docker.conftest import not_here
from tests.prep import real_tokenizers

PROJECT = Path(__file__).parents[2]
RUN = "import sys; sys.path.append('/tools'); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
"""What only tests need comes last on the path: where the image has a package, that one is taken."""


@pytest.mark.parametrize("suite", ["prep", "trainer"])
def test_the_suite_passes_in_the_images_python(podman: Engine, built_image: str, suite: str) -> None:
    version = podman.run(
        "run",
        "--rm",
        "--no-healthcheck",
        built_image,
        "python3",
        "-c",
        "import sys; print(*sys.version_info[:2])",
    )
    if version != f"{sys.version_info[0]} {sys.version_info[1]}":
        not_here(f"pytest is installed here for another Python than the image's {version}")
    for name in real_tokenizers.BUILDERS:
        real_tokenizers.tokenizer_json(name)  # fetched by pip, which the image has not
    said = podman.run(
        "run", "--rm", "--no-healthcheck", "--network=none", "--shm-size=1g", f"--user={os.getuid()}:{os.getgid()}",
        f"--volume={PROJECT}/tests:/opt/jobctl/tests:ro",
        f"--volume={PROJECT}/pyproject.toml:/opt/jobctl/pyproject.toml:ro",
        f"--volume={Path(pytest.__file__).parents[1]}:/tools:ro",
        f"--volume={real_tokenizers.cache()}:/tokenizers:ro", "--env=JOBCTL_TEST_CACHE=/tokenizers",
        "--workdir=/opt/jobctl", built_image,
        "python3", "-B", "-c", RUN, "-p", "no:cacheprovider", "--tb=short", f"tests/{suite}",
        timeout=1800,
    )  # fmt: skip
    assert " passed" in said.splitlines()[-1]
