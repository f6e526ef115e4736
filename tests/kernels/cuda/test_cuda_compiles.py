"""Every CUDA kernel compiled by NVRTC, where no GPU is needed: no spills, and no more registers than budgeted."""

import hashlib
import subprocess

import pytest

from fastmeta_kernels.cuda.machine import kernel_table, sources
from tests.kernels.cuda_on_cpu import nvrtc

REGISTERS = 65536  # of a multiprocessor
SHARED_BYTES = 48 * 1024  # static shared memory of a block
SPILLED = {
    ("sm_80", "run_jobs<float, TF32X3>"): (8, 16)
}  # two values, at the end of its registers: stack, spilled bytes
STRUCTS = (
    "Batched",
    "Divisor",
    "Window",
    "Product",
    "BatchNorm",
    "Elementwise",
    "LayerNorm",
    "Append",
    "Loss",
    "PolicyLoss",
    "Sweep",
    "TaskMean",
    "Mlp",
    "Prototype",
    "ProductPair",
    "Job",
    "Jobs",
)


def _parts():
    """Kernels that compile together: each of the large ones by itself, all others."""
    for scalar in ("float", "double"):
        names = list(kernel_table.instances(scalar))
        large = [name for name in names if name.startswith("run_jobs")]
        yield from ((name,) for name in large)
        yield tuple(name for name in names if name not in large)


@pytest.mark.skipif(nvrtc.library() is None, reason="nvidia-cuda-nvrtc is not installed")
@pytest.mark.parametrize("names", list(_parts()), ids=lambda names: names[0])
@pytest.mark.parametrize("architecture", [pytest.param("sm_80", marks=pytest.mark.slow), "sm_90"])
def test_kernels_stay_within_their_budgets(architecture, names, pytestconfig):
    """What was compiled is kept in pytest's cache until the source changes."""
    key = hashlib.sha256(repr((architecture, names, sources.source())).encode()).hexdigest()[:16]
    found = pytestconfig.cache.get(f"cuda_usage/{key}", None)
    if found is None:
        found = nvrtc.compile_for(architecture, sources.source(), names)
        pytestconfig.cache.set(f"cuda_usage/{key}", found)
    assert set(found) == set(names)
    wrong = {}
    for name in names:
        used = nvrtc.Usage(*found[name])
        double = "<double" in name
        kernel = kernel_table.instances("double" if double else "float")[name]
        budget = min(kernel.registers[double], REGISTERS // kernel.threads)
        stack, spilled = SPILLED.get((architecture, name), (0, 0))
        memory = used.stack_bytes > stack or used.spilled_bytes > spilled or used.shared_bytes > SHARED_BYTES
        if memory or used.registers > budget:
            wrong[name] = used, budget
    assert not wrong


def test_python_and_cpp_agree_on_the_layout_of_every_struct(gxx, tmp_path):
    checks = []
    for name in STRUCTS:
        layout = sources.struct_dtype(name)
        scalar = f"{name}<double>" if name not in ("Divisor", "Window", "Job", "Jobs") else name
        checks.append(f"static_assert(sizeof({scalar}) == {layout.itemsize});")
        for member, (_, offset, *_rest) in layout.fields.items():
            checks.append(f"static_assert(__builtin_offsetof({scalar}, {member}) == {offset});")
    text = gxx.header + sources.source() + "\n".join(checks)
    (tmp_path / "layout.cpp").write_text(text, "utf-8")
    command = [*gxx.command, "-fsyntax-only", "-w", "-std=c++17", str(tmp_path / "layout.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
