"""What a program is written with: single instructions, and the plans and vectors that they are about."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout import prototypes as prototype_layout
from fastmeta_kernels.cpu.layout.instruction import SAMPLES, G, Operand, at
from fastmeta_kernels.cpu.layout.network import Plan
from fastmeta_kernels.cpu.layout.packing import Block
from fastmeta_kernels.cpu.layout.places import ADDED, RATED
from fastmeta_kernels.cpu.losses import losses, prototypes
from fastmeta_kernels.cpu.program import parameters
from fastmeta_kernels.cpu.program.passes import Passes
from fastmeta_kernels.cpu.program.schedule import Schedule
from fastmeta_kernels.cpu.request import Request
from fastmeta_kernels.layer_table import PROTOTYPES


class Writer(Schedule):
    """Emits for a request; whoever decides what `direct`, `adapted` and the like are derives from it."""

    request: Request
    query: Plan
    own: tuple[Block, ...]  # of parameters that are each step's own
    own_size: int
    direct: bool  # one rate for all parameters of linear layers, which products move
    per_parameter: bool
    packed_rates: Operand  # where a rate for each parameter lies, NONE where there are fewer
    adapted: tuple[int, int]

    @property
    def parameters(self) -> int:
        """P."""
        return self.query.blocks[-1].start + self.query.blocks[-1].size

    def _tangents(self, passes: Passes, of: Plan, sweep: bool) -> None:
        """G = H u, or in the sweep G -= H u, times the rate where u is not."""
        passes.forward_tangent()
        self._loss(of, sweep, tangent=True)
        passes.backward_tangent((ADDED | (RATED if self.direct else 0)) if sweep else 0)

    def _loss(self, of: Plan, support: bool, tangent: bool = False) -> None:
        if self.request.query_loss.kind == PROTOTYPES:
            prototypes.emit(self.code)
        else:
            losses.emit(self.code, self.request, of, support, tangent, self.direct and support)

    def _prototypes(self, s: int) -> NDArray[np.void] | None:
        """The head over the outputs of set s."""
        if self.request.head is None:
            return None
        (n, head), query = self.request.head, self.query
        dtype = np.dtype(f"f{self.request.itemsize}")
        layout = prototype_layout.layout(head, n, self.request.query - n, query.o, dtype, self.size)
        self.size = self.up(layout.size)
        return prototype_layout.place_over(layout.head, s + query.outputs, s + query.output_deltas)

    def _input(self, of: Plan, stream: int) -> None:
        names = ("image_h", "image_w", "image_c", "taps", "stride", "padding")
        patches = dict(zip(names, of.image, strict=True))
        self.code.add(op.INPUT, SAMPLES, of.layers[0], stream=stream, x=at(op.S, of.layers[0].x), **patches)

    def _load_rates(self) -> None:
        if self.per_parameter:
            parameters.move(
                self.code, self.query.blocks, job.RATES, self.packed_rates, parameters.LOAD, self.parameters
            )

    def _descend(self, base: Operand, source: Operand, target: Operand) -> None:
        rates = self.request.rates[1]
        parameters.descend(self.code, self.query, rates, self.adapted, base, source, target, self.packed_rates)

    def _store(self, vector: int, to: int = job.RESULTS) -> None:
        self.segment("store", lambda: parameters.move(self.code, self.query.blocks, to, at(G), parameters.STORE))
        self.run("store", g=vector)

    def _move_own(self, stream: int, operand: Operand, direction: int) -> None:
        """Between the rows of a stream and the parameters that are each step's own."""
        parameters.move(self.code, self.own, stream, operand, direction, self.own_size)
