import math
from pathlib import Path

import msgspec
import pytest
import torch

from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.trainer.distributed import World
from jobctl.trainer.options import Source
from jobctl.trainer.training.evaluate import SEQUENCES, Score, choose_blocks, open_validation, shares
from tests.trainer.corpus import TINY, arguments, write_corpus
from tests.trainer.running import ALONE, prepare

MODEL = msgspec.convert(TINY, ModelConfig)


@pytest.mark.parametrize(("count", "batch", "size"), [(20, 3, 2), (1, 4, 4), (16, 4, 2), (5, 1, 1)])
def test_every_block_is_scored_once_and_ranks_keep_step(count: int, batch: int, size: int) -> None:
    ranks = [shares(count, batch, World(rank=r, size=size, device=torch.device("cpu"))) for r in range(size)]
    assert len({len(batches) for batches in ranks}) == 1
    scored = [i for batches in ranks for part in batches for i in part if i is not None]
    assert sorted(scored) == list(range(count))


def test_the_set_depends_on_the_data_and_not_on_seed_or_layout(tmp_path: Path) -> None:
    source = [Source(write_corpus(tmp_path / "data", tokens=60_000))]
    sets = [
        open_validation(source, MODEL, TrainConfig(block_size=16, seed=seed, batch_size=batch, eval_iters=2))[
            0
        ]
        for seed, batch in ((1, 1), (2, 8))
    ]
    assert sets[0].numbers == sets[1].numbers
    assert len(set(sets[0].numbers)) == 2 * SEQUENCES
    assert sets[0].name == sets[1].name
    assert sets[0].name.endswith("-T16-N16")


def test_a_small_split_is_scored_whole(tmp_path: Path) -> None:
    chosen = open_validation([Source(write_corpus(tmp_path / "data"))], MODEL, TrainConfig(block_size=16))[0]
    assert len(choose_blocks(chosen.blocks, 10**6).numbers) == len(chosen.blocks)


def test_the_score_is_the_mean_over_all_tokens(tmp_path: Path) -> None:
    training = prepare(arguments(write_corpus(tmp_path / "data"), tmp_path / "run", batch_size=3))
    chosen = training.run.validation[0]
    model = training.run.stepper.model
    score = training.scores()[0]
    blocks = torch.stack([torch.from_numpy(chosen.blocks[i]) for i in chosen.numbers])
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(
            model(blocks[:, :-1]).flatten(0, 1), blocks[:, 1:].flatten()
        )
    assert score.loss == pytest.approx(expected.item(), rel=1e-6)
    assert score.bytes_per_token == pytest.approx(2.0)
    assert model.training
    assert ALONE.size == 1


def test_perplexity_a_byte_compares_tokenizers() -> None:
    coarse = Score("a", 4.0, bytes_per_token=4.0)
    fine = Score("b", 2.0, bytes_per_token=2.0)
    assert coarse.byte_perplexity == fine.byte_perplexity == pytest.approx(math.e)
    assert Score("c", 2.0, None).byte_perplexity is None
    assert "perplexity_per_byte" not in Score("c", 2.0, None).record()


def test_an_evaluation_is_said_to_the_stepper_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = prepare(arguments(write_corpus(tmp_path / "data"), tmp_path / "run"))
    ended: list[bool] = []
    monkeypatch.setattr(training.run.stepper, "end_evaluation", lambda: ended.append(True))

    training.scores()

    assert ended == [True]
