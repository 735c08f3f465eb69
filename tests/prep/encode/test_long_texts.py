from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jobctl.prep.encode import long_texts
from jobctl.prep.encode.long_texts import LongTexts, Pairs, after_a_word, before_punctuation, between_words
from jobctl.prep.encode.look import Look
from jobctl.prep.encode.reference import ReferenceEncoder
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from jobctl.prep.shards.format import Ids
from tests.prep.encode.real import NAMES, english, entry_of, made, same

SCRIPTS = {
    "english": "It is among the earliest of our duties; don't forget 1,234 things.\n",
    "cyrillic": "Все люди рождаются свободными и равными в своём достоинстве и правах. ",
    "cyrillic without a space": "Вселюдирождаютсясвободными,иравнымивсвоёмдостоинстве.",
    "arabic": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. ",
    "thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "chinese": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心。",
    "japanese": "すべての人間は、生まれながらにして自由であり、",
    "korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. ",
    "hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता। ",
    "emoji": "🙂👩\u200d👩\u200d👧 🏳\ufe0f\u200d🌈🇩🇪",
    "code": "def f(x):\n\treturn {'a': x[0]**2, 'b': [1, 2, 3]}  # note\n",
    "one line of code": "a=b+c;d[0]=e(f,g);h={i:j};k+=l*m/n;",
    "decomposed": "e\u0301a\u0300 o\u0308u\u0308 cafe\u0301 ",
    "control tokens": "<think>\u0338 a b</think>c<|fim_prefix|>12345 e\u0301 <|endoftext|>",
    "spaces": "a    b\n\n   c\t\td  ",
}


class Counting:
    """An encoder that notes the longest text that it was given."""

    def __init__(self, encoder: ReferenceEncoder) -> None:
        self.name = encoder.name
        self._encoder = encoder
        self.longest = 0

    def encode(self, texts: list[str], looks: list[Look] | tuple[()] = ()) -> list[Ids]:
        self.longest = max(self.longest, *map(len, texts))
        return self._encoder.encode(texts, looks)


@pytest.mark.parametrize("part", [100, 1501])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_long_text_of_any_script_is_cut_and_keeps_its_ids(
    files: dict[str, Path], name: str, script: str, part: int
) -> None:
    file = TokenizerFile(files[name])
    reference = made("tokenizers", files[name])
    assert isinstance(reference, ReferenceEncoder)
    counting = Counting(reference)
    text = SCRIPTS[script] * (3000 // len(SCRIPTS[script]) + 1)

    [ids] = LongTexts(counting, reference, file, part).encode([text])  # type: ignore[arg-type]

    assert np.array_equal(ids, reference.encode([text])[0])
    assert counting.longest <= part + 1


@pytest.mark.parametrize("part", [40, 1000, 5001])
@pytest.mark.parametrize("name", NAMES)
def test_a_text_encoded_in_parts_gives_the_same_ids(files: dict[str, Path], name: str, part: int) -> None:
    encoder = made(entry_of(name).encoders[0], files[name])
    reference = made("tokenizers", files[name])
    assert isinstance(reference, ReferenceEncoder)
    texts = ["short", *english()[:4], "  a b  c d 's t" * 40, " x" * 3000, "é a b e\u0301 c" * 300]
    parts = LongTexts(encoder, reference, TokenizerFile(files[name]), part).encode(texts)
    assert same(parts, reference.encode(texts))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("word", ["x", "é", "ж", "ab"])
def test_a_word_that_is_longer_than_a_part_is_kept_whole(
    files: dict[str, Path], name: str, word: str
) -> None:
    reference = made("tokenizers", files[name])
    assert isinstance(reference, ReferenceEncoder)
    long = LongTexts(reference, reference, TokenizerFile(files[name]), part=200)
    for text in (word * 1000, word * 1000 + " and some more words " * 30, "before it " * 30 + word * 1000):
        assert same(long.encode([text]), reference.encode([text]))


@pytest.mark.parametrize("name", NAMES)
def test_long_runs_between_words_keep_their_ids(
    files: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of letters, marks, digits and signs in any order, so that windows begin inside every kind."""
    monkeypatch.setattr(long_texts, "WINDOW", 50)
    chance = random.Random(0)
    reference = made("tokenizers", files[name])
    assert isinstance(reference, ReferenceEncoder)
    long = LongTexts(reference, reference, TokenizerFile(files[name]), part=150)
    kinds = ["a", "天", "ก", "\u0e31", "'", "'s", "=", "9", "½", " ", "\n", "🙂", "_", "。", ", ", "\x1c"]
    texts = ["".join(chance.choice(kinds) * chance.randint(1, 130) for _ in range(12)) for _ in range(150)]
    assert same(long.encode(texts), reference.encode(texts))


def test_a_cut_between_words_is_the_last_space_between_letters() -> None:
    text = "one two  three, 4 five шесть 7"
    assert between_words(text, 1, len(text)) == text.index(" шесть")
    assert between_words(text, 1, 12) == 3
    assert between_words("no-space-at-all", 1, 15) is None


def letters_or_not(text: str) -> list[int]:
    changes = [place for place in range(1, len(text)) if text[place].isalpha() != text[place - 1].isalpha()]
    return [*changes, len(text)] if text else []


@pytest.mark.parametrize(
    ("text", "begin", "end", "expected"),
    [
        ("aa,bb,cc,dd", 0, 6, 6),
        ("aa,bb,cc,dd", 3, 8, 8),
        ("a" * 50, 0, 20, None),
        ("aaaa,", 0, 3, None),
        ("aa  ,,  bb", 0, 8, 2),
    ],
)
def test_a_cut_after_a_word_is_where_the_words_of_the_whole_text_end(
    text: str, begin: int, end: int, expected: int | None
) -> None:
    words: Callable[[str], list[int]] = letters_or_not
    assert after_a_word(text, begin, end, words) == expected


@pytest.mark.parametrize("run", ["ก", "天", "ж", "=", "\u0301", "9"])
def test_an_unbroken_run_is_not_split_into_words_again_and_again(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Millions of letters took 20 seconds, in windows that doubled."""
    monkeypatch.setattr(long_texts, "WINDOW", 100)
    split: list[int] = []

    def words(text: str) -> list[int]:
        split.append(len(text))
        return letters_or_not(text)

    text = "a,b,c," + run * 5000 + ",dd,ee,ff,gg"
    assert after_a_word(text, 0, 4000, words) in (4, 5)
    assert after_a_word(text, 0, len(text), words) in range(len(text) - 6, len(text) - 1)
    assert sum(split) < 1000


def test_a_cut_before_punctuation_is_the_last_one_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_texts, "WINDOW", 4)
    text = "天天、天天天天天天天天天天"
    assert before_punctuation(text, 0, len(text)) == 2
    assert before_punctuation(text, 0, 2) == 2
    assert before_punctuation(text, 0, 1) is None
    assert before_punctuation(text, 2, len(text)) is None
    assert before_punctuation("a\u0301b", 0, 3) is None


def test_a_cut_between_characters_is_where_no_token_has_both() -> None:
    pairs = Pairs(["ab", "bc", "\u2581a", "\u2581\u2581"])
    assert pairs.last_cut("abcabc", 0, 6) == 3
    assert pairs.last_cut("ab  abab", 0, 8) == 6
    assert pairs.last_cut("abab", 0, 2) is None
    assert pairs.last_cut("a  a", 0, 4) == 1
