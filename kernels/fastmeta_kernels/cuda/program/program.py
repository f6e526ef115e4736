"""The contract's functions as recordings: which passes follow each other, and where their inputs and results lie."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastmeta_kernels.cuda.layout.network import Layout, TaskData, layout
from fastmeta_kernels.cuda.layout.recording import ALIGNMENT, NONE, Batched, Recording
from fastmeta_kernels.cuda.losses import losses, policies, prototypes
from fastmeta_kernels.cuda.losses.prototypes import Embeddings
from fastmeta_kernels.cuda.program.inner_loop import InnerLoop
from fastmeta_kernels.cuda.program.passes import passes_over, tangents_over
from fastmeta_kernels.cuda.small_mlp import persistent_mlp
from fastmeta_kernels.request import Request, SetShape


class Program:
    """A request recorded at an arena's address: launches, and the slots of its inputs and results by name."""

    def __init__(self, request: Request, base: int = ALIGNMENT, sizes: Mapping[str, int] | None = None) -> None:
        self.request = request
        self.recording = Recording(request.dtype, request.tasks, base, sizes)
        if request.table:
            self.network: Layout = layout(request.table)
            self.theta = self.recording.input("theta", request.thetas, self.network.parameters)
            self.query = self._set("query", request.query)
        getattr(self, "_" + request.kind)()
        self.jobs = self.recording.finish()

    @property
    def launches(self) -> int:
        """Kernels that a call launches."""
        return len(self.recording.launches)

    def _predict(self) -> None:
        passes, run = passes_over(self.recording, self.network, self.request.tasks, self.query)
        run.values[-1] = self.recording.result("outputs", self.request.tasks, self.query.samples * self.network.outputs)
        passes.forward(self.theta, run)

    def _loss(self) -> None:
        passes, run = passes_over(self.recording, self.network, self.request.tasks, self.query)
        passes.forward(self.theta, run)
        passes.loss(run, self.recording.result("losses", self.request.tasks), False)

    def _gradient(self) -> None:
        passes, run = passes_over(self.recording, self.network, self.request.tasks, self.query)
        tasks = self.request.tasks
        gradient = self.recording.result("gradients", tasks, self.network.parameters)
        passes.gradient(self.theta, run, self.recording.result("losses", tasks), gradient)

    def _pullback(self) -> None:
        passes, run = passes_over(self.recording, self.network, self.request.tasks, self.query)
        run.deltas[-1], tasks = self.query.targets, self.request.tasks
        passes.forward(self.theta, run)
        passes.backward(self.theta, run, self.recording.result("gradients", tasks, self.network.parameters))

    def _prototype_gradient(self) -> None:
        request = self.request
        assert request.support is not None
        assert request.head is not None
        passes, run = passes_over(self.recording, self.network, self.request.tasks, self.query)
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
        prototypes.record(self.recording, tasks, embeddings, request.head, self.recording.result("losses", tasks))
        passes.backward(self.theta, run, self.recording.result("gradients", tasks, self.network.parameters))

    def _prototype_loss(self) -> None:
        request = self.request
        assert request.support is not None
        assert request.head is not None
        tasks, n, m, width = request.tasks, request.support.samples, request.query.samples, request.width
        embeddings = Embeddings(
            support=self.recording.input("support", tasks, n * width),
            query=self.recording.input("query", tasks, m * width),
            support_labels=self.recording.input("y_support", tasks, n, np.int64),
            query_labels=self.recording.input("y_query", tasks, m, np.int64),
            d_support=self.recording.result("d_support", tasks, n * width),
            d_query=self.recording.result("d_query", tasks, m * width),
            samples=n,
            queries=m,
            width=width,
        )
        losses = self.recording.result("losses", tasks)
        logits = self.recording.result("logits", tasks, m * request.head.ways)
        prototypes.record(self.recording, tasks, embeddings, request.head, losses, logits)

    def _hvp(self) -> None:
        tasks, parameters = self.request.tasks, self.network.parameters
        v = self.recording.input("v", self.request.directions, parameters)
        passes, run = passes_over(self.recording, self.network, self.request.tasks, self.query)
        product = self.recording.result("products", tasks, parameters)
        losses, gradient = self.recording.result("losses", tasks), self.recording.array(tasks, parameters)
        passes.gradient(self.theta, run, losses, gradient)
        passes.hvp(self.theta, v, run, tangents_over(self.recording, self.network, tasks, self.query), product)

    def _fisher(self) -> None:
        """J^T M J v: forward and tangents, the metric in place of the loss, and back."""
        tasks, parameters = self.request.tasks, self.network.parameters
        v = self.recording.input("v", self.request.directions, parameters)
        passes, run = passes_over(self.recording, self.network, tasks, self.query)
        dot = tangents_over(self.recording, self.network, tasks, self.query)
        passes.forward(self.theta, run)
        passes.forward_tangent(self.theta, v, run, dot)
        policies.metric(self.recording, self.network, self.query, run, dot)
        passes.backward(self.theta, run, self.recording.result("products", tasks, parameters))

    def _adapt(self) -> None:
        loop = InnerLoop(self.recording, self.network, self.request)
        losses = self.recording.result("losses", self.request.tasks, self.request.steps)
        phi = self.recording.result("phi", self.request.tasks, self.network.parameters)
        if self._persistent(None, loop, losses, NONE, phi) is None:
            loop.adapt(self.theta, self.query, losses, phi)

    def _meta_gradient(self) -> None:
        request = self.request
        assert request.support is not None
        support = self._set("support", request.support)
        loop = InnerLoop(self.recording, self.network, request)
        support_losses = self.recording.result("support_losses", request.tasks, request.steps)
        query_losses = self.recording.result("query_losses", request.tasks)
        chunks = self._persistent(support, loop, support_losses, query_losses, NONE)
        if chunks is None:
            sums = loop.meta_gradient(self.theta, support, self.query, support_losses, query_losses)
            loop.means(*sums, request.tasks, self.network.parameters)
        else:
            loop.means(*chunks)

    def _persistent(
        self, support: TaskData | None, loop: InnerLoop, support_losses: Batched, query_losses: Batched, phi: Batched
    ) -> tuple[Batched, Batched, int, int] | None:
        """The whole function by the persistent path; None where the request does not take it."""
        data = support or self.query
        arrays = {"support_losses": support_losses, "query_losses": query_losses, "phi": phi, "rates": loop.rates}
        return persistent_mlp.record(self.recording, self.network, self.request, self.theta, data, self.query, arrays)

    def _set(self, name: str, shape: SetShape) -> TaskData:
        tasks, n = self.request.tasks, shape.samples
        features, outputs = self.network.layers[0].inputs, self.network.outputs
        x = self.recording.input(f"{name}.x", tasks, n * features)
        labels = targets = logs = NONE
        if shape.loss and self.request.kind != "fisher":
            takes_labels, width = losses.targets(shape.loss, outputs)
            if takes_labels:
                labels = self.recording.input(f"{name}.y", tasks, n, np.int64)
            else:
                targets = self.recording.input(f"{name}.y", tasks, n * width)
            if losses.has_ratio(shape.loss):
                logs = self.recording.input(f"{name}.log_probs", tasks, n)
        weights = self.recording.input(f"{name}.weights", tasks, n) if shape.weighted else NONE
        return TaskData(x, labels, targets, weights, n, shape.loss, logs)
