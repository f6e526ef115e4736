"""Which floating errors count. All four kinds are set wherever one is expected, so that what the caller told NumPy
(np.errstate, np.seterr) changes no result: an underflow is a 0, and what diverges is found by its value.
"""

from __future__ import annotations

import numpy as np

quiet = np.errstate(all="ignore")  # a decorator


def overflows() -> np.errstate:
    """A context in which what is no number any more raises FloatingPointError, and an underflow does not."""
    return np.errstate(over="raise", divide="raise", invalid="raise", under="ignore")
