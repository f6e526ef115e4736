"""The contract's functions as recordings: which passes follow each other, and where their inputs and results lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastmeta_kernels.cuda import persistent_mlp, prototypes
from fastmeta_kernels.cuda.layout import ActivationSet, Layout, activation_set, layout
from fastmeta_kernels.cuda.passes import Passes, TaskData
from fastmeta_kernels.cuda.prototypes import Embeddings
from fastmeta_kernels.cuda.recording import ALIGNMENT, NONE, Array, Recording, struct
from fastmeta_kernels.cuda.request import Request, SetShape, Slot


class Program:
    """A request recorded at an arena's address: launches, and the slots of its inputs and results by name."""

    def __init__(self, request: Request, base: int = ALIGNMENT, sizes: Mapping[str, int] | None = None) -> None:
        self.request = request
        self.recording = Recording(request.dtype, base, sizes)
        self.slots: dict[str, Slot] = {}
        if request.table:
            self.network: Layout = layout(request.table)
            self.theta = self._input("theta", request.thetas, self.network.parameters)
            self.query = self._set("query", request.query)
        getattr(self, "_" + request.kind)()

    @property
    def launches(self) -> int:
        """Kernels that a call launches."""
        return len(self.recording.launches)

    def _predict(self) -> None:
        passes, run = self._passes(self.query)
        run.values[-1] = self._result("outputs", self.request.tasks, self.query.samples * self.network.outputs)
        passes.forward(self.theta, run)

    def _loss(self) -> None:
        passes, run = self._passes(self.query)
        passes.forward(self.theta, run)
        passes.loss(run, self._result("losses", self.request.tasks), False)

    def _gradient(self) -> None:
        passes, run = self._passes(self.query)
        tasks = self.request.tasks
        gradient = self._result("gradients", tasks, self.network.parameters)
        passes.gradient(self.theta, run, self._result("losses", tasks), gradient)

    def _pullback(self) -> None:
        passes, run = self._passes(self.query)
        tasks, size = self.request.tasks, self.query.samples * self.network.outputs
        run.deltas[-1] = self._input("d_outputs", tasks, size)
        passes.forward(self.theta, run)
        passes.backward(self.theta, run, self._result("gradients", tasks, self.network.parameters))

    def _prototype_gradient(self) -> None:
        request = self.request
        assert request.support is not None
        assert request.head is not None
        passes, run = self._passes(self.query)
        tasks, n, width = request.tasks, request.support.samples, self.network.outputs
        z, dz = (array.at(n * width, request.dtype.itemsize) for array in (run.values[-1], run.deltas[-1]))
        labels = self.query.labels
        embeddings = Embeddings(
            support=run.values[-1],
            query=z,
            support_labels=labels,
            query_labels=labels.at(n, 8),
            d_support=run.deltas[-1],
            d_query=dz,
            samples=n,
            queries=self.query.samples - n,
            width=width,
        )
        passes.forward(self.theta, run)
        prototypes.record(self.recording, tasks, embeddings, request.head, self._result("losses", tasks))
        passes.backward(self.theta, run, self._result("gradients", tasks, self.network.parameters))

    def _prototype_loss(self) -> None:
        request = self.request
        assert request.support is not None
        assert request.head is not None
        tasks, n, m, width = request.tasks, request.support.samples, request.query.samples, request.width
        embeddings = Embeddings(
            support=self._input("support", tasks, n * width),
            query=self._input("query", tasks, m * width),
            support_labels=self._input("y_support", tasks, n, np.int64),
            query_labels=self._input("y_query", tasks, m, np.int64),
            d_support=self._result("d_support", tasks, n * width),
            d_query=self._result("d_query", tasks, m * width),
            samples=n,
            queries=m,
            width=width,
        )
        losses = self._result("losses", tasks)
        logits = self._result("logits", tasks, m * request.head.ways)
        prototypes.record(self.recording, tasks, embeddings, request.head, losses, logits)

    def _hvp(self) -> None:
        tasks, parameters = self.request.tasks, self.network.parameters
        v = self._input("v", self.request.directions, parameters)
        passes, run = self._passes(self.query)
        product = self._result("products", tasks, parameters)
        passes.gradient(self.theta, run, self._result("losses", tasks), self.recording.array(tasks, parameters))
        passes.hvp(self.theta, v, run, self._tangents(self.query), product)

    def _adapt(self) -> None:
        request, parameters = self.request, self.network.parameters
        self._inner_loop_inputs()
        losses = self._result("losses", request.tasks, request.steps)
        phi = self._result("phi", request.tasks, parameters)
        if self._persistent(None, losses, NONE, phi):
            return
        gradient = self.recording.array(request.tasks, parameters)
        passes, run = self._passes(self.query)
        for k in range(request.steps):
            start = phi if k else self.theta
            passes.gradient(start, run, losses.at(k, request.dtype.itemsize), gradient)
            self._descend(k, start, gradient, phi)

    def _meta_gradient(self) -> None:
        request, parameters = self.request, self.network.parameters
        assert request.support is not None
        tasks, steps, exact = request.tasks, request.steps, request.order == 2
        keeps = request.stash or not exact
        support = self._set("support", request.support)
        self._inner_loop_inputs()
        support_losses = self._result("support_losses", tasks, steps)
        query_losses = self._result("query_losses", tasks)
        if self._persistent(support, support_losses, query_losses, NONE):
            return
        v = self.recording.array(tasks, parameters)

        passes, run = self._passes(support)
        phis, gradients, runs = [self.theta], list[Array](), list[ActivationSet]()
        for k in range(steps):
            fresh = k == 0 or exact
            phis.append(self.recording.array(tasks, parameters) if fresh else phis[-1])
            gradients.append(self.recording.array(tasks, parameters) if keeps or k == 0 else gradients[0])
            passes, run = self._passes(support) if k and exact and keeps else (passes, run)
            runs.append(run)
            passes.gradient(phis[k], run, support_losses.at(k, request.dtype.itemsize), gradients[k])
            self._descend(k, phis[k], gradients[k], phis[k + 1])
        query_passes, query_run = self._passes(self.query)
        query_passes.gradient(phis[-1], query_run, query_losses, v)

        if exact and steps:
            direction, product = (self.recording.array(tasks, parameters) for _ in range(2))
            dot = self._tangents(support)
            unused = self.recording.array(tasks, 1)
            self._sweep(steps - 1, v, NONE, direction)
        for k in reversed(range(steps)):
            if exact and not keeps and k < steps - 1:
                passes.gradient(phis[k], runs[k], unused, gradients[k])
            self._rates_gradient(k, gradients[k], v)
            if exact:
                passes.hvp(phis[k], direction, runs[k], dot, product)
                self._sweep(k - 1, v, product, direction if k else NONE)
        self._mean("gradient", v, tasks)

    def _persistent(self, support: TaskData | None, support_losses: Array, query_losses: Array, phi: Array) -> bool:
        """The whole function by the persistent path; False where the network does not take it."""
        data = support or self.query
        arrays = {"support_losses": support_losses, "query_losses": query_losses, "phi": phi, "rates": self.rates}
        sums = persistent_mlp.record(self.recording, self.network, self.request, self.theta, data, self.query, arrays)
        if sums is None:
            return False
        if support is not None:
            self._add_chunks(*sums)
        return True

    def _add_chunks(self, chunks: int, gradient: Array, along: Array, places: int) -> None:
        """Means over tasks from the chunks' sums."""
        (rows, rates), parameters = self.request.rates, self.network.parameters
        self._mean("gradient", gradient, chunks)
        shared = rates not in (1, parameters)
        result = self.recording.take(places) if shared else self.rates_gradient
        sizes = {"terms": chunks, "tasks": self.request.tasks, "parameters": places, "stop": places}
        self.recording.launch("mean_over_tasks", -(-places // 32), struct("TaskMean", a=along, result=result, **sizes))
        for row in range(rows if shared else 0):
            address = result + row * parameters * self.request.dtype.itemsize
            to = self._row(self.rates_gradient, row)
            sizes = {"parameters": parameters, "rate_count": rates}
            job = struct("TaskMean", result=address, edges=self.edges, rates=to, **sizes)
            self.recording.launch("share", rates, job)

    def _passes(self, data: TaskData) -> tuple[Passes, ActivationSet]:
        tasks = self.request.tasks
        run = activation_set(self.recording, self.network, tasks, data.samples, tangents=False)
        run.values[0] = data.x
        return Passes(self.recording, self.network, tasks, data), run

    def _tangents(self, data: TaskData) -> ActivationSet:
        return activation_set(self.recording, self.network, self.request.tasks, data.samples, tangents=True)

    def _input(self, name: str, tasks: int, values: int, dtype: Any = None) -> Array:
        return self._named("inputs", name, tasks, values, np.dtype(dtype or self.request.dtype))

    def _result(self, name: str, tasks: int, values: int = 1) -> Array:
        return self._named("results", name, tasks, values, self.request.dtype)

    def _named(self, region: str, name: str, tasks: int, values: int, dtype: np.dtype[Any]) -> Array:
        address = self.recording.take(tasks * values, dtype.itemsize, region)
        self.slots[name] = Slot(address - self.recording.base, (tasks, values), dtype)
        return Array(address, values if tasks > 1 else 0)

    def _set(self, name: str, shape: SetShape) -> TaskData:
        tasks, n = self.request.tasks, shape.samples
        features, outputs = self.network.layers[0].inputs, self.network.outputs
        x = self._input(f"{name}.x", tasks, n * features)
        labels = self._input(f"{name}.y", tasks, n, np.int64) if shape.labelled else NONE
        targets = NONE if shape.labelled else self._input(f"{name}.y", tasks, n * outputs)
        weights = self._input(f"{name}.weights", tasks, n) if shape.weighted else NONE
        return TaskData(x, labels, targets, weights, n)

    def _inner_loop_inputs(self) -> None:
        rows, rates = self.request.rates
        self.rates = self._input("rates", 1, rows * rates).address
        self.edges = self._input("edges", 1, len(self.network.edges), np.int64).address
        self.dalpha = self.recording.take(self.network.parameters)
        if self.request.kind == "meta_gradient":
            self.rates_gradient = self._result("rates_gradient", 1, rows * rates).address

    def _row(self, address: int, k: int) -> int:
        rows, rates = self.request.rates
        return address + k % rows * rates * self.request.dtype.itemsize

    def _sweep_job(self, k: int, **members: Any) -> tuple[Any, int]:
        start, stop = self.request.adapted
        blocks = -(-self.network.parameters // 256)
        sizes = {"parameters": self.network.parameters, "start": start, "stop": stop, "blocks": blocks}
        arrays = {"rate_count": self.request.rates[1], "arrays": len(self.network.edges) - 1, "edges": self.edges}
        return struct("Sweep", rates=self._row(self.rates, k), **sizes, **arrays, **members), blocks

    def _descend(self, k: int, phi: Array, gradient: Array, next_phi: Array) -> None:
        job, blocks = self._sweep_job(k, phi=phi, gradient=gradient, next_phi=next_phi)
        self.recording.launch("descend", self.request.tasks * blocks, job)

    def _sweep(self, k: int, v: Array, product: Array, direction: Array) -> None:
        """v -= product, and the direction of step k."""
        job, blocks = self._sweep_job(max(k, 0), v=v, product=product, next_v=v, direction=direction)
        self.recording.launch("sweep", self.request.tasks * blocks, job)

    def _rates_gradient(self, k: int, gradient: Array, v: Array) -> None:
        (start, stop), (rows, rates) = self.request.adapted, self.request.rates
        parameters = self.network.parameters
        job = struct(
            "TaskMean",
            a=gradient,
            b=v,
            result=self.dalpha,
            edges=self.edges,
            rates=self._row(self.rates_gradient, k),
            terms=self.request.tasks,
            tasks=self.request.tasks,
            parameters=parameters,
            start=start,
            stop=stop,
            rate_count=rates,
            adds=rows == 1 and k < self.request.steps - 1,
        )
        self.recording.launch("mean_over_tasks", -(-parameters // 32), job)
        self.recording.launch("share", -(-parameters // 256) if rates == parameters else rates, job)

    def _mean(self, name: str, values: Array, terms: int) -> None:
        """A result: the sum of (terms, P) values over the number of tasks."""
        parameters, tasks = self.network.parameters, self.request.tasks
        result = self._result(name, 1, parameters).address
        sizes = {"terms": terms, "tasks": tasks, "parameters": parameters, "stop": parameters}
        job = struct("TaskMean", a=values, result=result, **sizes)
        self.recording.launch("mean_over_tasks", -(-parameters // 32), job)
