"""The compiler's names, for those that write kernels: Numba's and llvmlite's.

Where a library has the kernels, nothing is compiled and neither package is imported: files of kernels are imported for
the functions beside them that write instructions, and every name here stands for one that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastmeta_kernels import library

LIBRARY = library.loaded()


class Absent:
    """A name that is not there: so are its attributes, what it is called for, and classes made of it."""

    def __init__(self, *made_of: Any) -> None: ...

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())


if TYPE_CHECKING or LIBRARY is None:
    import llvmlite.binding as binding
    import numba
    from llvmlite import ir
    from numba import carray, from_dtype, types
    from numba.core import cgutils, sigutils
    from numba.core.ccallback import CFunc
    from numba.core.compiler import CompilerBase, DefaultPassBuilder
    from numba.core.compiler_machinery import register_pass
    from numba.core.datamodel import register_default
    from numba.core.datamodel.models import RecordModel
    from numba.core.typed_passes import NativeLowering
    from numba.extending import intrinsic, models, overload, register_model
else:
    CFunc = CompilerBase = DefaultPassBuilder = NativeLowering = RecordModel = Absent()
    binding = carray = cgutils = from_dtype = intrinsic = ir = models = numba = overload = Absent()
    register_default = register_model = register_pass = sigutils = types = Absent()

__all__ = [
    "LIBRARY",
    "CFunc",
    "CompilerBase",
    "DefaultPassBuilder",
    "NativeLowering",
    "RecordModel",
    "binding",
    "carray",
    "cgutils",
    "from_dtype",
    "intrinsic",
    "ir",
    "models",
    "numba",
    "overload",
    "register_default",
    "register_model",
    "register_pass",
    "sigutils",
    "types",
]
