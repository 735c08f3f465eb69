"""A random order of n things that is computed and not stored. Any place in it costs O(1)."""

from __future__ import annotations

import hashlib

MASK = (1 << 64) - 1
ROUNDS = 6
"""Rounds of the Feistel network. Another number is another order of the samples: old runs depend on it."""


def key(*parts: object) -> tuple[int, ...]:
    """Return round keys from anything with a stable text: a fingerprint, a seed, an epoch."""
    text = "\0".join(str(part) for part in parts).encode()
    digest = hashlib.blake2b(text, digest_size=8 * ROUNDS).digest()
    return tuple(int.from_bytes(digest[8 * r : 8 * r + 8], "little") for r in range(ROUNDS))


def mix(value: int) -> int:
    """Apply the finalizer of SplitMix64 (Steele et al., 2014): every input bit reaches every output bit."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def permute(index: int, size: int, keys: tuple[int, ...]) -> int:
    """Return the place of ``index`` of ``range(size)`` in the order that belongs to ``keys``.

    This is a balanced Feistel network over the next even power of two. It is applied again until the result
    is inside the range (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). That takes fewer
    than four times on average.
    """
    if not 0 <= index < size:
        raise IndexError(f"{index} is not in range({size})")

    # Both halves of the network need the same number of bits.
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1

    while True:
        upper = index >> half
        lower = index & low
        for round_key in keys:
            upper, lower = lower, upper ^ (mix((lower + round_key) & MASK) & low)

        index = (upper << half) | lower
        if index < size:
            return index
