"""What a program is written with: single instructions, and the plans and vectors that they are about."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layers.products import ADDED, RATED
from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout import prototypes as prototype_layout
from fastmeta_kernels.cpu.layout.instruction import SAMPLES, G, at
from fastmeta_kernels.cpu.layout.network import IMAGE, OUTPUT_DELTAS, OUTPUTS, O, Plan, X
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
    own: Plan
    own_size: int
    direct: bool  # one rate for all parameters of linear layers, which products move
    per_parameter: bool
    packed_rates: int
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

    def _prototypes(self, s: int) -> NDArray[np.int64] | None:
        """The head's fields over the outputs of set s."""
        if self.request.head is None:
            return None
        n, head = self.request.head
        outputs, deltas, o = (int(k) for k in self.query.rows[0, [OUTPUTS, OUTPUT_DELTAS, O]])
        dtype = np.dtype(f"f{self.request.itemsize}")
        layout = prototype_layout.layout(head, n, self.request.query - n, o, dtype, self.size)
        self.size = self.up(layout.size)
        return prototype_layout.place_over(layout.fields, s + outputs, s + deltas)

    def _input(self, of: Plan, stream: int) -> None:
        row = of.rows[0]
        self.code.add(op.INPUT, SAMPLES, stream, at(op.S, row[X]), *row[IMAGE:], row=row)

    def _load_rates(self) -> None:
        if self.per_parameter:
            parameters.move(
                self.code, self.query, job.RATES, at(0, self.packed_rates), parameters.LOAD, self.parameters
            )

    def _descend(self, base: int, source: int, target: int) -> None:
        packed_rates = at(0, self.packed_rates) if self.per_parameter else -1
        rates = self.request.rates[1]
        parameters.descend(self.code, self.query, rates, self.adapted, base, source, target, packed_rates)

    def _store(self, vector: int, to: int = job.RESULTS) -> None:
        self.segment("store", lambda: parameters.move(self.code, self.query, to, at(G), parameters.STORE))
        self.run("store", G=vector)

    def _move_own(self, stream: int, operand: int, direction: int) -> None:
        """Between the rows of a stream and the parameters that are each step's own."""
        parameters.move(self.code, self.own, stream, operand, direction, self.own_size)
