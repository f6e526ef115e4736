"""Every Numba option in one place, and a disk cache that cannot serve stale machine code.

Numba stamps a cached function with its own file only, so a changed helper in another file would be served
stale. Here the stamp is a hash over all sources of this package, the options and the vector width. Where a library
has the kernels, their addresses are looked up in it and nothing is compiled.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any, TypeVar, cast

from fastmeta_kernels import library
from fastmeta_kernels.cpu.machine.compiler import (
    LIBRARY,
    CFunc,
    binding,
    carray,
    cgutils,
    from_dtype,
    intrinsic,
    ir,
    numba,
    sigutils,
    types,
)
from fastmeta_kernels.cpu.machine.inline import InlineCompiler, SymbolCompiler

F = TypeVar("F", bound=Callable[..., Any])

# No nnan, ninf: a NaN must survive to the loss, where it is named.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz"},
}
HELPER: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": InlineCompiler}
_linked: dict[str, Callable[[Any], None]] = {}
_others: list[Callable[[Any], Any]] = []
_kept: list[Any] = []  # compiled symbols live as long as the process


def kernel(function: F) -> F:
    """Compile a helper; it is cached as a part of the entry points that call it."""
    return cast(F, numba.njit(**HELPER, **OPTIONS)(function))


def inlined(function: F) -> F:
    """A helper that is put into its callers: a call hands each array over as seven numbers."""
    return cast(F, numba.njit(forceinline=True, **HELPER, **OPTIONS)(function))


def exact(function: F) -> F:
    """A helper whose operations are each rounded by themselves, in the order they are written in."""
    return cast(F, numba.njit(**HELPER, **OPTIONS | {"fastmath": False})(function))


def symbol(name: str, signature: Any, template: Callable[..., Any], exact: bool = False, **bound: Any) -> int:
    """Compile, or find, a function over pointers and scalars under a name that other kernels call; its address.

    Its machine code is kept on disk. exact: every operation is rounded by itself, in the order it is written in.
    `bound` are globals of the template: Numba's cache never finds a function again that has a closure.
    """
    if LIBRARY is not None:
        return LIBRARY.address(name)
    from fastmeta_kernels.cpu.machine.cache import KernelCache

    function = FunctionType(template.__code__, template.__globals__ | bound, name)
    function.__qualname__ = name  # what the cache files are called
    options = {key: value for key, value in OPTIONS.items() if key != "nogil"} | ({"fastmath": False} if exact else {})
    signature = sigutils.normalize_signature(signature)
    compiled = CFunc(function, signature, locals={}, options=options, pipeline_class=SymbolCompiler)  # type: ignore[arg-type]
    compiled._cache = KernelCache(function, SOURCE_STAMP)
    compiled.compile()
    address: Any = compiled.address
    binding.add_symbol(name, address)
    _kept.append(compiled)
    return int(address)


UNTOLD = 1 << 59  # scalars of a workspace that is handed over without its size
body: Any = None  # bound by `symbol`


def _three(ws, plan, i, j, k):
    body(carray(ws, UNTOLD), carray(plan, (1, 1)), i, j, k)  # what does not fit into registers costs each call


def _five(ws, plan, i, j, k, m, n):
    body(carray(ws, UNTOLD), carray(plan, (1, 1)), i, j, k, m, n)


def linked(function: F) -> F:
    """A kernel f(ws, plan, *integers) of three or five integers, compiled once and called by name.

    It gets a workspace and a matrix of one row by their addresses, without their sizes.

    Numba optimises whatever a kernel calls anew inside each of its callers, level by level; what is big is therefore
    called through an external symbol. `compile_linked` must run before a kernel that calls one.
    """
    count = function.__code__.co_argcount - 2
    name = f"fastmeta_{function.__name__}"
    body = kernel(function)

    def compile_for(lane: Any) -> None:
        template = _three if count == 3 else _five
        signature = types.void(types.CPointer(lane), types.CPointer(types.int64), *[types.int64] * count)
        symbol(f"{name}_{lane}", signature, template, body=body)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        form, call = _flat(context, builder, signature.args, args)
        symbol_name = f"{name}_{signature.args[0].dtype}"
        builder.call(cgutils.get_or_insert_function(builder.module, form, symbol_name), call)
        return context.get_dummy_value()

    @intrinsic
    def call_three(context: Any, ws: Any, plan: Any, i: Any, j: Any, k: Any) -> Any:
        return types.void(ws, plan, *[types.int64] * 3), emit

    @intrinsic
    def call_five(context: Any, ws: Any, plan: Any, i: Any, j: Any, k: Any, m: Any, n: Any) -> Any:
        return types.void(ws, plan, *[types.int64] * 5), emit

    _linked[function.__name__] = lru_cache(compile_for)
    wrapped: Any = call_three if count == 3 else call_five
    return cast(F, wrapped)


def for_each_dtype(make: F) -> F:
    """A cached function of a dtype that compiles symbols for it: a library has them for both."""
    _others.append(lru_cache(make))
    return cast(F, _others[-1])


def _flat(context: Any, builder: Any, types_of: Any, args: Any) -> tuple[Any, list[Any]]:
    """The type of a linked kernel and its arguments: pointers and integers, for arrays and integers."""
    ws, plan = (context.make_array(types_of[i])(context, builder, args[i]) for i in (0, 1))
    call = [ws.data, plan.data, *args[2:]]
    return ir.FunctionType(ir.VoidType(), [value.type for value in call]), call


@intrinsic
def call_linked(context: Any, address: Any, ws: Any, plan: Any, i: Any, j: Any, k: Any, m: Any, n: Any) -> Any:
    """Call the linked kernel of five integers that lies at an address."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        form, call = _flat(context, builder, signature.args[1:], args[1:])
        builder.call(builder.inttoptr(args[0], form.as_pointer()), call)
        return context.get_dummy_value()

    return types.void(types.int64, ws, plan, *[types.int64] * 5), emit


