"""Text as numbers without a vocabulary: words and letters are counted where a hash puts them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks


def hashed_text(texts: Sequence[str], features: int = 2048) -> NDArray[np.float32]:
    """Rows (n, features) of length 1: the words, pairs of words and 3 and 4 letters in a row of each text, hashed.

    Each such gram g adds s(g) at place h(g), where h and the sign s are parts of one hash, so that grams that meet at
    a place cancel on average (Weinberger et al. 2009, arXiv 0902.2206). Case does not count. The same text gives the
    same row on every machine. A text without a letter or digit is a row of zeros.

    Raises ValueError or TypeError where features < 1 or a text is no string.

    >>> rows = hashed_text(["where is my card", "my card is where?", "play a song"])
    >>> [f"{cosine:.1f}" for cosine in rows[1:] @ rows[0]]
    ['0.9', '-0.0']
    """
    width = checks.integer("features", features, 1)
    rows = np.zeros((len(texts), width), np.float32)
    for row, text in zip(rows, texts, strict=True):
        if not isinstance(text, str):
            raise TypeError(f"texts hold {text!r} but must be strings. Convert it with str(...).")
        hashes = np.fromiter((crc32(gram.encode()) for gram in grams(text)), np.int64)
        np.add.at(row, (hashes >> 1) % width, 1 - 2 * (hashes & 1).astype(np.float32))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    np.divide(rows, lengths, out=rows, where=lengths > 0)
    return rows


def grams(text: str) -> Iterator[str]:
    """Words, pairs of words, and runs of 3 and 4 letters within a word and its two borders."""
    words = "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()
    yield from words
    yield from (f"{first} {second}" for first, second in pairwise(words))
    for word in words:
        bordered = f"<{word}>"
        for length in (3, 4):
            yield from (f"#{bordered[i : i + length]}" for i in range(len(bordered) - length + 1))
