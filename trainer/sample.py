"""``python -m jobctl.trainer.sample RUN --prompt TEXT``: write text with a run's weights."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from jobctl.jobs.core.errors import UserError, run_command
from jobctl.trainer.checkpoint.weights import load_model_weights
from jobctl.trainer.distributed import choose_device
from jobctl.trainer.export import (
    add_checkpoint_options,
    chosen_checkpoint,
    special_token_ids,
    tokenizer_of,
)
from jobctl.trainer.interop.hf_folder import load_hf
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.building import model_of_weights
from jobctl.trainer.models.cache import KeyValueCache
from jobctl.trainer.models.layers.decoder import Decoder
from jobctl.trainer.options import DEVICES

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_token(logits: Tensor, temperature: float, top_k: int, generator: torch.Generator | None) -> Tensor:
    """One token a row from logits ``[B, V]`` -> ``[B, 1]``.

    ``temperature`` 0 takes the likeliest; ``top_k`` above 0 draws among that many likeliest (Fan et al.
    2018).
    """
    # A temperature of 0 cannot be divided by, and its limit is the likeliest token.
    if temperature == 0.0:
        return logits.argmax(-1, keepdim=True)

    # The likeliest is 0 at any temperature, so no quotient is infinite. A float32 ends at 1e-45.
    least = torch.finfo(torch.float32).tiny
    values = logits.float()
    scaled = (values - values.amax(-1, keepdim=True)) / max(temperature, least)
    # Values equal to the last of the top k stay too, so ties do not depend on their order.
    if 0 < top_k < scaled.shape[-1]:
        scaled = scaled.masked_fill(scaled < scaled.topk(top_k).values[:, -1:], float("-inf"))

    return torch.multinomial(scaled.softmax(-1), 1, generator=generator)


@torch.no_grad()
def generate(
    model: Decoder,
    prompt: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Yields the next token ``[B, 1]`` up to ``max_new_tokens`` times, after a prompt ``[B, T]``, T >= 1.

    Each token is computed once: keys and values are cached. Raises UserError if prompt and new tokens
    together are longer than the model's positions.
    """
    total = prompt.shape[1] + max_new_tokens
    longest = model.config.max_position_embeddings
    if total > longest:
        raise UserError(
            f"{prompt.shape[1]} prompt tokens and {max_new_tokens} new ones exceed the model's {longest} "
            "positions",
            hint=f"lower --max_new_tokens to {max(0, longest - prompt.shape[1])}, or shorten the prompt",
        )

    weight = model.head_weight
    cache = KeyValueCache(model.config, prompt.shape[0], total, weight.device, weight.dtype)
    tokens = prompt

    for _ in range(max_new_tokens):
        # The first pass reads the prompt, each later one only the newest token.
        hidden = model.hidden_states(tokens, cache=cache)[:, -1]
        tokens = choose_token(hidden @ weight.t(), temperature, top_k, generator)
        yield tokens


class Text:
    """A tokenizer's folder: text to tokens and back, without additions, as the training data was made."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        file = folder / "tokenizer.json"
        if not file.is_file():
            raise UserError(
                f"{file} is missing", hint="give --tokenizer the folder that jobctl tokenizer wrote"
            )

        try:
            self.tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"{file} cannot be read: {error}", hint="fetch the tokenizer again") from error

        # A tokenizer without an end has None, which no token equals.
        self.end = special_token_ids(folder)["eos_token_id"]

    def encode(self, prompt: str, vocab_size: int) -> Tensor:
        """``[1, T]``. Raises UserError for an empty prompt, and for a token that the model does not have."""
        ids: list[int] = self.tokenizer.encode(prompt, add_special_tokens=False).ids
        if not ids:
            raise UserError("the prompt has no token", hint="give --prompt some text")

        # On a GPU such an id would end in an assertion without a place.
        if max(ids) >= vocab_size:
            raise UserError(
                f"the tokenizer gives token {max(ids)}, but the model has {vocab_size} tokens",
                hint="give --tokenizer the tokenizer of the run's data",
            )

        return torch.tensor([ids])

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobctl.trainer.sample", description=__doc__)
    parser.add_argument("run", type=Path, help="run directory, or a folder that transformers can load")
    add_checkpoint_options(parser)
    parser.add_argument(
        "--tokenizer", type=Path, help="folder of tokenizer.json (default: that of the run's data)"
    )
    parser.add_argument("--prompt", required=True, help="beginning of the text")
    parser.add_argument(
        "--max_new_tokens", type=int, default=128, help="tokens to add (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.8, help="0: always the likeliest token (default: %(default)s)"
    )
    parser.add_argument(
        "--top_k",
        type=int,
        default=200,
        help="choose from this many likeliest tokens; 0: all (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=1337, help="seed of the random choices (default: %(default)s)"
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="(default: %(default)s)")
    parser.add_argument(
        "--dtype", choices=list(DTYPES), default="float32", help="type of weights and arithmetic"
    )

    return parser.parse_args(arguments)


def sample(options: argparse.Namespace) -> str:
    """Return the prompt and its continuation, up to the end of the document."""
    # Not a number is in no range, so the comparisons ask for what may be.
    if not (0 <= options.temperature < math.inf and options.top_k >= 0 and options.max_new_tokens >= 0):
        raise UserError("--temperature, --top_k and --max_new_tokens must be finite and not negative")

    if not 0 <= options.seed < 2**63:
        raise UserError(f"--seed={options.seed}: expected a number from 0 to 2^63 - 1")

    device = choose_device(options.device)
    # Only a folder of transformers has a config.json at its top.
    theirs = (options.run / "config.json").is_file()
    which = chosen_checkpoint(options)
    config, state = load_hf(options.run) if theirs else load_model_weights(options.run, which)
    tokenizer = options.tokenizer or (options.run if theirs else tokenizer_of(options.run))
    if tokenizer is None:
        raise UserError(
            f"the tokenizer of {options.run} was not found",
            hint="jobctl tokenizer NAME fetches it; or give --tokenizer the folder of its tokenizer.json",
        )

    text = Text(tokenizer)
    prompt = text.encode(options.prompt, config.vocab_size).to(device)
    model = model_of_weights(config, state, ManualAttention(), device, DTYPES[options.dtype])
    generator = torch.Generator(device).manual_seed(options.seed)
    ids = prompt[0].tolist()
    chosen = {"temperature": options.temperature, "top_k": options.top_k, "generator": generator}

    for token in generate(model, prompt, options.max_new_tokens, **chosen):
        if token.item() == text.end:
            break

        ids.append(token.item())

    return text.decode(ids)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        print(sample(parse(arguments)))
    except UserError as error:
        print(f"jobctl: {error}", file=sys.stderr)
        return error.code

    return 0


if __name__ == "__main__":
    run_command(main)
