"""What the CUDA backend uses of CuPy, on the CPU: NumPy memory, and kernels compiled by g++ (cuda_on_cpu.h)."""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import subprocess
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
FLAGS = ("-std=c++17", "-fPIC", "-shared", "-pthread", "-w", "-U_FORTIFY_SOURCE", "-ffp-contract=off")


class Pointer:
    """An address on the "device"."""

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr


class ndarray(np.ndarray):
    """A NumPy array that has what a CuPy array has, and meets no plain array in arithmetic."""

    device: Any = types.SimpleNamespace(id=0)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.__array_interface__

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if any(type(value) is np.ndarray and value.ndim for value in inputs):
            raise TypeError(f"{ufunc.__name__} of arrays on the host and on the device")
        if method == "__call__" and "where" in options:
            raise TypeError(f"{ufunc.__name__} takes no where")  # in any CuPy so far
        plain = [np.asarray(value) if isinstance(value, ndarray) else value for value in inputs]
        if out is not None:
            options["out"] = tuple(np.asarray(value) for value in out)
        with np.errstate(all="ignore"):  # a device raises nothing
            return _on_device(getattr(ufunc, method)(*plain, **options))

    def __array_function__(self, function: Any, kinds: Any, arguments: Any, options: Any) -> Any:
        if np.ndarray in kinds and function is not np.copyto:  # by which NumPy's zeros_like fills
            raise TypeError(f"{function.__name__} of arrays on the host and on the device")
        return _on_device(super().__array_function__(function, kinds, arguments, options))

    @property
    def data(self) -> Pointer:
        return Pointer(self.ctypes.data)

    def set(self, values: np.ndarray) -> None:
        assert values.dtype == self.dtype
        assert values.shape == self.shape
        self[...] = values

    def get(self) -> np.ndarray:
        return np.array(self, subok=False)


class RawModule:
    """CUDA C++ through g++; `functions` are those of the shared library."""

    def __init__(self, code: str, name_expressions: tuple[str, ...], waits: bool, cpu: CuPy) -> None:
        self.names, self.waits, self.cpu = list(name_expressions), waits, cpu
        wrappers = "".join(
            f'extern "C" void kernel_{i}(const on_cpu::Launch* how, void** a) {{ on_cpu::launch(&{name}, *how, a); }}\n'
            for i, name in enumerate(self.names)
        )
        text = HEADER.read_text("utf-8") + code + '\n#line 1 "wrappers"\n' + wrappers
        self.library = ctypes.CDLL(str(compiled(text, cpu.folder, cpu.flags)))

    def get_function(self, name: str) -> Any:
        function = self.library[f"kernel_{self.names.index(name)}"]
        function.restype = None

        def call(grid: tuple[int, ...], block: tuple[int], arguments: tuple[Any, ...], shared_mem: int = 0) -> None:
            columns, rows = (*grid, 1)[:2]
            assert not self.waits or columns * rows <= self.cpu.resident, "a cooperative launch is too large"
            how = Launch(columns, rows, block[0], shared_mem, self.waits)
            held = [np.array(argument) for argument in arguments]
            pointers = (ctypes.c_void_p * len(held))(*(array.ctypes.data for array in held))

            def launch() -> None:
                assert held  # what the pointers point to
                self.library.set_order(self.cpu.order)
                self.cpu.launches += 1
                function(ctypes.byref(how), pointers)

            if self.cpu.captured is None:
                launch()
            else:
                self.cpu.captured.append(launch)

        call.max_dynamic_shared_size_bytes = 0  # type: ignore[attr-defined]
        call.kernel = Pointer(0)  # type: ignore[attr-defined]
        return call


def _on_device(result: Any) -> Any:
    return result.view(ndarray) if isinstance(result, np.ndarray) else result


class Launch(ctypes.Structure):
    """on_cpu::Launch."""

    _fields_ = (
        ("columns", ctypes.c_uint),
        ("rows", ctypes.c_uint),
        ("threads", ctypes.c_uint),
        ("shared", ctypes.c_size_t),
        ("waits", ctypes.c_int),
    )


