"""The words for the weights that a run began with."""

from __future__ import annotations

from jobctl.trainer.checkpoint.origin import Origin

FILES = {"model.safetensors": "a" * 32, "config.json": "b" * 32, "tokenizer.json": "c" * 32}


def test_an_origin_names_its_source_its_folder_and_two_digests() -> None:
    origin = Origin(source="hf:gpt2", path="/cache/gpt2", files=FILES)
    assert str(origin) == f"hf:gpt2 (/cache/gpt2; xxh3 model.safetensors {'a' * 12}, config.json {'b' * 12})"


def test_a_checkpoint_has_its_step_the_first_one_too() -> None:
    origin = Origin(source="run:other", path="/r", step=0, files={"checksums.json": "d" * 32})
    assert str(origin) == f"run:other (/r, step 0; xxh3 checksums.json {'d' * 12})"
