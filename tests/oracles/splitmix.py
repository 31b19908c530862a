"""SplitMix64 (Steele, Lea and Flood 2014) in Python integers: one word at a time, no wrap-around tricks."""

from __future__ import annotations

__all__ = ["mix", "signed", "stream"]

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15


def mix(z: int) -> int:
    """The finaliser: 64 bits in, 64 bits out, one to one."""
    z %= WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def stream(seed: int, count: int) -> list[int]:
    """The first `count` words of the generator, as unsigned integers."""
    return [mix(seed + i * GOLDEN) for i in range(1, count + 1)]


def signed(word: int) -> int:
    """The int64 with the same bits as an unsigned word."""
    return word - WORD if word >= WORD // 2 else word
