"""Texts that tokenizers disagree on: all of Unicode's planes, marks, spaces, special tokens' strings, long words."""

from __future__ import annotations

import random
import unicodedata

PARTS = [
    " ", "  ", "\n", "\t", "a", "B", "the", " of", "1", "22", "!", "'s", "'", "é", "e\u0301", "\u0301", "中", "🙂",
    "\u200d",     "<s>", "\u2581", "\u00a0", "<|endoftext|>", "<think>",
]  # fmt: skip
SPECIAL = [
    "<|endoftext|>", "<s>", "</s>", "<unk>", "a<s>b </s> c", "<|im_start|>user\nhi<|im_end|>", "<think>x</think>",
    "<|begin_of_text|>a<|eot_id|>", "<tool_call>{}</tool_call>", "<0x0A>", "<0xFF> x", "<|fim_prefix|>",
]  # fmt: skip
SPACES = [
    "",
    " ",
    "  ",
    " a",
    "  a",
    "\n",
    "\n\n \n",
    "\t\ta",
    "a ",
    "a  ",
    "a  b",
    "\r\n\r\n \r\n\r",
    "x\u00a0y\u3000z",
]
MARKS = ["\u0338", "\u0301", "\u0338\u0301", " \u0338"]
LONG = [
    "a" * 65_536, "ab" * 50_000, "1" * 10_000, " " * 10_000, "\n" * 10_000, "!" * 5_000, "é" * 3_000,
    "e\u0301" * 3_000,     "👩\u200d👩\u200d👧" * 500, "a\u0300\u0301\u0302" * 50, "x" * 1_000_000,
]  # fmt: skip
OTHER = [
    "שלום \u202eabc\u202c السلام", "日本語のテキスト。中文测试", "\x00\x01\x02\x7f\x80\x9f",
    "don't DON'T I'LL we'Ve 'S ' s",     "1234567 12 3456789", "\ufeffabc", "\ufffd\ufffd",
    " \u2581a", "\u2581", "a\u2581b", "\u2581 \u2581", "🏳\ufe0f\u200d🌈🇩🇪🇪",
]  # fmt: skip


def texts() -> list[str]:
    chance = random.Random(5)

    def valid(first: int, last: int) -> list[int]:
        return [point for point in range(first, last) if not 0xD800 <= point < 0xE000]

    runs = ["".join(map(chr, valid(first, first + 64))) for first in range(0, 0x20000, 64)]
    planes = [
        "".join(map(chr, chance.sample(valid(plane << 16, (plane + 1) << 16), 200)))
        for plane in range(17)
        for _ in range(4)
    ]
    forms = [
        unicodedata.normalize(form, "ẛ̣ 각 क़ ﬁ Å Ω café \u0344") for form in ("NFC", "NFD", "NFKC", "NFKD")
    ]
    mixed = ["".join(chance.choices(PARTS, k=chance.randint(1, 40))) for _ in range(1500)]
    # A mark behind or in front of a control token, which NFC would join to the token's last letter.
    controls = ["<think>", "</think>", "<tool_call>", "</tool_response>", "<|fim_prefix|>", "<|file_sep|>"]
    marked = [
        f"{before}{token}{mark} x" for token in controls for mark in MARKS for before in ("", "e\u0301 ")
    ]
    return SPACES + marked + SPECIAL + OTHER + runs + planes + forms + mixed + LONG
