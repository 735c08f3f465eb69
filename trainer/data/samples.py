"""Samples as a pure function of (fingerprint, seed, number), and the batches of each rank."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import signal
import typing
import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import Meta, TokenDataset, open_dataset
from jobctl.trainer.data.mixture import ORDER, EvenTurns, ShuffledTurns, Turns
from jobctl.trainer.data.permutation import key, permute
from jobctl.trainer.options import Source

Tokens = npt.NDArray[np.int64]


class Blocks:
    """A split cut into blocks of ``block_size`` tokens.

    Each has the next token as well, which is its last label.
    """

    def __init__(self, tokens: TokenDataset, block_size: int) -> None:
        self.tokens = tokens
        self.block_size = block_size
        if tokens.num_tokens <= block_size:
            raise UserError(
                f"split '{tokens.split}' of {tokens.folder} has {tokens.num_tokens} tokens, "
                f"too few for one block of {block_size}",
                hint="prepare more text, or lower --block_size",
            )

    def __len__(self) -> int:
        # The last token of the split has no next one, so it is only a label.
        return (self.tokens.num_tokens - 1) // self.block_size

    def __getitem__(self, index: int) -> Tokens:
        """Return the tokens of block ``index``, shape [block_size + 1].

        Labels are the inputs moved by one.
        """
        # Tokens are stored in 16 or 32 bits, and torch's gather takes indices of 64 only.
        return self.tokens.read(index * self.block_size, self.block_size + 1).astype(np.int64)


class Samples:
    """The samples of a run. The source and the block of sample k depend only on (fingerprint, seed, k).

    Within a source no block comes twice in an epoch, and each epoch has another order. ``order`` is the
    format of the order (``mixture.ORDER``). A resumed run keeps its format.
    """

    def __init__(
        self, sources: Sequence[Blocks], weights: Sequence[float], seed: int, order: int = ORDER
    ) -> None:
        self.sources = tuple(sources)
        self.seed = seed
        self.order = order
        metas = [blocks.tokens.meta for blocks in sources]
        self.fingerprint = combined_fingerprint(metas, weights)
        self.vocab_size = max(meta.vocab_size for meta in metas)
        # A resumed run keeps its order, or it would see some samples twice and others never.
        self.turns: Turns
        if order == 1:
            self.turns = ShuffledTurns(weights, self.fingerprint, seed)
        else:
            self.turns = EvenTurns(weights)

    def locate(self, number: int) -> tuple[int, int, int]:
        """Return (source, epoch of that source, block) of sample ``number``."""
        source, position = self.turns.locate(number)
        size = len(self.sources[source])
        # The position counts on over the epochs of a source, so the quotient is the epoch.
        epoch, place = divmod(position, size)
        return source, epoch, permute(place, size, self.keys(source, epoch))

    @functools.lru_cache(maxsize=64)  # noqa: B019 - lives as long as the run
    def keys(self, source: int, epoch: int) -> tuple[int, ...]:
        """Return the round keys of one epoch of one source."""
        return key(self.fingerprint, self.seed, source, epoch)

    def __getitem__(self, number: int) -> Tokens:
        """Return the tokens of sample ``number``, shape [block_size + 1]."""
        source, _, block = self.locate(number)
        return self.sources[source][block]

    def __reduce__(self) -> tuple[typing.Any, ...]:
        raise TypeError("worker processes are forked; samples do not travel")


def combined_fingerprint(metas: Sequence[Meta], weights: Sequence[float]) -> str:
    """Return the identity of the data: that of the data set, or of all data sets with their weights."""
    if len(metas) == 1:
        return metas[0].fingerprint
    # The order of the sources counts too, since the turns are taken in this order.
    text = " ".join(f"{meta.fingerprint}={weight}" for meta, weight in zip(metas, weights, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()


def open_sources(
    sources: Sequence[Source], split: str, model: ModelConfig, train: TrainConfig
) -> list[Blocks]:
    """Open the data sets, and check them against the model and against each other. Raises UserError."""
    opened = [open_dataset(source.path, split) for source in sources]
    first = opened[0].meta
    for tokens in opened:
        meta = tokens.meta
        if meta.vocab_size > model.vocab_size:
            raise UserError(
                f"data set {tokens.folder} has a vocabulary of {meta.vocab_size} ids (tokenizer "
                f"{meta.tokenizer.name}), the model only {model.vocab_size}",
                hint="choose the data set that was made with the model's tokenizer",
            )

        # The same ids stand for other texts with another tokenizer, which no shape would show.
        if meta.tokenizer.sha256 != first.tokenizer.sha256:
            raise UserError(
                f"data sets {opened[0].folder} and {tokens.folder} were made with different tokenizers: "
                f"{first.tokenizer.name} and {meta.tokenizer.name}",
                hint="a mixture needs one tokenizer",
            )

    return [Blocks(tokens, train.block_size) for tokens in opened]


def open_samples(
    sources: Sequence[Source], model: ModelConfig, train: TrainConfig, order: int = ORDER
) -> Samples:
    """Return the training samples of a run. Raises UserError if data and model do not fit."""
    if not 1 <= order <= ORDER:
        raise UserError(
            f"the run's order of samples has format {order}; this version knows 1 to {ORDER}",
            hint="continue with the version of jobctl that began the run",
        )

    blocks = open_sources(sources, "train", model, train)
    weights = [source.weight for source in sources]

    return Samples(blocks, weights, train.seed, order)


@dataclasses.dataclass(frozen=True)
class BatchLayout:
    """The division of a step's samples: ``world_size`` ranks, ``accumulation`` micro-steps, ``batch_size`` each."""

    batch_size: int
    accumulation: int
    world_size: int
    rank: int

    @property
    def global_batch_size(self) -> int:
        return self.batch_size * self.accumulation * self.world_size

    def numbers(self, first: int, micro: int) -> range:
        """Return the samples of micro-step ``micro``.

        Micro-steps are counted on over the steps, from sample ``first``.

        A step is the same interval of numbers for every division. So a run may resume on another number of
        GPUs.
        """
        start = first + (micro * self.world_size + self.rank) * self.batch_size
        return range(start, start + self.batch_size)


