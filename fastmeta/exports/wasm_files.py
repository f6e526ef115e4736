"""A model as a WebAssembly module, by clang alone, and a page in which it learns drawings."""

from __future__ import annotations

import base64
import gzip
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from fastmeta.exports.model import ExportModel

FOLDER = Path(__file__).parent / "wasm"
FUNCTIONS = ("reset", "adapt", "predict", "save", "restore", "self_test", "sizes")
FLAGS = "--target=wasm32 -std=c99 -O3 -msimd128 -nostdlib -Wl,--no-entry -Wl,-z,stack-size=16384 -Wl,--strip-all"
MOST_PAGE_INPUTS = 128 * 128


def wasm_files(model: ExportModel, sources: dict[str, bytes], name: str) -> dict[str, bytes]:
    """NAME.wasm, and NAME.html for a classifier of gray images.

    Raises ModuleNotFoundError without clang and wasm-ld, RuntimeError where clang fails.
    """
    missing = [command for command in ("clang", "wasm-ld") if shutil.which(command) is None]
    if missing:
        raise ModuleNotFoundError(f'to="wasm" needs {missing[0]} on the path. Install clang and lld.')
    module = compiled(sources, name)
    shape = model.net.input_shape
    drawn = len(shape) == 3 and shape[2] == 1 and shape[0] * shape[1] <= MOST_PAGE_INPUTS
    together = model.batches is not None or model.samples < model.outputs
    if not (drawn and model.classifies) or together:
        return {f"{name}.wasm": module}
    return {f"{name}.wasm": module, f"{name}.html": page(model, module, name)}


def compiled(sources: dict[str, bytes], name: str) -> bytes:
    """The module of NAME.c, which imports nothing and exports NAME_adapt and so on, and its memory."""
    exports = [f"-Wl,--export={name}_{function}" for function in FUNCTIONS]
    exports.append("-Wl,--export=__heap_base")
    if b"_add(" in sources[f"{name}.h"]:
        exports.append(f"-Wl,--export={name}_add")
    with tempfile.TemporaryDirectory() as folder:
        for file, content in sources.items():
            (Path(folder) / file).write_bytes(content)
        command = ["clang", *FLAGS.split(), *exports, "-isystem", str(FOLDER), f"{name}.c", str(FOLDER / "shim.c")]
        done = subprocess.run([*command, "-o", "module.wasm"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"clang does not compile {name}.c to WebAssembly: {done.stderr}")
        return (Path(folder) / "module.wasm").read_bytes()


def page(model: ExportModel, module: bytes, name: str) -> bytes:
    """One HTML file with the module in it: it draws, adapts and predicts, and loads nothing."""
    height, width, _ = model.net.input_shape
    values = {
        "WASM": base64.b64encode(gzip.compress(module, mtime=0)).decode(),
        "WAYS": model.outputs,
        "HEIGHT": height,
        "WIDTH": width,
    }
    values |= {"STEPS": model.steps, "SAMPLES": model.samples, "NAME": name}
    text = (FOLDER / "page.html").read_text("utf-8")
    return re.sub(r"@(WASM|WAYS|HEIGHT|WIDTH|STEPS|SAMPLES|NAME)", lambda found: str(values[found[1]]), text).encode()
