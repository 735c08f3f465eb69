"""What only registries and release pages know of a variant: its images' digests, and the hash of flash-attn's wheel."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import urllib.error
import urllib.request

from jobctl.docker import variants

BLOCK = 1 << 20


def fill_in(variant: str) -> None:
    """Ask for each reference and write the answer into the variant's file; say which could not be reached."""
    settings = variants.read(variant)
    for key in ("BASE", "CUDA_DEVEL"):
        if f"{key}_DIGEST" not in settings:
            continue
        try:
            variants.set_value(variant, f"{key}_DIGEST", image_digest(settings[key]))
        except (OSError, subprocess.CalledProcessError):
            print(f"{variant}: {key} {settings[key]} not reached; its digest stays as it is", file=sys.stderr)

    wheel = settings.get("FLASH_ATTN_WHEEL")
    if not wheel:
        return
    try:
        variants.set_value(variant, "FLASH_ATTN_SHA256", sha256_of(wheel))
    except (urllib.error.URLError, OSError) as error:
        print(f"{variant}: {wheel} not reached ({error}); its hash stays as it is", file=sys.stderr)


def image_digest(reference: str) -> str:
    """Return the digest that a registry has for ``reference``. Raises OSError or CalledProcessError."""
    command = ["skopeo", "inspect", "--format={{.Digest}}", f"docker://{reference}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def sha256_of(url: str) -> str:
    """Return the SHA-256 of a file on the web, read as a stream. Raises URLError or OSError."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=60) as answer:
        while block := answer.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
