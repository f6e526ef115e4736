"""A program: what a job does with one task, as instructions and the schedule in which they run.

The schedule is the control flow of engine and paper: inner steps, query, and the sweep back through the steps.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout.instruction import NONE, SERIAL, G, at
from fastmeta_kernels.cpu.layout.network import head_of, plan
from fastmeta_kernels.cpu.layout.places import ADDED
from fastmeta_kernels.cpu.program import parameters
from fastmeta_kernels.cpu.program.passes import MATRICES, Passes
from fastmeta_kernels.cpu.program.schedule import Program
from fastmeta_kernels.cpu.program.writer import Writer
from fastmeta_kernels.cpu.request import ADAPT, GRADIENT, HVP, LOSS, META, PREDICT, Request

STASH_LIMIT = 1 << 29  # bytes a thread may spend on stashed sets before "auto" recomputes


@lru_cache(maxsize=256)
def program(request: Request) -> Program:
    """The program of a request."""
    return _Writer(request).write()


class _Writer(Writer):
    def __init__(self, request: Request) -> None:
        super().__init__(request.itemsize)
        self.request = request
        self.support, self.query = (
            plan(request.table, samples, request.itemsize, request.winograd)
            for samples in (request.support, request.query)
        )
        self.size = self.query.zeros + self.up(max(self.support.sums, self.query.sums))
        places = {b.start: b.packed_start for b in self.query.blocks}
        start, stop = request.adapted
        self.prototypes: NDArray[np.void] | None = None
        self.first_rows = self.last_rows = 0
        self.adapted = places.get(start, self.query.packed), places.get(stop, self.query.packed)
        self.per_parameter = request.rates[1] > len(self.query.blocks) or request.rates[1] == self.parameters > 1
        last = self.query.layers[-1]
        linear = last.kind in MATRICES and len(self.query.layers) > 1 + self.query.first
        self.head_only = linear and self.adapted == (last.weight, self.query.packed) and request.steps > 0
        self.head_only = self.head_only and not request.stepwise
        # One rate for all parameters of an MLP: products move the parameters, and the sweep needs no gradient again.
        linear_only = all(layer.kind in MATRICES for layer in self.query.layers if layer.weight >= 0)
        one_rate = request.rates[1] == 1 and self.adapted == (0, self.query.packed) and not self.per_parameter
        self.direct = one_rate and linear_only and request.order == 2 and not (self.head_only or request.stepwise)
        starts = np.cumsum([0, *(self.query.blocks[i].size for i in request.stepwise)]).tolist()
        self.own_size = starts[-1]
        own = (self.query.blocks[i]._replace(start=start) for i, start in zip(request.stepwise, starts, strict=False))
        self.own = tuple(own)

    def write(self) -> Program:
        """Code and schedule of the request's kind."""
        kind, query = self.request.kind, self.query
        self.theta, total = self.room(query.packed * (self._kept + 1)), self.room(query.packed if kind == META else 0)
        self.segment("zeros", lambda: parameters.clear(self.code, query, at(op.P)))
        self.segment("theta", lambda: parameters.move(self.code, query.blocks, job.THETA, at(op.P), parameters.LOAD))
        for zeros in (total, self.theta) if kind == META else (self.theta,):
            self.run("zeros", p=zeros)
        self.run("theta", p=self.theta)
        self.first_rows = len(self.rows)
        self.segment("own", lambda: self._move_own(job.STEP_VALUES, at(op.P), parameters.LOAD))
        self.run("own", p=self.theta)
        if kind in (ADAPT, META):
            self._inner_loop()
        phi = self._phi(self.request.steps)
        if kind == ADAPT:
            self._store(phi)
            return self._done()
        s, v = self.room(query.set_size), self.room(query.packed)
        passes, self.prototypes = Passes(self.code, query), self._prototypes(s)
        self.segment("query", lambda: self._input(query, job.QUERY_X))
        self.run("query", s=s)
        if kind == PREDICT:
            outputs, size = at(op.S, query.outputs), self.request.query * query.o
            write = lambda: self.code.add(op.OUTPUT, SERIAL, stream=job.RESULTS, outputs=outputs, size=size)  # noqa: E731
            self.segment("outputs", passes.forward, write)
            self.run("outputs", p=phi, s=s)
            return self._done()
        self.segment("query loss", passes.forward, lambda: self._loss(query, False))
        self.run("query loss", p=phi, s=s, inner_step=self.request.steps if self.request.losses else 0)
        if kind != LOSS:
            self.segment("query gradient", lambda: passes.backward(None if kind == HVP else 0))
            self.run("query gradient", p=phi, s=s, g=v)
        if kind == HVP:
            u, r = self.room(query.packed), self.room(query.set_size)
            self.segment(
                "direction", lambda: parameters.move(self.code, query.blocks, job.DIRECTION, at(op.U), parameters.LOAD)
            )
            self.run("direction", u=u)
            self.segment("query tangents", lambda: self._tangents(passes, query, False))
            self.run("query tangents", p=phi, s=s, u=u, r=r, g=v)
        if kind == META:
            self.segment("own gradient", lambda: self._move_own(job.STEP_GRADIENTS, at(G), parameters.ADD))
            self.segment("own zeros", lambda: self._move_own(job.STEP_VALUES, at(G), parameters.LOAD))
            self.segment("added", lambda: passes.backward(ADDED))
            self._take_own(v, self.request.steps)
            self._sweep(v, s)
            self.segment("sum", lambda: parameters.add(self.code, query, at(op.P), at(G)))
            self.run("sum", p=total, g=v)
            self.last_rows = -len(self.rows)
            self._store(total, job.GRADIENTS)
            self.last_rows += len(self.rows)
        elif kind in (GRADIENT, HVP):
            self._store(v)
        return self._done()

    @property
    def _exact(self) -> bool:
        return self.request.kind == META and self.request.order == 2 and self.request.steps > 0

    @property
    def _kept(self) -> int:
        """Parameter vectors kept beside theta, which serves all tasks of a chunk where there is one."""
        if self._exact or (self.request.kind == META and self.request.losses):
            return self.request.steps
        return min(self.request.steps, 1) if self.request.kind == META else 0

    def _phi(self, k: int) -> int:
        return self.theta + min(k, self._kept) * self.query.packed

    def _inner_loop(self) -> None:
        """phi_{k+1} = phi_k - m alpha_k grad L(phi_k)."""
        request, support = self.request, self.support
        stashed = request.steps * support.set_size * request.itemsize <= STASH_LIMIT
        self.stash = self.head_only or request.memory == "stash" or (request.memory == "auto" and stashed)
        keep_g = request.kind == META and (request.order == 1 or self.stash)
        self.g_step, self.g = (
            (self.query.packed if keep_g else 0),
            self.room(self.query.packed * (max(request.steps, 1) if keep_g else 1)),
        )
        self.packed_rates = at(op.ZERO, self.room(self.query.packed)) if self.per_parameter else NONE
        self.segment("support", lambda: self._input(support, job.SUPPORT_X))
        if self.head_only:
            self._body()
        else:
            self.passes, self.set_plan, self.features = Passes(self.code, support), support, 0
        sets = request.steps if self._exact and self.stash else min(request.steps, 1)
        self.sets = self.room(self.set_plan.set_size * sets)
        self.set_step = self.set_plan.set_size if self._exact and self.stash else 0

        self.segment("transposes", self.passes.transpose)

        def gradient() -> None:
            self.passes.forward()
            self._loss(self.set_plan, True)
            self.passes.backward(None if self.direct else 0, transpose=not self.direct)

        self.segment("gradient", gradient)
        self.segment("step", lambda: self.passes.step(op.NEXT))
        once = self.direct and self._kept > 0 and (self.set_step > 0 or request.steps == 1)
        if once:  # theta serves all tasks of a chunk, and so does its transpose in the first set
            self.run("transposes", p=self.theta, s=self._set(0))
            self.first_rows = len(self.rows)
        self.segment("rates", self._load_rates)
        self.segment("descend", lambda: self._descend(at(op.P), at(G), at(op.NEXT)))
        for k in range(request.steps):
            if not self.head_only and (k == 0 or self.set_step):
                self.run("support", s=self._set(k))
            if self.direct:
                if k > 0 or not once:
                    self.run("transposes", **self._at_step(k))
                self.run("gradient", **self._at_step(k))
                self.run("step", sign=-1, next=self._phi(k + 1), **self._at_step(k))
                continue
            self.run("gradient", **self._at_step(k))
            self.run("rates", **self._at_step(k))
            self.run("descend", sign=-1, next=self._phi(k + 1), **self._at_step(k))
            self.run("own", p=self._phi(k + 1), rate_row=k + 1)

    def _body(self) -> None:
        """Only the head adapts: the body's features are computed once, each step's set is the head's."""
        last = len(self.support.layers) - 1
        self.features = self.room(self.support.set_size)
        self.body = Passes(self.code, self.support, 0, last)
        self.set_plan = head_of(self.support, self.line)
        self.passes = Passes(self.code, self.set_plan, features=op.X)
        self.segment("body", self.body.forward)
        self.run("support", s=self.features)
        self.run("body", p=self.theta, s=self.features)

    def _take_own(self, v: int, k: int) -> None:
        """What v_k says of the parameters that are step k's own is their gradient and goes no further."""
        self.run("own gradient", g=v, rate_row=k)
        self.run("own zeros", g=v, rate_row=self.request.steps + 1)  # the row behind the last holds zeros

    def _sweep(self, v: int, query_set: int) -> None:
        """v_k = v_{k+1} - H_k m alpha_k v_{k+1} + w_k grad Q(phi_k) down to v_0, and the gradient of the rates.

        With one rate alpha for everything, H (alpha v) = alpha (H v), and the rate's gradient is minus the derivative
        of the support loss along v, which the tangents of the outputs give: no copy of v, and no gradient, is needed.
        """
        request, code, query = self.request, self.code, self.query
        if request.steps == 0:
            return
        u = self.room(query.packed)
        r = self.room(self.set_plan.set_size)
        if self.per_parameter:
            self.segment(
                "products",
                lambda: parameters.multiply(code, query, self.adapted, at(G), at(op.ZERO, v), at(op.ZERO, u)),
            )
            self.segment("rates gradient", lambda: parameters.move(
                code, query.blocks, job.RATES_GRADIENTS, at(op.ZERO, u), parameters.ADD, self.parameters))  # fmt: skip
        else:
            count = request.rates[1]
            self.segment("products", lambda: None)
            self.segment("rates gradient", lambda: parameters.rates_gradient(
                code, query, count, self.adapted, at(G), at(op.ZERO, v)))  # fmt: skip
        self.segment("scale", lambda: self._descend(NONE, at(op.ZERO, v), at(op.U)))
        if request.order == 2:
            self.segment("tangents", lambda: self._tangents(self.passes, self.set_plan, True))
            if self.head_only:
                to = at(op.X, self.support.layers[-1].dx)
                self.segment("first features", lambda: self.passes.features_tangent(to, False))
                self.segment("features", lambda: self.passes.features_tangent(to, True))
        for k in range(request.steps - 1, -1, -1):
            here = self._at_step(k)
            if request.order == 2 and not self.set_step and k < request.steps - 1:  # the last step's set is still there
                if self.direct:
                    self.run("transposes", **here)
                self.run("gradient", **here)
            if self.direct:
                self.run("tangents", sign=-1, u=v, r=r, **(here | {"g": v}))
            else:
                self.run("products", **here)
                self.run("rates gradient", sign=-1, **here)
            if request.order == 2 and not self.direct:
                self.run("rates", **here)
                self.run("scale", u=u, **here)
                self.run("tangents", sign=-1, u=u, r=r, **(here | {"g": v}))
                if self.head_only:
                    name = "first features" if k == request.steps - 1 else "features"
                    self.run(name, sign=-1, u=u, r=r, **here)
            if request.losses and request.losses[k]:
                self.run("query loss", p=here["p"], s=query_set, inner_step=k)
                self.run("added", p=here["p"], s=query_set, g=v)
            self._take_own(v, k)
        if request.order == 2 and self.head_only:
            self.segment("body gradient", lambda: self.body.backward(ADDED))
            self.run("body gradient", p=self.theta, s=self.features, g=v)

    def _set(self, k: int) -> int:
        return self.sets + k * self.set_step

    def _at_step(self, k: int) -> dict[str, int]:
        p, g = self._phi(k), self.g + k * self.g_step
        row = k if self.request.rates[0] > 1 else 0
        return {"p": p, "s": self._set(k), "g": g, "x": self.features, "inner_step": k, "rate_row": row}

    def _done(self) -> Program:
        schedule = np.array([np.frombuffer(step.tobytes(), np.int64) for step in self.rows])
        work = self.query.packed * self.request.query
        panel = max(of.panel for of in (self.support, self.query))
        rows = self.first_rows, self.last_rows
        return Program(self.code.array(), schedule, *rows, self.size + panel, panel, self.query, work, self.prototypes)
