"""Every CUDA kernel compiled by NVRTC, where no GPU is needed: no spills, and no more registers than budgeted."""

import subprocess

import pytest

from fastmeta_kernels.cuda import kernel_table, sources
from tests.kernels.cuda_on_cpu import nvrtc

REGISTERS = 65536  # of a multiprocessor
SHARED_BYTES = 48 * 1024  # static shared memory of a block
STRUCTS = (
    "Batched",
    "Divisor",
    "Window",
    "Product",
    "BatchNorm",
    "Elementwise",
    "Loss",
    "Sweep",
    "TaskMean",
    "Mlp",
    "Prototype",
    "ProductPair",
    "Job",
    "Jobs",
)


@pytest.mark.skipif(nvrtc.library() is None, reason="nvidia-cuda-nvrtc is not installed")
@pytest.mark.parametrize("scalar", ["float", "double"])
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_kernels_stay_within_their_budgets(architecture, scalar):
    kernels = kernel_table.instances(scalar)
    usage = nvrtc.compile_for(architecture, sources.source(), tuple(kernels))
    assert set(usage) == set(kernels)
    wrong = {}
    for name, kernel in kernels.items():
        used = usage[name]
        budget = min(kernel.registers[scalar == "double"], REGISTERS // kernel.threads)
        if used.spilled_bytes or used.stack_bytes or used.registers > budget or used.shared_bytes > SHARED_BYTES:
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