@intrinsic
def call_address(context: Any, address: Any, ws: Any, plan: Any, i: Any, j: Any, k: Any) -> Any:
    """Call the linked kernel of three integers that lies at an address, its arrays by their addresses too."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        form = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 5)  # a pointer is handed over as an integer is
        builder.call(builder.inttoptr(args[0], form.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), emit


def compile_linked(lane: Any, *names: str) -> None:
    """Compile, or load from the cache, the linked kernels of these names, for float32 or float64."""
    for name in names if LIBRARY is None else ():
        _linked[name](lane)


def compile_all(dtype: Any) -> None:
    """Compile every linked kernel and other symbol for a dtype; what they call by name is there."""
    compile_linked(lane_of(dtype), *_linked)
    for make in _others:
        make(dtype)


def lane_of(dtype: Any) -> Any:
    """What kernels for a dtype are told apart by."""
    return from_dtype(dtype) if LIBRARY is None else dtype


def linked_address(name: str, lane: Any) -> int:
    """Where the machine code of a linked kernel that was compiled lies."""
    symbol_name = f"fastmeta_{name}_{lane}"
    return int(binding.address_of_symbol(symbol_name)) if LIBRARY is None else LIBRARY.address(symbol_name)


def _source_stamp() -> str:
    options = [(key, sorted(value) if isinstance(value, set) else value) for key, value in sorted(OPTIONS.items())]
    what = library.stamp(), numba.__version__, options, os.environ.get("FASTMETA_VECTOR_BYTES")
    return hashlib.sha256(repr(what).encode()).hexdigest()


# Hash of whatever decides the machine code, but for the processor, which Numba looks at itself. Taken as the sources
# are imported: what is edited later belongs to another process.
SOURCE_STAMP = _source_stamp() if LIBRARY is None else ""
