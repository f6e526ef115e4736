"""The inner loop and the sweep back through it, recorded layer by layer, and means over tasks; see inner_loop.cuh."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmeta_kernels.cuda.layout.network import ActivationSet, Layout, TaskData
from fastmeta_kernels.cuda.layout.recording import NONE, Batched, Recording, struct
from fastmeta_kernels.cuda.program.passes import passes_over, tangents_over
from fastmeta_kernels.request import Request


class InnerLoop:
    """Records the inner loop of a request; phi, v and gradients are (T, P).

    Its inputs are the rates, the boundaries of the parameter arrays, and what differs from step to step: parameters,
    weights of query losses.
    """

    def __init__(self, recording: Recording, network: Layout, request: Request) -> None:
        self.recording, self.network, self.request = recording, network, request
        self.itemsize = request.dtype.itemsize
        rows, rates = request.rates
        self.rates = recording.input("rates", 1, rows * rates).address
        self.edges = recording.input("edges", 1, len(network.edges), np.int64).address
        self.own_count = sum(network.edges[i + 1] - network.edges[i] for i in request.step_parameters)
        if request.step_parameters:
            self.own = recording.input("step_parameters", 1, (request.steps + 1) * self.own_count).address
            self.own_at = recording.input("own_at", 1, len(network.edges) - 1, np.int64).address
        self.pulls = recording.input("pulls", 1, 2).address if request.pulled else 0
        if request.query_loss_steps:
            self.loss_weights = recording.input("loss_weights", 1, request.steps + 1).address
        if request.kind == "meta_gradient":
            self.rates_gradient = recording.result("rates_gradient", 1, rows * rates).address

    def adapt(self, theta: Batched, support: TaskData, losses: Batched, phi: Batched) -> None:
        """phi_S and the losses before each step."""
        self._descend(-1, theta, NONE, phi)
        gradient = self._vector()
        passes, run = passes_over(self.recording, self.network, self.request.tasks, support)
        for k in range(self.request.steps):
            passes.gradient(phi, run, losses.at(k, self.itemsize), gradient)
            self._descend(k, phi, gradient, phi, theta)

    def meta_gradient(
        self, theta: Batched, support: TaskData, query: TaskData, support_losses: Batched, query_losses: Batched
    ) -> tuple[Batched, Batched]:
        """Losses; returns v_0 and d Q / d alpha (T, rows P) of each task."""
        request, recording, tasks, steps = self.request, self.recording, self.request.tasks, self.request.steps
        exact, counts = request.order == 2, request.query_loss_steps or (False,) * steps + (True,)
        keeps = request.stash or not exact

        passes, run = passes_over(recording, self.network, tasks, support)
        phis, gradients, runs = [self._first_phi(theta)], list[Batched](), list[ActivationSet]()
        for k in range(steps):
            fresh = k == 0 or exact or any(counts[:-1]) or request.pulled
            phis.append(self._vector() if fresh else phis[-1])
            gradients.append(self._vector() if keeps or k == 0 else gradients[0])
            if k and exact and keeps:
                passes, run = passes_over(recording, self.network, tasks, support)
            runs.append(run)
            passes.gradient(phis[k], run, support_losses.at(k, self.itemsize), gradients[k])
            self._descend(k, phis[k], gradients[k], phis[k + 1], phis[0])

        query_passes, query_run = passes_over(recording, self.network, tasks, query)
        v = self._result("task_gradients", self.network.parameters) if request.each_task else self._vector()
        along = recording.array(tasks, request.rates[0] * self.network.parameters)
        slopes = self._result("weights_gradient", support.samples) if request.each_weight else NONE
        own_v = recording.array(tasks, (steps + 1) * self.own_count) if request.step_parameters else NONE
        outcome = self._vector() if any(counts[:-1]) else NONE
        pulled = request.pulled and steps > 0
        by_pulls = recording.array(tasks, 2 * self.network.parameters) if pulled else NONE
        to_theta = self._vector() if pulled and exact else NONE
        if exact and steps:
            direction, product = self._vector(), self._vector()
            dot, unused = tangents_over(recording, self.network, tasks, support), recording.array(tasks, 1)
        for k in range(steps, -1, -1):
            terms = {"v": v if k < steps or counts[k] else NONE}
            if exact and k < steps:
                passes.hvp(phis[k], direction, runs[k], dot, product, slopes, k + 1 < steps)
                terms["product"] = product
            if counts[k]:
                factor = self.loss_weights + k * self.itemsize if request.query_loss_steps else 0
                to, adds = (v, False) if k == steps else (outcome, any(counts[k + 1 :]))
                query_passes.gradient(phis[k], query_run, query_losses, to, factor, adds)
                terms |= {"outcome": to} if k < steps else {}
            if request.step_parameters:
                terms["own_v"] = own_v.at(k * self.own_count, self.itemsize)
            if k:
                if not keeps and k < steps:
                    passes.gradient(phis[k - 1], run, unused, gradients[k - 1])
                terms |= {"gradient": gradients[k - 1], "direction": direction if exact else NONE}
            if pulled:
                terms |= {"theta": phis[0], "by_pulls": by_pulls, "to_theta": to_theta}
                terms |= {"phi": phis[k - 1]} if k else {"direction": direction} if exact else {}
            self._sweep(k, v, along, terms)
        if pulled:
            self._pulls_mean(by_pulls)
        if request.step_parameters:
            self._mean("step_parameters_gradient", own_v, tasks, (steps + 1) * self.own_count)
        return v, along

    def means(self, v: Batched, along: Batched, terms: int, row: int) -> None:
        """The gradients, from sums of `terms` arrays: v_0, and d Q / d alpha with `row` places a row of rates."""
        rows, rates = self.request.rates
        self._mean("gradient", v, terms, self.network.parameters)
        result = self.rates_gradient if row == rates else self.recording.take(rows * row)
        self._mean(result, along, terms, rows * row)
        if row != rates:
            job = struct("TaskMean", result=result, edges=self.edges, rates=self.rates_gradient, parameters=row)
            job["rate_count"] = rates
            self.recording.launch("share", rows * rates, job)

    def _vector(self) -> Batched:
        return self.recording.array(self.request.tasks, self.network.parameters)

    def _result(self, name: str, values: int) -> Batched:
        """A result of every task; a single task's has its stride too."""
        return self.recording.result(name, self.request.tasks, values)._replace(stride=values)

    def _first_phi(self, theta: Batched) -> Batched:
        """theta with the parameters that are the first step's own."""
        if not self.request.step_parameters:
            return theta
        phi = self._vector()
        self._descend(-1, theta, NONE, phi)
        return phi

    def _descend(self, k: int, phi: Batched, gradient: Batched, next_phi: Batched, theta: Batched = NONE) -> None:
        job = self._job(k, k + 1, phi=phi, gradient=gradient, next_phi=next_phi, theta=theta)
        self.recording.job("descend<T>", -(-self.network.parameters // 256), job)

    def _sweep(self, k: int, v: Batched, along: Batched, terms: dict[str, Batched]) -> None:
        """v_k, and for step k - 1 its direction and d Q / d alpha."""
        job = self._job(k - 1, k, next_v=v, **terms)
        if k:
            rows, steps = self.request.rates[0], self.request.steps
            job["along"] = along.at((k - 1) % rows * self.network.parameters, self.itemsize)
            job["adds"], job["pulls_add"] = rows == 1 and k < steps, k < steps
        elif "to_theta" in terms:
            job["last"] = terms["to_theta"] != NONE
        self.recording.job("sweep<T>", -(-self.network.parameters // 256), job)

    def _job(self, k: int, own_row: int, **members: Any) -> Any:
        """A struct Sweep with the rates of step k and the parameters that are step `own_row`'s own."""
        (start, stop), (rows, rates), parameters = self.request.adapted, self.request.rates, self.network.parameters
        sizes = {"parameters": parameters, "start": start, "stop": stop}
        arrays = {"pulls": self.pulls, "rate_count": rates, "arrays": len(self.network.edges) - 1, "edges": self.edges}
        arrays["rates"] = self.rates + max(k, 0) % rows * rates * self.itemsize
        if self.request.step_parameters:
            arrays |= {"own": self.own + own_row * self.own_count * self.itemsize, "own_at": self.own_at}
        return struct("Sweep", **sizes, **arrays, **members)

    def _pulls_mean(self, by_pulls: Batched) -> None:
        parameters = self.network.parameters
        result, means = self.recording.result("pulls_gradient", 1, 2).address, self.recording.take(2 * parameters)
        self._mean(means, by_pulls, self.request.tasks, 2 * parameters)
        job = struct("TaskMean", result=means, edges=self.edges, rates=result, parameters=parameters, rate_count=1)
        self.recording.launch("share", 2, job)

    def _mean(self, result: str | int, values: Batched, terms: int, places: int) -> None:
        """The sum of `terms` arrays of values over the number of tasks, a result by its name or anything else."""
        if isinstance(result, str):
            result = self.recording.result(result, 1, places).address
        job = struct("TaskMean", values=values, result=result, terms=terms, tasks=self.request.tasks, places=places)
        self.recording.launch("mean_over_tasks", -(-places // 32), job)
