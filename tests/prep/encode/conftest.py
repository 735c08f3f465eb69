from __future__ import annotations

from pathlib import Path

import pytest

from tests.prep import real_tokenizers


@pytest.fixture(scope="session")
def files(gpt2_root: Path) -> dict[str, Path]:
    """The ``tokenizer.json`` of each tokenizer of the catalogue."""
    built = {name: real_tokenizers.tokenizer_json(name) for name in real_tokenizers.BUILDERS}
    return built | {"gpt2": gpt2_root / "tokenizers" / "gpt2" / "tokenizer.json"}
