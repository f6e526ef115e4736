"""How a request is carried out: all that is decided before anything is written, from the request alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from fastmeta_kernels.cpu.layout.lanes import LANES, scalar_bytes
from fastmeta_kernels.cpu.layout.network import Plan, plan
from fastmeta_kernels.cpu.layout.packing import Block
from fastmeta_kernels.cpu.program.passes import MATRICES
from fastmeta_kernels.request import Request


@dataclass(frozen=True)
class Choices:
    """What follows from a request."""

    request: Request

    @cached_property
    def in_lanes(self) -> bool:
        """Whether a task of the program is a block of them, one in each lane."""
        return self.request.variant == LANES

    @cached_property
    def support(self) -> Plan:
        """The network over a support set."""
        samples = self.request.query if self.request.head else self.request.inner
        return self._plan(samples.samples)

    @cached_property
    def query(self) -> Plan:
        """The network over a query set."""
        return self._plan(self.request.query.samples)

    @cached_property
    def parameters(self) -> int:
        """P."""
        return self.query.blocks[-1].start + self.query.blocks[-1].size

    @cached_property
    def adapted(self) -> tuple[int, int]:
        """What the inner loop moves, among the packed parameters."""
        places = {block.start: block.packed_start for block in self.query.blocks}
        start, stop = (places.get(place, self.query.packed) for place in self.request.adapted)
        return start, stop

    @cached_property
    def per_parameter(self) -> bool:
        """Whether each parameter has a rate of its own."""
        rates = self.request.rates[1]
        return rates > len(self.query.blocks) or rates == self.parameters > 1

    @cached_property
    def head_only(self) -> bool:
        """Whether only the last layer, a linear one, moves: the body's features are computed once."""
        request, last = self.request, self.query.layers[-1]
        linear = last.kind in MATRICES and len(self.query.layers) > 1 + self.query.first
        alone = self.adapted == (last.weight, self.query.packed)
        return linear and alone and request.steps > 0 and not request.step_parameters

    @cached_property
    def direct(self) -> bool:
        """One rate for all parameters of an MLP: products move the parameters, the sweep needs no gradient again."""
        request = self.request
        linear = all(layer.kind in MATRICES for layer in self.query.layers if layer.weight >= 0)
        one_rate = request.rates[1] == 1 and self.adapted == (0, self.query.packed) and not self.per_parameter
        needs_u = self.head_only or request.step_parameters or request.each_weight or request.pulled
        return one_rate and linear and request.order == 2 and not needs_u

    @cached_property
    def shared(self) -> tuple[int, ...]:
        """Layers of which no task in lanes has weights of its own: small products of its samples cost half as much."""
        request, query = self.request, self.query
        if not (self.in_lanes and self.direct and request.steps == 1) or request.query_loss_steps:
            return ()
        samples = max(request.inner.samples, request.query.samples)
        behind = [(l, layer) for l, layer in enumerate(query.layers) if l > query.first and layer.kind in MATRICES]
        return tuple(l for l, layer in behind if 2 * samples * (layer.c + layer.oc) <= layer.c * layer.oc)

    @cached_property
    def exact(self) -> bool:
        """Whether there is a sweep of Hessian-vector products."""
        return self.request.kind == "meta_gradient" and self.request.order == 2 and self.request.steps > 0

    @cached_property
    def stash(self) -> bool:
        """Whether each inner step keeps its set."""
        return self.head_only or self.request.stash

    @cached_property
    def kept(self) -> int:
        """Parameter vectors kept beside theta, which serves all tasks of a chunk where there is one."""
        request = self.request
        learns = request.kind == "meta_gradient"
        if self.exact or (learns and (request.query_loss_steps or request.pulled)):
            return request.steps
        return min(request.steps, 1) if learns or request.pulled else 0

    @cached_property
    def keeps_gradients(self) -> bool:
        """Whether the gradient of each inner step stays."""
        return self.request.kind == "meta_gradient" and (self.request.order == 1 or self.stash)

    @cached_property
    def keeps_sets(self) -> bool:
        """Whether each inner step has a set of its own."""
        return self.exact and self.stash

    @cached_property
    def own(self) -> tuple[Block, ...]:
        """The parameter arrays that are each step's own, by their places in a row of their values."""
        blocks = [self.query.blocks[i] for i in self.request.step_parameters]
        starts = accumulate((block.size for block in blocks), initial=0)
        return tuple(block._replace(start=start) for block, start in zip(blocks, starts, strict=False))

    @cached_property
    def own_size(self) -> int:
        """Values of such a row."""
        return sum(block.size for block in self.own)

    def _plan(self, samples: int) -> Plan:
        of = self.request
        return plan(of.table, samples, scalar_bytes(of), "auto" if of.variant in ("", LANES) else of.variant)
