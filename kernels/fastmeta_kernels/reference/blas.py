"""Whether NumPy multiplies matrices rightly on this machine: the reference is the definition only where it does."""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.contract import DeviceError

SHAPES = (
    (2, 2, 2),
    (3, 5, 7),
    (8, 8, 8),
    (5, 70, 3),
    (17, 12, 33),
    (33, 17, 1),
    (1, 64, 70),
    (40, 33, 24),
    (70, 16, 64),
)
CORES = {"aarch64": "ARMV8", "arm64": "ARMV8", "x86_64": "Haswell", "AMD64": "Haswell"}


def ready() -> None:
    """Raise DeviceError unless products of small matrices are the sums that `einsum` takes, which calls no BLAS.

    Entries are 1 .. 13: float32 holds every sum exactly, in any order, and a term that is lost or taken twice shows.
    """
    for m, k, n in SHAPES:
        a, b = (1.0 + np.arange(rows * columns).reshape(rows, columns) * 7 % 13 for rows, columns in ((m, k), (k, n)))
        sums = np.einsum("mk,kn->mn", a, b)
        for dtype in (np.float64, np.float32):
            x, w = a.astype(dtype), b.astype(dtype)
            for left, right in ((x, w), (np.asfortranarray(x), w), (x, np.asfortranarray(w))):
                with np.errstate(all="ignore"):  # some set flags beside right results
                    found = np.matmul(left, right)
                if (found != sums).any():
                    raise DeviceError(_message(dtype.__name__, m, k, n))


def _message(dtype: str, m: int, k: int, n: int) -> str:
    import platform

    core = CORES.get(platform.machine(), "GENERIC")
    return (
        f"NumPy's {dtype} product of ({m}, {k}) and ({k}, {n}) must be the sum of its terms; its BLAS is wrong "
        f"on this processor. Set OPENBLAS_CORETYPE={core} before Python starts, or install another NumPy."
    )
