"""Compilers and machines, real and emulated, that an artifact must give the same bits on."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import fastmeta.exports

HERE = Path(__file__).parent
WASM = Path(fastmeta.exports.__file__).parent / "wasm"
CORTEX = "-mthumb -Os -ffunction-sections -Wl,--gc-sections --specs=rdimon.specs -nostartfiles"
M4F = "-mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16"
BOARD = f"{HERE / 'cortex_m' / 'start.c'} -T {HERE / 'cortex_m' / 'board.ld'}"
QEMU = "qemu-system-arm -nographic -monitor none -semihosting-config enable=on,target=native"
WASM_FLAGS = f"--target=wasm32 -nostdlib -O2 -isystem {WASM} -Wl,--no-entry -Wl,--export-memory -Wl,-z,stack-size=8192"


@dataclass(frozen=True)
class Toolchain:
    """A command that compiles the files at {files} to `program`, and one that runs it."""

    name: str
    compile: str
    run: str = "./program"

    @property
    def missing(self) -> str | None:
        """The first command that is not installed."""
        words = [self.compile.split()[0], *([self.run.split()[0]] if not self.run.startswith("./") else [])]
        words += ["wasm-ld"] if self.name == "wasm" else []
        return next((word for word in words if shutil.which(word) is None), None)

    def output(self, folder: Path, *files: str) -> str:
        """What the program prints; AssertionError where it does not compile or run."""
        execute(self.compile.format(files=" ".join(files)) + " -lm" * (self.name != "wasm"), folder)
        return execute(self.run, folder)


TOOLCHAINS = (
    Toolchain("gcc -O0", "gcc -std=c99 -O0 {files} -o program"),
    Toolchain("gcc -O2", "gcc -std=c99 -O2 {files} -o program"),
    Toolchain("gcc -O3 -march=native", "gcc -std=c99 -O3 -march=native {files} -o program"),
    Toolchain("clang -O3", "clang -std=c99 -O3 -march=native {files} -o program"),
    Toolchain("tcc", "tcc {files} -o program"),
    Toolchain("g++", "g++ -std=c++17 -x c++ -O2 {files} -o program"),
    Toolchain("aarch64", "aarch64-linux-gnu-gcc -std=c99 -O2 -static {files} -o program", "qemu-aarch64 program"),
    Toolchain(
        "cortex-m4f",
        f"arm-none-eabi-gcc -std=c99 {M4F} {CORTEX} {{files}} {BOARD} -o program",
        f"{QEMU} -M mps2-an386 -kernel program",
    ),
    Toolchain(
        "cortex-m3",
        f"arm-none-eabi-gcc -std=c99 -mcpu=cortex-m3 {CORTEX} {{files}} {BOARD} -o program",
        f"{QEMU} -M mps2-an385 -kernel program",
    ),
)
NAMES = [toolchain.name for toolchain in TOOLCHAINS]


def execute(command: str, folder: Path) -> str:
    """What `command` prints in `folder`."""
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def result(printed: str) -> tuple[float, str]:
    """Worst error and hash that NAME_test.c prints."""
    found = re.match(r"worst (-?\d+) e-9, hash ([0-9a-f]{8})", printed)
    assert found, printed
    return int(found[1]) * 1e-9, found[2]
