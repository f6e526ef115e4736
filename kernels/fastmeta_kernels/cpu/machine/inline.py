"""Helpers that exist only inside their callers, and symbols that show nothing else: two ends of Numba's compiler.

Numba optimises every function by itself and makes machine code of it, also where it is only ever called by other
compiled functions, which link its intermediate code. Leaving both out halves the time of a first call.
"""

from __future__ import annotations

from typing import Any

from fastmeta_kernels.cpu.machine.compiler import CompilerBase, DefaultPassBuilder, NativeLowering, register_pass


@register_pass(mutates_CFG=True, analysis_only=False)
class InlineLowering(NativeLowering):
    """Lowering to intermediate code that others link."""

    _name = "fastmeta_inline_lowering"

    def run_pass(self, state: Any) -> bool:
        """Lower into a library that is never optimised or loaded, and give it a callable that names it."""
        state.targetctx = state.targetctx.subtarget(enable_nrt=False)  # nothing is allocated, no references to count
        library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
        library._optimize_final_module = lambda: None
        library._finalize_final_module = lambda: setattr(library, "_finalized", True)
        state.library, state.flags.no_compile = library, True
        super().run_pass(state)
        name = [].append  # a function of its own, by which callers find this one
        state.targetctx.insert_user_function(name, state["cr"].fndesc, [library])
        state["cr"] = state["cr"]._replace(cfunc=name)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class SymbolLowering(NativeLowering):
    """Lowering to machine code of which others see the entry point alone.

    Numba numbers functions within a process: objects that two processes left on disk may hold different functions of
    one name, and of names that all can see the loader takes the first for every object.
    """

    _name = "fastmeta_symbol_lowering"

    def run_pass(self, state: Any) -> bool:
        """Lower into a library that hides, once it is optimised, whatever is not called from outside."""
        library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
        library.enable_object_caching()
        optimize = library._optimize_final_module

        def optimize_and_hide() -> None:
            optimize()
            for function in library._final_module.functions:
                if not function.is_declaration and not function.name.startswith("cfunc."):
                    function.linkage = "internal"

        library._optimize_final_module = optimize_and_hide
        state.library = library
        return bool(super().run_pass(state))


class InlineCompiler(CompilerBase):
    """Nopython mode up to InlineLowering."""

    lowering: type[NativeLowering] = InlineLowering

    def define_pipelines(self) -> list[Any]:
        """Numba's own passes but for the lowering."""
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [
            (self.lowering, text) if kind is NativeLowering else (kind, text) for kind, text in manager.passes
        ]
        manager.finalize()
        return [manager]


class SymbolCompiler(InlineCompiler):
    """Nopython mode up to SymbolLowering."""

    lowering = SymbolLowering
