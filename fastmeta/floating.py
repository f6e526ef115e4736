"""Which floating errors count. All four kinds are set wherever one is expected, so that what the caller told NumPy
(np.errstate, np.seterr) changes no result: an underflow is a 0, and what diverges is found by its value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmeta_kernels.host import is_elsewhere

quiet = np.errstate(all="ignore")  # a decorator


def quietly() -> np.errstate:
    """The same as a context."""
    return np.errstate(all="ignore")


def overflows() -> np.errstate:
    """A context in which what is no number any more raises FloatingPointError, and an underflow does not."""
    return np.errstate(over="raise", divide="raise", invalid="raise", under="ignore")


def no_overflow(values: Any) -> None:
    """Raise FloatingPointError where values on a GPU are not finite, as `overflows` does for those of the host."""
    if is_elsewhere(values) and not np.isfinite(values).all():
        raise FloatingPointError
