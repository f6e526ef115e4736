"""How many support and query samples a task has: a number or a range, within what its classes have."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmeta import checks

Size = int | tuple[int, int]  # a number of samples, or the lowest and the highest
SMALL = ("refuse", "skip", "use")  # what is done with a class, or a group, of too few samples


def checked_size(name: str, value: Any) -> Size:
    """A whole number of at least 1, or (lowest, highest) of such numbers."""
    if not isinstance(value, tuple | list):
        return checks.integer(name, value, 1, "Or give a range as a pair, (lowest, highest).")
    if len(value) != 2:
        raise ValueError(f"{name}={value!r} must be a whole number or two, (lowest, highest).")
    low, high = (checks.integer(f"{name}[{i}]", end, 1) for i, end in enumerate(value))
    if low > high:
        raise ValueError(f"{name}={value!r} must have lowest <= highest. Give them in that order.")
    return low, high


def lowest(size: Size) -> int:
    """The smallest number of samples that `size` allows."""
    return size if isinstance(size, int) else size[0]


def drawn(rng: np.random.Generator, size: Size, most: int) -> int:
    """`size`, or one of its range, each equally likely, but at most `most`: what the classes of a task have."""
    if isinstance(size, int):
        return min(size, most)
    high = min(size[1], most)
    return int(rng.integers(min(size[0], high), high + 1))