class MicroBatches(Dataset[torch.Tensor]):
    """This rank's micro-batches by number: int64 tokens of shape [batch_size, block_size + 1]."""

    def __init__(self, samples: Samples, layout: BatchLayout, first: int) -> None:
        self.samples = samples
        self.layout = layout
        self.first = first

    def __getitem__(self, micro: int) -> torch.Tensor:
        numbers = self.layout.numbers(self.first, micro)
        tokens = np.stack([self.samples[number] for number in numbers])
        self._check(tokens, numbers)
        return torch.from_numpy(tokens)

    def _check(self, tokens: Tokens, numbers: range) -> None:
        """Raise UserError for an id outside the vocabulary.

        On a GPU it would end in an assertion without a place.
        """
        vocab_size = self.samples.vocab_size
        if int(tokens.max()) < vocab_size:
            return

        # Looked up only after a failure, since it needs a pass over the whole batch.
        row = int(tokens.max(axis=1).argmax())
        source, _, block = self.samples.locate(numbers[row])
        dataset = self.samples.sources[source].tokens
        raise UserError(
            f"sample {numbers[row]} holds token id {int(tokens.max())}, but the vocabulary of "
            f"{dataset.folder} has {vocab_size} ids (split '{dataset.split}', block {block})",
            hint=f"a shard is damaged; python -m jobctl.prep.verify {dataset.folder} names it",
        )


def leave_signals_to_the_parent(_: int) -> None:
    """Ignore SIGTERM and SIGINT in a worker.

    Its trainer finishes the step first, and then ends the worker.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def micro_batches(
    batches: MicroBatches, count: int, workers: int, pin_memory: bool
) -> Iterator[torch.Tensor]:
    """Return the first ``count`` micro-batches in order, read by this process or by ``workers`` others."""
    if workers == 0:
        plain = (batches[micro] for micro in range(count))
        return (tokens.pin_memory() for tokens in plain) if pin_memory else plain

    # torch warns of more workers than cores. They mostly wait for the disk, so they do no harm.
    warnings.filterwarnings("ignore", "This DataLoader will create")
    loader: Iterable[torch.Tensor] = DataLoader(
        batches,
        # The data set already yields whole micro-batches.
        batch_size=None,
        sampler=range(count),
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=leave_signals_to_the_parent,
        # Forked workers share the open maps and the order of the samples, which are large.
        multiprocessing_context="fork",
    )

    return iter(loader)


def document_ids(tokens: torch.Tensor, eos_id: int) -> torch.Tensor:
    """Return the number of each position's document, counted in its row; the shape is that of ``tokens``.

    A document ends with its EOS, so the next one begins right after it.
    """
    # The sum includes the position itself, and an EOS still belongs to the document that it ends.
    ends = (tokens == eos_id).long()
    return ends.cumsum(dim=-1) - ends
