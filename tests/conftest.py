"""Before the first test: what every test compares with must be right."""

import pytest

from fastmeta_kernels import reference
from fastmeta_kernels.contract import DeviceError


def pytest_sessionstart() -> None:
    """No test says anything where NumPy multiplies wrongly."""
    try:
        reference.ready()
    except DeviceError as error:
        pytest.exit(str(error), returncode=1)
