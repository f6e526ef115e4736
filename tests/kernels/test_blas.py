"""A BLAS that multiplies wrongly is noticed wherever NumPy is what others are compared with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastmeta as fm
from fastmeta import device
from fastmeta.cli import main
from fastmeta_kernels import reference
from fastmeta_kernels.contract import DeviceError

ROOT = Path(__file__).resolve().parents[2]
MATMUL = np.matmul
MESSAGE = r"must be the sum of its terms.* Set OPENBLAS_CORETYPE=\w+ before Python starts"


def dropped_terms(a, b):
    """The last term of every sum is lost in float64, as on an emulated ARM processor."""
    return MATMUL(a[:, :-1], b[:-1]) if a.dtype == np.float64 and a.shape[1] > 8 else MATMUL(a, b)


def dropped_terms_of_float32(a, b):
    return MATMUL(a[:, :-1], b[:-1]) if a.dtype == np.float32 and a.shape[1] > 32 else MATMUL(a, b)


def stale_rows(a, b):
    """Rows behind whole tiles of 16 are not written."""
    c = MATMUL(a, b)
    if len(a) > 64:
        c[len(a) // 16 * 16 :] = np.nan
    return c


def wrong_column(a, b):
    """One number of a last tile is off by its last bit or so."""
    c = MATMUL(a, b)
    if b.shape[1] > 32:
        c[-1, -1] *= 1 + np.finfo(c.dtype).eps
    return c


def taken_for_transposed(a, b):
    """A factor of the other order in memory is misread."""
    square = a.shape[0] == a.shape[1] and not a.flags.c_contiguous
    return MATMUL(a.T, b) if square else MATMUL(a, b)


def misread_weight(a, b):
    return MATMUL(a, b[::-1]) if not b.flags.c_contiguous else MATMUL(a, b)


BROKEN = (dropped_terms, dropped_terms_of_float32, stale_rows, wrong_column, taken_for_transposed, misread_weight)


@pytest.fixture
def first_use():
    """No device has been used yet, and none stays."""
    device.backend.cache_clear()
    yield
    device.backend.cache_clear()


def test_this_machine_multiplies_rightly():
    reference.ready()


@pytest.mark.parametrize("matmul", BROKEN)
def test_wrong_products_are_noticed(matmul, monkeypatch):
    monkeypatch.setattr(np, "matmul", matmul)
    with pytest.raises(DeviceError, match=MESSAGE):
        reference.ready()


@pytest.mark.usefixtures("first_use")
def test_device_numpy_says_so_at_its_first_use(monkeypatch):
    net, x = fm.MLP((1, 4, 1)), np.ones((1, 3, 1), np.float32)
    monkeypatch.setattr(np, "matmul", dropped_terms)
    with pytest.raises(DeviceError, match=MESSAGE):
        fm.loss(net, net.init(), x, x, device="numpy")
    monkeypatch.undo()
    assert fm.loss(net, net.init(), x, x, device="numpy").shape == (1,)


@pytest.mark.usefixtures("first_use")
def test_fastmeta_check_says_so(monkeypatch):
    monkeypatch.setattr(np, "matmul", dropped_terms)
    result = CliRunner().invoke(main, ["check"])
    assert result.exit_code != 0
    assert "OPENBLAS_CORETYPE" in result.output
    assert "agree" not in result.output


def test_no_test_runs_on_wrong_products():
    program = (
        "import sys, numpy as np; matmul = np.matmul; np.matmul = lambda a, b: matmul(a, b) * (1 + (len(a) > 8));"
        "import pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', 'tests/scores']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "OPENBLAS_CORETYPE" in done.stdout + done.stderr
    assert "passed" not in done.stdout
