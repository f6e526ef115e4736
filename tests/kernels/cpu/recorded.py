"""A plugin of pytest that writes what the CPU backend gives: `-p tests.kernels.cpu.recorded --recorded FILE`.

One line a test: its name, how many requests it made, a hash of all their results. Two runs of the same tests that give
the same lines have the same bits, whatever compiled the kernels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fastmeta_kernels import cpu


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--recorded", type=Path, required=True, help="the file to write")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item):
    run, digest, requests = cpu.CALLS.run, hashlib.sha256(), 0

    def recording(request, arrays, names):
        nonlocal requests
        found = run(request, arrays, names)
        requests += 1
        for array in found:
            digest.update(np.ascontiguousarray(array).data)
        return found

    cpu.CALLS.run = recording
    try:
        yield
    finally:
        cpu.CALLS.run = run
    if requests:
        with item.config.getoption("--recorded").open("a", encoding="utf-8") as file:
            file.write(f"{item.nodeid} {requests} {digest.hexdigest()[:32]}\n")
