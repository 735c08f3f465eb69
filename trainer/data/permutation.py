"""A random order of n things that is computed, not stored: any place in it is known in O(1)."""

from __future__ import annotations

import hashlib

MASK = (1 << 64) - 1
ROUNDS = 6


def key(*parts: object) -> tuple[int, ...]:
    """Round keys from anything with a stable text: a fingerprint, a seed, an epoch."""
    text = "\0".join(str(part) for part in parts).encode()
    digest = hashlib.blake2b(text, digest_size=8 * ROUNDS).digest()
    return tuple(int.from_bytes(digest[8 * r : 8 * r + 8], "little") for r in range(ROUNDS))


def mix(value: int) -> int:
    """The finalizer of SplitMix64 (Steele et al., 2014): every input bit reaches every output bit."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def permute(index: int, size: int, keys: tuple[int, ...]) -> int:
    """Where ``index`` of ``range(size)`` stands in the order that ``keys`` name.

    A balanced Feistel network over the next even power of two, walked along its cycle until it is back inside the
    range (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). Expected steps: below four.
    """
    if not 0 <= index < size:
        raise IndexError(f"{index} is not in range({size})")

    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1

    while True:
        left = index >> half
        right = index & low
        for round_key in keys:
            left, right = right, left ^ (mix((right + round_key) & MASK) & low)

        index = (left << half) | right
        if index < size:
            return index
