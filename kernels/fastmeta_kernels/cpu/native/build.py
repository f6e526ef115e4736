"""Build the libraries of kernels: `python -m fastmeta_kernels.cpu.native.build [LEVEL ...] [--out FOLDER]`.

By default those of this machine's kind of processor, beside this file, where calls and wheels find them. It takes
Numba, a linker (ld.lld, or GNU ld for this machine) and for each level a minute on two cores. Users never run it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fastmeta_kernels.files import written_beside
from fastmeta_kernels.library import DTYPES, FOLDER, LEVELS, PACKAGE, Level, file_name

# As C compilers on Linux link, but for their start-up files: nothing is run when a library is loaded. No library is
# named, so that no version of a symbol is: the process has the C library that Python or a program came with.
LINK = ("-shared", "-Bsymbolic", "-z", "relro", "-z", "now", "-z", "noexecstack", "--build-id=none", "--strip-all")


def build(level: Level, folder: Path = Path(FOLDER)) -> Path:
    """The library for a kind of processor."""
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        command = [sys.executable, "-m", "fastmeta_kernels.cpu.native.emit", level.name]
        env, cwd = environment(level, place), os.path.dirname(PACKAGE)
        at_once = [subprocess.Popen([*command, dtype, work], env=env, cwd=cwd) for dtype in DTYPES]
        if sum(one.wait() for one in at_once):
            raise RuntimeError(f"The kernels for {level.name} were not compiled: see above.")
        whole = place / "whole.so"
        objects = sorted(str(path) for path in place.glob("*.o"))
        subprocess.run([linker(level), *LINK, "-soname", file_name(level), "-o", str(whole), *objects], check=True)
        content = whole.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(level)
    with written_beside(path, mode=0o755) as file:
        file.write(content + hashlib.sha256(content).digest())
    return path


def environment(level: Level, place: Path) -> dict[str, str]:
    """Variables for a process that compiles for such processors, and for nobody else."""
    machine = os.uname().machine
    processor = level.name if level.machine == machine == "x86_64" else "generic"
    given = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "FASTMETA_VECTOR_BYTES": str(level.vector_bytes)}
    return os.environ | given | {"FASTMETA_LIBRARY": "0", "NUMBA_CACHE_DIR": str(place / "cache")}


def linker(level: Level) -> str:
    """A linker for such machines."""
    found = shutil.which("ld.lld") or (shutil.which("ld") if level.machine == os.uname().machine else None)
    if found is None:
        raise FileNotFoundError(f"There is no linker for {level.machine}. Install lld, which links for every machine.")
    return found


def main() -> None:
    """Build, and say what was built."""
    own = [level.name for level in LEVELS if level.machine == os.uname().machine]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("levels", nargs="*", default=own, help="kinds of processors: " + ", ".join(own))
    parser.add_argument("--out", type=Path, default=Path(FOLDER), help="the folder")
    given = parser.parse_args()
    by_name = {level.name: level for level in LEVELS}
    for name in given.levels:
        path = build(by_name[name], given.out)
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
