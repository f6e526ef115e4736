"""The CUDA source under ThreadSanitizer and AddressSanitizer: `pytest -m slow tests/kernels/test_cuda_sanitized.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastmeta_kernels.cuda.machine import sources
from tests.kernels.cuda_on_cpu import sanitized

ROOT = Path(__file__).resolve().parents[3]
CASES = {
    "thread": ("mlp_odd_tanh", "relu_first"),  # slow: hundreds of OS threads for every block
    "address": ("mlp_odd_tanh", "relu_first", "norm_bias_tanh", "pool_3_then_tanh", "kernel_1_stride_2"),
}
pytestmark = pytest.mark.slow


def run(gxx, kind, folder, cases, missing_barrier=""):
    library = {"thread": "libtsan.so", "address": "libasan.so"}[kind]
    found = subprocess.run([*gxx.command, f"-print-file-name={library}"], capture_output=True, text=True, check=True)
    path = Path(found.stdout.strip())
    if not path.is_absolute():
        pytest.skip(f"{library} is not installed")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "kernels"))),
        "LD_PRELOAD": str(path.resolve()),
        "TSAN_OPTIONS": "exitcode=66",
        "ASAN_OPTIONS": "detect_leaks=0:exitcode=66",
        "MISSING_BARRIER": missing_barrier,
    }
    command = [sys.executable, sanitized.__file__, kind, str(folder), *cases]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("kind", CASES)
def test_kernels_have_no_race_and_stay_inside_their_arrays(gxx, tmp_path, kind):
    done = run(gxx, kind, tmp_path, CASES[kind])
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


def test_a_missing_barrier_is_found(gxx, tmp_path):
    assert "right_stage.store(right_tile);\n    __syncthreads();" in sources.source()
    done = run(gxx, "thread", tmp_path, ["relu_first"], "right_stage.store(right_tile);\n    __syncthreads();")
    assert done.returncode == 66, done.stdout + done.stderr[-4000:]
    assert "data race" in done.stderr
