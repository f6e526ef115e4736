"""NVRTC through ctypes: compiles CUDA C++ for a GPU that need not be there, and reports what each kernel uses."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

_REPORT = re.compile(
    r"Compiling entry function '(\w+)' for '\w+'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)


class Usage(NamedTuple):
    """What a thread of a kernel uses; shared memory is a block's, without the dynamic part."""

    registers: int
    stack_bytes: int
    spilled_bytes: int
    shared_bytes: int


def library() -> ctypes.CDLL | None:
    """libnvrtc of the package nvidia-cuda-nvrtc; None where it is not installed."""
    spec = importlib.util.find_spec("nvidia")
    places = [] if spec is None else [Path(p) for p in spec.submodule_search_locations or ()]
    found = [lib for place in places for lib in sorted(place.glob("*/lib/libnvrtc.so.*")) if "alt" not in lib.name]
    return ctypes.CDLL(str(found[0])) if found else None


def compile_for(architecture: str, code: str, names: tuple[str, ...]) -> dict[str, Usage]:
    """Usage of each name expression of `code`, compiled for "sm_90" or the like; AssertionError with the log."""
    nvrtc = library()
    assert nvrtc is not None
    program = ctypes.c_void_p()
    assert not nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None)
    for name in names:
        assert not nvrtc.nvrtcAddNameExpression(program, name.encode())
    options = [f"--gpu-architecture={architecture}", "--std=c++17", "--ptxas-options=-v"]
    given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = nvrtc.nvrtcCompileProgram(program, len(options), given)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    text = log.value.decode()
    assert not failed, text
    lowered = {}
    for name in names:
        symbol = ctypes.c_char_p()
        assert not nvrtc.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(symbol))
        lowered[(symbol.value or b"").decode()] = name
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return {lowered[symbol]: _usage(*numbers) for symbol, *numbers in _REPORT.findall(text)}


def _usage(stack: str, stores: str, loads: str, registers: str, rest: str) -> Usage:
    shared = re.search(r"(\d+) bytes smem", rest)
    return Usage(int(registers), int(stack), int(stores) + int(loads), int(shared[1]) if shared else 0)