class Graph:
    """Launches that can be repeated."""

    def __init__(self, launches: list[Callable[[], None]]) -> None:
        self._launches = launches

    def launch(self) -> None:
        for launch in self._launches:
            launch()


class CuPy(types.ModuleType):
    """A module that stands for `cupy`.

    `order` is that of threads and blocks, `memory` the bytes of the device, `resident` the blocks that it runs at once.
    """

    def __init__(self, folder: Path, flags: tuple[str, ...] = ("-O1",)) -> None:
        super().__init__("cupy")
        self.folder, self.flags, self.order, self.launches, self.memory = folder, flags, 0, 0, 1 << 40
        self.resident = 1
        self.devices, self.device = 1, 0  # how many there are; the current one
        self.captured: list[Callable[[], None]] | None = None
        self.ndarray = ndarray
        outer = self

        class Stream:
            ptr = 0

            def __init__(self, non_blocking: bool = False) -> None:
                pass

            def __enter__(self) -> None:
                pass

            def __exit__(self, *_: object) -> None:
                pass

            def begin_capture(self) -> None:
                outer.captured = []

            def end_capture(self) -> Graph:
                launches, outer.captured = outer.captured, None
                assert launches is not None
                return Graph(launches)

        class CUDARuntimeError(RuntimeError):
            pass

        class OutOfMemoryError(MemoryError):
            pass

        class Device:
            compute_capability = "90"

            def __init__(self, number: int | None = None) -> None:
                self.id = outer.device if number is None else number
                self.pci_bus_id = f"0000:{self.id:02x}:00.0"

            def use(self) -> None:
                outer.device = self.id
                ndarray.device = self

            @property
            def attributes(self) -> dict[str, int]:
                return {"CooperativeLaunch": outer.resident > 0, "MultiProcessorCount": outer.resident}

        runtime = types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=lambda: outer.devices,
            getDevice=lambda: outer.device,
            driverGetVersion=lambda: 13000,
            memGetInfo=lambda: (outer.memory, outer.memory),
        )
        memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
        driver = types.SimpleNamespace(occupancyMaxActiveBlocksPerMultiprocessor=lambda ptr, threads, shared: 1)
        self.cuda = types.SimpleNamespace(
            driver=driver, runtime=runtime, memory=memory, Device=Device, Stream=Stream, alloc_pinned_memory=bytearray
        )
        self.cuda.get_current_stream = Stream

    def RawModule(
        self, code: str, options: tuple[str, ...], name_expressions: tuple[str, ...], enable_cooperative_groups: bool
    ) -> RawModule:
        return RawModule(code, name_expressions, enable_cooperative_groups, self)

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> ndarray:
        if (math.prod(shape) if isinstance(shape, tuple) else shape) > self.memory:
            raise self.cuda.memory.OutOfMemoryError
        return np.full(shape, 255, dtype).view(ndarray)  # NaN in any float type

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> ndarray:
        return np.zeros(shape, dtype).view(ndarray)

    def asarray(self, values: Any, dtype: Any = None) -> ndarray:
        return np.array(values, dtype).view(ndarray)

    def get_default_memory_pool(self) -> Any:
        return types.SimpleNamespace(free_all_blocks=lambda: None, free_bytes=lambda: 0)


def compiled(text: str, folder: Path, flags: tuple[str, ...]) -> Path:
    """A shared library of C++ text, compiled unless it is in `folder`."""
    key = hashlib.sha256((text + repr(flags)).encode()).hexdigest()[:16]
    library = folder / f"kernels-{key}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        source, partial = folder / f"{key}-{os.getpid()}.cpp", folder / f"{key}-{os.getpid()}.so"
        source.write_text(text, "utf-8")
        command = [os.environ.get("CXX", "g++"), *FLAGS, *flags, str(source), "-o", str(partial)]
        subprocess.run(command, check=True)
        partial.rename(library)
    return library
