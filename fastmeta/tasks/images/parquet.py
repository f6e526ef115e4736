"""Image files and labels in the rows of a Parquet file, as data sets of Hugging Face come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta.tasks.images.described import (
    IMAGES,
    LABELS,
    LONGEST_LABEL,
    Limits,
    check_size,
    library,
    one_of,
)
from fastmeta.tasks.images.pixels import MOST_BYTES, RefusedError, decode, stacked


def read(path: Path, limits: Limits) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images (n, size, size, 3) and labels (n,).

    One row at a time: a dictionary, or values that share their beginnings, can expand a page a thousand-fold.
    """
    with library("pyarrow.parquet", "parquet").ParquetFile(path) as file:
        columns = [one_of(path, file.schema_arrow.names, wanted) for wanted in (IMAGES, LABELS)]
        rows, shape = file.metadata.num_rows, (limits.size, limits.size, 3)
        groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
        pixels, packed = rows * prod(shape), sum(group.total_byte_size for group in groups)
        check_size(path, pixels + packed, limits.most_bytes)
        words = _label_words(file.schema_arrow.metadata, columns[1])
        labels: list[int | str] = []

        def images() -> Iterator[NDArray[Any]]:
            for batch in file.iter_batches(1, columns=columns):
                cell, label = (batch.column(name)[0].as_py() for name in columns)
                name = f"row {len(labels)} of {path}"
                labels.append(_label(label, words, name))
                image = decode(BytesIO(_content(cell, columns[0], name)), name, shape)
                if image.dtype != np.uint8:
                    check_size(path, 5 * pixels, limits.most_bytes)  # as it is, and as floats
                yield image

        x = stacked(images(), rows, shape)
        return x, np.array(labels)


def _content(cell: Any, column: str, name: str) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise RefusedError(f"{name} must hold an image file in {column}, not {type(content).__name__}. Save it so.")
    if len(content) > MOST_BYTES:
        raise RefusedError(f"{name} must hold an image file of at most {MOST_BYTES:,} bytes, not {len(content):,}.")
    return content


def _label(label: Any, words: list[str], name: str) -> int | str:
    """A name or a number; the name of that number where the file keeps names."""
    if not isinstance(label, (int, str)) or isinstance(label, bool) or len(str(label)) > LONGEST_LABEL:
        raise RefusedError(f"{name} must have a label that is a whole number or a short name. Save it so.")
    if words and not (isinstance(label, int) and 0 <= label < len(words)):
        raise RefusedError(f"{name} must have a label of 0 .. {len(words) - 1}, as the file names so many classes.")
    return words[label] if words and isinstance(label, int) else label


def _label_words(metadata: dict[bytes, bytes] | None, column: str) -> list[str]:
    """The names of a column's numbers, where the file keeps them as Hugging Face's files do."""
    described = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    feature = described.get("info", {}).get("features", {}).get(column, {})
    return [str(name) for name in feature.get("names") or []]
