"""Import the packages that an image must have while it is built.

A wheel that cannot be imported ends the build.

It needs no GPU: torch also names the architectures of its build without one. It imports nothing of jobctl.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", required=True, metavar="VERSION")
    parser.add_argument(
        "--cuda", default="", metavar="VERSION", help="CUDA that torch was built for; empty: none"
    )
    parser.add_argument("--architectures", default="", metavar="NAMES", help="as 'sm_80 sm_90'")
    parser.add_argument("--flash-attn", default="", metavar="WHEEL", help="empty: it is not in this image")
    options = parser.parse_args(arguments)

    torch = importlib.import_module("torch")
    problems = torch_problems(
        version=torch.__version__,
        cuda=torch.version.cuda or "",
        # torch.cuda.get_arch_list() is not used: without a GPU it names none.
        built_for=torch._C._cuda_getArchFlags() if torch.version.cuda else "",
        expected_version=options.torch,
        expected_cuda=options.cuda,
        needed=options.architectures.split(),
    )

    if options.flash_attn:
        problems += flash_attn_problems(options.flash_attn)

    for problem in problems:
        print(f"check_packages: {problem}", file=sys.stderr)

    return 1 if problems else 0


def torch_problems(
    *, version: str, cuda: str, built_for: str, expected_version: str, expected_cuda: str, needed: list[str]
) -> list[str]:
    """Compare the installed torch with the variant. ``built_for`` lists torch's architectures."""
    # All problems are collected: a build takes minutes, so one failure should report everything.
    problems = []
    # Builds from PyTorch's own index add a mark such as +cpu, those of the package index do not.
    if version.partition("+")[0] != expected_version.partition("+")[0]:
        problems.append(f"torch is {version}, not {expected_version}")

    if cuda != expected_cuda:
        problems.append(f"torch is built for CUDA {cuda or 'none'}, not {expected_cuda or 'none'}")

    lacking = [name for name in needed if name not in built_for.split()]
    if lacking:
        problems.append(f"torch has no code for {', '.join(lacking)}; it has: {built_for}")

    return problems


def flash_attn_problems(wheel: str) -> list[str]:
    """Import flash-attn's function. A wheel for another torch or C++ ABI fails with an undefined symbol."""
    try:
        importlib.import_module("flash_attn").flash_attn_func  # noqa: B018
    except (ImportError, OSError, AttributeError) as error:
        return [f"flash-attn cannot be imported ({error}): {wheel} does not fit this torch and Python"]

    return []


if __name__ == "__main__":
    sys.exit(main())
