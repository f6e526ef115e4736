"""The random streams of several steps at once: the bits of `episode.stream` of each, in a third of the time.

What numpy.random.SeedSequence does to its entropy, which NumPy never changes, on vectors with a step in each element.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.tasks.episode import EPISODES, stream

Words = NDArray[np.uint32]
POOL = 4  # words
BEGIN, FACTOR, OUT, OUT_FACTOR = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
LEFT, RIGHT, HALF = np.uint32(0xCA01F9DD), np.uint32(0x4973F715), np.uint32(16)


def streams(seed: int, step: int, count: int) -> Iterator[np.random.Generator]:
    """The streams of `count` steps from `step` on."""
    seed, step = checks.integer("seed", seed, 0), checks.integer("step", step, 0)
    if seed >= 1 << 32 or step + count > 1 << 32:  # more than a word
        return (stream(seed, step + i) for i in range(count))
    seeds = _seeds(np.array([seed], np.uint32), np.arange(step, step + count, dtype=np.uint32))
    return (np.random.Generator(np.random.PCG64(_Seed(words))) for words in seeds)  # type: ignore[arg-type]


class _Seed(ISeedSequence):
    """A seed sequence whose words are known."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self.words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray[np.uint64]:
        return self.words


def _factors(start: int, factor: int, count: int) -> Words:
    """start times powers of a factor, modulo 2^32 (count, 1)."""
    return np.array([[start * pow(factor, i, 1 << 32) % (1 << 32)] for i in range(count)], np.uint32)


_IN, _OUT = _factors(BEGIN, FACTOR, POOL * POOL + 1), _factors(OUT, OUT_FACTOR, 2 * POOL + 1)


def _hashed(values: Words, factors: Words) -> Words:
    """Rows of values, each hashed by two factors that follow each other."""
    values = (values ^ factors[:-1]) * factors[1:]
    return values ^ (values >> HALF)


def _seeds(seed: Words, steps: Words) -> NDArray[np.uint64]:
    """Four words (steps, 4) of the seed sequences of (seed, step, EPISODES)."""
    entropy = np.zeros((POOL, len(steps)), np.uint32)
    entropy[0], entropy[1], entropy[2] = seed, steps, EPISODES
    pool, used = _hashed(entropy, _IN[: POOL + 1]), POOL
    for source in range(POOL):
        others = [i for i in range(POOL) if i != source]
        hashed = _hashed(pool[source], _IN[used : used + POOL])
        mixed = pool[others] * LEFT - hashed * RIGHT
        pool[others], used = mixed ^ (mixed >> HALF), used + POOL - 1
    words = _hashed(np.concatenate([pool, pool]), _OUT)
    return np.ascontiguousarray(words.T).view(np.uint64)
