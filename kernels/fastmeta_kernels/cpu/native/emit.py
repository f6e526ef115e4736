"""Every kernel of this backend as object files for one kind of processor, by the compiler that makes them for a call.

`python -m fastmeta_kernels.cpu.native.emit LEVEL DTYPE FOLDER`, in the environment that `build.environment` gives. What
is in a library derives from the tables that calls use: every handler, every linked kernel and what the workers run.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from fastmeta_kernels.cpu.execution import workers
from fastmeta_kernels.cpu.execution.handlers import MOST_KINDS, handlers
from fastmeta_kernels.cpu.execution.handling import HANDLERS, LANE_HANDLERS
from fastmeta_kernels.cpu.layout.stored import version
from fastmeta_kernels.cpu.machine import atomic, jit
from fastmeta_kernels.cpu.native import runner
from fastmeta_kernels.library import DTYPES, LEVELS, Level, mark

TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}
PROCESSORS = {"aarch64": "generic"}  # of LLVM, where a level is called otherwise


def emit(level: Level, dtype: str, folder: Path) -> None:
    """Write the object files of a dtype, and with those of the first what there is once."""
    said = mark(level)  # of the sources as they are now: what is edited meanwhile belongs to another library
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    of = llvm.Target.from_triple(TRIPLES[level.machine])
    processor = PROCESSORS.get(level.name, level.name)
    machine = of.create_target_machine(cpu=processor, opt=3, reloc="pic", codemodel="default")
    if level.machine == "aarch64":
        atomic.PAUSE = None
    kind = np.dtype(dtype)
    table = handlers(kind, HANDLERS)
    handlers(kind, LANE_HANDLERS, in_lanes=True)
    jit.compile_all(kind)
    if dtype == DTYPES[0]:
        workers._functions()
        for name in (runner.TABLE, runner.VERSION):  # the library's own; here nothing runs
            llvm.add_symbol(name, table.ctypes.data)
        runner.compile_runner()
        write(index(said), machine, level, folder / "index.o")
    for compiled in jit._kept:
        name = compiled._pyfunc.__name__
        module = shown_as(compiled._library.get_llvm_str(), compiled._wrapper_name, name)
        write(module, machine, level, folder / f"{name}.o")


def shown_as(text: str, wrapper: str, name: str) -> str:
    """A module that shows one function, `name`: Numba's without its wrapper, which reports errors that cannot be."""
    module = llvm.parse_assembly(text)
    inner = module.get_function(wrapper.removeprefix("cfunc."))
    result = str(module.get_function(wrapper).global_value_type).split(" (")[0]
    for one in [*module.functions, *module.global_variables]:
        if not one.is_declaration:
            one.linkage = "internal"
    kinds = [str(argument.type) for argument in inner.arguments][2:]  # behind the result and the error
    given = [f"{kind} %a{i}" for i, kind in enumerate(kinds)]
    ends = "ret void" if result == "void" else f"%value = load {result}, ptr %result\n  ret {result} %value"
    return (
        f"{module}\ndefine {result} @{name}({', '.join(given)}) {{\n  %result = alloca i64\n  %error = alloca ptr\n"
        f"  %status = call i32 @{inner.name}({', '.join(['ptr %result', 'ptr %error', *given])})\n  {ends}\n}}\n"
    )


def index(said: str) -> str:
    """A module of what is no function: what a library says of itself, each dtype's handlers by kind of instruction."""
    lines = [f'@fastmeta_mark = constant [{len(said) + 1} x i8] c"{said}\\00"']
    lines.append(f"@{runner.VERSION} = constant i64 {version(said)}")
    for dtype in DTYPES:
        kinds = [f"fastmeta_{HANDLERS[kind]}_{dtype}" if kind in HANDLERS else "" for kind in range(MOST_KINDS)]
        entries = ", ".join(f"ptr @{name}" if name else "ptr null" for name in kinds)
        lines.append(f"@fastmeta_handlers_{dtype} = constant [{MOST_KINDS} x ptr] [{entries}]")
        lines += [f"declare void @{name}()" for name in sorted(set(kinds) - {""})]
    return "\n".join(lines)


def write(text: str, machine: Any, level: Level, path: Path) -> None:
    """Machine code of a module; what it does not use is left out, and nothing is optimised that Numba did not."""
    module = llvm.parse_assembly(re.sub(r'"target-(cpu|features)"="[^"]*"', "", text))
    module.triple = TRIPLES[level.machine]
    module.data_layout = str(machine.target_data)
    for function in module.functions:
        if not function.is_declaration:
            function.add_function_attribute("nounwind")  # no tables for exceptions, which there are none of
    module.verify()
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.PipelineTuningOptions(speed_level=0)))
    path.write_bytes(machine.emit_object(module))


if __name__ == "__main__":
    emit({level.name: level for level in LEVELS}[sys.argv[1]], sys.argv[2], Path(sys.argv[3]))
