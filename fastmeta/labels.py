"""Labels of any hashable kind: whole numbers for the arrays, and the names that they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks

NUMBERS = (int, float, complex, np.number, np.bool_, np.ndarray)
Names = tuple[Any, ...]  # hashable


def numbered(name: str, values: Any) -> tuple[NDArray[Any], Names]:
    """Whole numbers as they are, without names; of other labels the places (n,) among the distinct ones, and these.

    Those are in ascending order where they have one, such as strings, and otherwise as they first come. Floats are
    given back as they are: they are no labels. Raises TypeError where a label cannot be hashed, ValueError where one
    is missing (None, NaN) or `values` are not (n,).
    """
    if not isinstance(values, list | tuple):
        values = checks.read(name, values)
        if values.dtype.kind in "iufc":
            return values, ()
        if values.ndim != 1:
            raise ValueError(f"{name} of shape {values.shape} must be (n,), one label a sample.")
        if values.dtype.kind in "USb":
            distinct, places = np.unique(values, return_inverse=True)
            return places, tuple(distinct.tolist())
        values = list(values)
    checks.unmasked(name, values)
    if _are_numbers(values) or any(map(_is_array, values)):
        return numbered(name, checks.array(name, values))
    return _places(name, values)


def _are_numbers(values: Sequence[Any]) -> bool:
    """Whether these are numbers, rows of numbers in lists, or rows of floats in tuples."""
    kinds = {type(value) for value in values}
    if kinds <= {list, tuple}:
        parts = {type(part) for value in values for part in value}
        kinds = parts if tuple not in kinds or any(issubclass(kind, float | np.floating) for kind in parts) else kinds
    return all(issubclass(kind, NUMBERS) for kind in kinds)


def _is_array(value: Any) -> bool:
    """Whether a label is an array of some library, such as a tensor: what counts is its number."""
    return not isinstance(value, np.generic) and bool(checks.protocols(value))


def _places(name: str, values: Iterable[Any]) -> tuple[NDArray[np.int64], Names]:
    first: dict[Any, int] = {}
    found = []
    for i, value in enumerate(values):
        try:
            found.append(first.setdefault(value, len(first)))
        except TypeError as error:
            raise TypeError(
                f"{name}[{i}]={value!r} of type {type(value).__name__} must be hashable, as labels are. "
                "Give strings, whole numbers or tuples of them."
            ) from error
        if found[-1] == len(first) - 1 and _is_missing(value):
            raise ValueError(
                f"{name}[{i}]={value!r} must be a label, not a missing value. Fill it, or leave its sample out."
            )
    try:
        distinct = sorted(first)
    except TypeError:
        distinct = list(first)
    rank = np.empty(len(distinct), np.int64)
    rank[[first[value] for value in distinct]] = np.arange(len(distinct))
    return rank[np.array(found, np.intp)], tuple(map(_plain, distinct))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) and value.dtype.kind not in "Mm" else value


def _is_missing(value: Any) -> bool:
    """Whether this is None, or nothing equals it, as NaN, NaT and pandas' NA."""
    try:
        return bool(value is None or value != value)
    except TypeError:
        return True


def named(names: Names, places: NDArray[Any]) -> Any:
    """The names of these places: an array of strings, or of objects where some are others; of one place its name."""
    if not places.ndim:
        return names[int(places)]
    found = np.empty(len(names), object)
    found[:] = names
    return found.astype(str if all(type(name) is str for name in names) else object)[places]
