"""Find the digests of the variants' base images, which only a registry knows."""

from __future__ import annotations

import subprocess
import sys

from jobctl.docker import variants


def fill_in(variant: str) -> None:
    """Ask for the digest of the base image and write it into the variant's file.

    Warn if there is no answer.
    """
    base = variants.read(variant)["BASE"]
    try:
        variants.set_value(variant, "BASE_DIGEST", image_digest(base))
    # A registry may not answer, or skopeo may be missing. The pins of packages are still good.
    except (OSError, subprocess.CalledProcessError):
        print(
            f"{variant}: BASE {base} cannot be read; its digest stays unchanged",
            file=sys.stderr,
        )


def image_digest(reference: str) -> str:
    """Return the digest of ``reference`` in its registry. Raises OSError or CalledProcessError."""
    command = ["skopeo", "inspect", "--format={{.Digest}}", f"docker://{reference}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
