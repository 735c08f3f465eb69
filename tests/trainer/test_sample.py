from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from jobctl.jobs.core.errors import UserError
from jobctl.trainer import sample
from jobctl.trainer.models.attention import choose_attention
from jobctl.trainer.models.cache import KeyValueCache
from jobctl.trainer.models.layers.decoder import Decoder
from jobctl.trainer.sample import choose_token, generate
from tests.trainer.models import tiny
from tests.trainer.test_export import write_tokenizer

CPU = torch.device("cpu")


@torch.no_grad()
def uncached_greedy(model: Decoder, prompt: Tensor, count: int) -> Tensor:
    tokens = prompt
    for _ in range(count):
        tokens = torch.cat([tokens, model(tokens)[:, -1].argmax(-1, keepdim=True)], dim=1)
    return tokens[:, prompt.shape[1] :]


@pytest.mark.parametrize("backend", ["manual", "sdpa"])
@pytest.mark.parametrize("prompt_length", [1, 6])
@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_cached_greedy_decoding_is_the_uncached(shape: str, prompt_length: int, backend: str) -> None:
    model = tiny.model(shape, choose_attention(backend, CPU, torch.float32, 16))
    prompt = tiny.tokens(2, prompt_length)
    cached = torch.cat(list(generate(model, prompt, 20, temperature=0.0)), dim=1)
    assert torch.equal(cached, uncached_greedy(model, prompt, 20))
    assert len(cached.unique()) >= 3  # it does not merely repeat itself


@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_a_cache_may_be_fed_in_pieces(shape: str) -> None:
    model = tiny.model(shape)
    words = tiny.tokens(2, 20)
    cache = KeyValueCache(model.config, 2, 20, CPU, torch.float32)
    with torch.no_grad():
        pieces = torch.cat([model(part, cache=cache) for part in words.split([7, 1, 5, 7], dim=1)], dim=1)
        torch.testing.assert_close(pieces, model(words), rtol=1e-4, atol=1e-4)
        assert cache.length == 20
        with pytest.raises(ValueError, match="holds 20 positions, not 21"):
            model(words[:, :1], cache=cache)


def test_top_k_and_temperature_shape_the_draws() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]]).expand(4000, 4)
    generator = torch.Generator().manual_seed(0)
    counts = choose_token(logits, 1.0, 2, generator).flatten().bincount(minlength=4) / 4000
    assert counts[:2].sum() == 0
    assert float(counts[3]) == pytest.approx(1 / (1 + torch.e**-1), abs=0.03)
    warm = choose_token(logits, 2.0, 0, generator).flatten().bincount(minlength=4) / 4000
    torch.testing.assert_close(warm, (logits[0] / 2).softmax(0), rtol=0, atol=0.03)
    assert torch.all(choose_token(logits, 0.0, 0, None) == 3)


@pytest.mark.parametrize("temperature", [1e-30, 1e-300])
@pytest.mark.parametrize("top_k", [0, 2])
def test_a_temperature_near_zero_draws_the_likeliest(temperature: float, top_k: int) -> None:
    """A quotient by so little is infinite, and two infinities have no difference."""
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0], [5.0, -4.0, 2.0, 3.0]])
    drawn = choose_token(logits, temperature, top_k, torch.Generator().manual_seed(0))
    assert drawn.flatten().tolist() == [3, 0]


def test_too_many_tokens_are_refused_before_any_is_made() -> None:
    with pytest.raises(UserError, match="exceed the model's 64 positions") as caught:
        next(generate(tiny.model("llama-gqa"), tiny.tokens(1, 10), 55))
    assert "to 54" in caught.value.hint


NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    model = tiny.model("qwen3")
    monkeypatch.setattr(
        sample, "load_model_weights", lambda run, which="": (model.config, model.state_dict())
    )
    return [str(tmp_path), "--tokenizer", str(write_tokenizer(tmp_path / "tokenizer")), "--device", "cpu"]


def test_the_command_goes_on_from_the_prompt(run: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for seed in ("1", "1", "2"):
        assert sample.main([*run, "--prompt", "w5 w7", "--max_new_tokens", "12", "--seed", seed]) == 0
        texts.append(capsys.readouterr().out.strip())
    assert texts[0] == texts[1] != texts[2]
    assert all(text.startswith("w5 w7 w") and len(text.split()) <= 14 for text in texts)


def test_the_end_of_the_document_ends_it(
    run: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sample, "generate", lambda *_, **__: (torch.tensor([[token]]) for token in (8, 100, 9))
    )
    assert sample.main([*run, "--prompt", "w5"]) == 0
    assert capsys.readouterr().out == "w5 w8\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", ""], "the prompt has no token"),
        (["--prompt", "w1", "--temperature", "-1"], "not negative"),
        (["--prompt", "w1", "--temperature", "nan"], "must be finite and not negative"),
        (["--prompt", "w1", "--seed", "-1"], "expected a number from 0"),
        (["--prompt", "w1", "--seed", str(2**64)], "expected a number from 0"),
        (["--prompt", "w1", "--tokenizer", "/nowhere"], "tokenizer.json is missing"),
        pytest.param(["--prompt", "w1", "--device", "cuda"], "no usable CUDA GPU", marks=NO_GPU),
    ],
)
def test_mistakes_are_explained(
    run: list[str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample.main([*run, *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b'{"model": 3}'])
def test_a_damaged_tokenizer_is_named(
    run: list[str], capsys: pytest.CaptureFixture[str], text: bytes
) -> None:
    (Path(run[2]) / "tokenizer.json").write_bytes(text)
    assert sample.main([*run, "--prompt", "w1"]) == 2
    assert "tokenizer.json cannot be read" in capsys.readouterr().err


def test_without_a_tokenizer_it_asks_for_one(run: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert sample.main([run[0], "--prompt", "w5"]) == 2
    assert "give --tokenizer" in capsys.readouterr().err


def test_another_runs_tokenizer_is_noticed(tmp_path: Path) -> None:
    text = sample.Text(write_tokenizer(tmp_path / "tokenizer"))
    assert text.encode("w5 w99", 101).tolist() == [[5, 99]]
    with pytest.raises(UserError, match="gives token 99, but the model has 50"):
        text.encode("w5 w99", 50)
