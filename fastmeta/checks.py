"""Input checks of the public door. Every message reads `<argument>=<value> must <constraint>. <What to do.>`"""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.contract import Array

SMALL = 4096  # values whose squares are added up faster than looked at one by one


class DivergenceError(ArithmeticError):
    """A loss, gradient or parameter became infinite or NaN; the message names the inner step and the likely cause."""


def integer(name: str, value: Any, at_least: int, advice: str = "", at_most: int | None = None) -> int:
    """`value` as an int of at least `at_least` and at most `at_most`; ValueError or TypeError otherwise."""
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, numbers.Integral)):
        raise TypeError(_message(name, value, "be a whole number", advice))
    if value < at_least:
        raise ValueError(_message(name, value, f"be at least {at_least}", advice))
    if at_most is not None and int(value) > at_most:
        raise ValueError(_message(name, value, f"be at most {at_most}", advice))
    return int(value)


def positive(name: str, value: Any, advice: str = "") -> float:
    """`value` as a finite float above zero."""
    number = real(name, value, advice)
    if number <= 0:
        raise ValueError(_message(name, value, "be positive", advice))
    return number


def not_negative(name: str, value: Any, advice: str = "") -> float:
    """`value` as a finite float of at least zero."""
    number = real(name, value, advice)
    if number < 0:
        raise ValueError(_message(name, value, "be at least 0", advice))
    return number


def fraction(name: str, value: Any, advice: str = "") -> float:
    """`value` as a float in [0, 1)."""
    number = real(name, value, advice)
    if not 0 <= number < 1:
        raise ValueError(_message(name, value, "be at least 0 and below 1", advice))
    return number


def real(name: str, value: Any, advice: str = "") -> float:
    """`value` as a finite float."""
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        raise TypeError(_message(name, value, "be a number", advice))
    if not math.isfinite(value):
        raise ValueError(_message(name, value, "be finite", advice))
    return float(value)


def switch(name: str, value: Any) -> bool:
    """`value` as True or False; 1 and 0 mean the same."""
    if type(value) is not bool and (not isinstance(value, np.bool_ | numbers.Integral) or value not in (0, 1)):
        raise TypeError(_message(name, value, "be True or False", ""))
    return bool(value)


def choice(name: str, value: Any, options: Iterable[str], advice: str = "") -> str:
    """`value` where it is one of `options`; the error suggests the nearest one, or gives the advice."""
    names = list(options)
    if value in names:
        return str(value)
    import difflib

    near = difflib.get_close_matches(str(value), names, n=1)
    advice = f'Did you mean "{near[0]}"?' if near else advice
    listed = ", ".join(f'"{option}"' for option in names)
    raise ValueError(_message(name, value, f"be one of {listed}", advice))


def settle(frozen: Any, **values: Any) -> None:
    """Give a frozen description its checked values: plain Python numbers, whatever kind they came as."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


def array(name: str, value: Any) -> NDArray[Any]:
    """`value` as NumPy sees it: lists, or arrays of other libraries on the CPU, read where they lie.

    Those speak `__array__` or DLPack, as PyTorch's and JAX's do. ValueError where rows differ in length or a value is
    masked, TypeError for objects, and for tensors that need a gradient or that lie elsewhere.
    """
    if type(value) is np.ndarray and value.dtype != object:
        return value
    found = read(name, value)
    if found.dtype == object:
        if _is_of_arrays(value):
            return array(name, [array(name, part) for part in value])
        odd = [part for part in found.flat if not isinstance(part, numbers.Number)]
        kind = type(odd[0] if odd else found.flat[0]).__name__ if found.size else "nothing"
        raise TypeError(
            f"{name} must hold numbers, not objects such as {kind}. Stack rows of one shape by np.stack; where "
            "values are missing, fill them or leave their samples out."
        )
    return found


def read(name: str, value: Any) -> NDArray[Any]:
    """As `array`, and where values are objects the objects."""
    unmasked(name, value)
    try:
        return np.from_dlpack(value) if protocols(value) == ["__dlpack__"] else np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        if protocols(value):
            raise TypeError(
                f"{name} must be an array that NumPy can read; {type(value).__name__} says: {error} "
                f"Detach a tensor that needs a gradient, bring one on a GPU to the CPU, take float32 for bfloat16: "
                f"{name}.detach().cpu().float()."
            ) from error
        if _is_of_arrays(value) and isinstance(error, TypeError):
            return np.asarray([array(name, part) for part in value])
        if not isinstance(error, ValueError):
            raise
        raise ValueError(f"{name} must be an array; {_uneven(name, value)}") from error


def _is_of_arrays(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(protocols, value))


def protocols(value: Any) -> list[str]:
    """By which of two protocols an array of any library can be read; none where it is no array."""
    return [protocol for protocol in ("__array__", "__dlpack__") if hasattr(value, protocol)]


def unmasked(name: str, value: Any) -> None:
    """Raise where a masked array, or a list with one in it, hides values: they are missing, not numbers."""
    ma = sys.modules.get("numpy.ma")  # before it is loaded there is no masked array
    if ma is None or type(value) is np.ndarray:
        return
    if isinstance(value, list | tuple):
        for part in value:
            unmasked(name, part)
    elif isinstance(value, ma.MaskedArray) and (hidden := int(ma.getmaskarray(value).sum())):
        raise ValueError(
            f"{name} must not have masked values; {hidden} of {value.size} are. Give numbers in their place "
            f"({name}.filled(0)), or leave their samples out."
        )


def all_finite(array: Any) -> bool:
    """Whether no value is a NaN or an infinity."""
    return (type(array) is np.ndarray and few_finite(array)) or bool(np.isfinite(array).all())


def few_finite(array: NDArray[Any]) -> bool:
    """Whether these are few floats whose squares have a finite sum: then all of them are finite, and nothing warns."""
    return array.size <= SMALL and array.dtype.kind == "f" and math.isfinite(np.vdot(array, array))


def finite(name: str, array: NDArray[Any]) -> None:
    """Raise where a floating array holds a NaN or an infinity, naming the first place."""
    if array.dtype.kind != "f" or all_finite(array):
        return
    bad = ~np.isfinite(array)
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    raise ValueError(
        f"{name} must be finite; {int(bad.sum())} of {array.size} values are not, the first at {place}. "
        "Remove or replace them before training."
    )


def _uneven(name: str, value: Any) -> str:
    """Which two rows of nested lists differ in length, at the first depth where any do."""
    rows = [(name, value)]
    while True:
        rows = [(f"{above}[{i}]", row) for above, part in rows for i, row in enumerate(part)]
        sizes = [len(row) if isinstance(row, list | tuple) or np.ndim(row) else None for _, row in rows]
        odd = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
        if odd is not None:
            one, other = (f"{rows[i][0]} has {1 if sizes[i] is None else sizes[i]}" for i in (0, odd))
            return f"its rows differ in length. Give each as many values; {one}, {other}."
        if not sizes or sizes[0] is None:
            return "its values are of different kinds. Give numbers."


def _message(name: str, value: Any, constraint: str, advice: str) -> str:
    shown = f'"{value}"' if isinstance(value, str) else f"{value!r}"
    return f"{name}={shown} must {constraint}.{' ' + advice if advice else ''}"


def scaling(advice: str, values: Array) -> str:
    """What to do about values that left the range of their dtype: scale, or take the wider one."""
    return f"{advice} to about 1." if values.dtype == np.float64 else f"{advice} to about 1, or use a float64 theta."
