"""Which taps of a convolution lie inside an image, along one side: what products leave out of a border of zeros."""

from __future__ import annotations

from collections.abc import Iterator


def inside(count: int, step: int, first: int, taps: int, size: int) -> list[range]:
    """The taps of places 0 .. count - 1 that lie inside; tap t of place i reads first + step i + t of 0 .. size - 1."""
    return [range(max(0, -first - step * i), min(taps, size - first - step * i)) for i in range(count)]


def reached(count: int, step: int, first: int, taps: int, size: int) -> list[range]:
    """The places that each tap reaches inside: the other way round."""
    return [range(max(0, -((first + t) // step)), min(count, (size - 1 - first - t) // step + 1)) for t in range(taps)]


def runs(ranges: list[range]) -> Iterator[tuple[int, int, range]]:
    """(first, number, range) of neighbours whose ranges are equal."""
    first = 0
    for i in range(1, len(ranges) + 1):
        if i == len(ranges) or ranges[i] != ranges[first]:
            yield first, i - first, ranges[first]
            first = i
