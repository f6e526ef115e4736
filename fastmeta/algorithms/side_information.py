"""Few-shot learning with side information: prototypes mix support means and mapped attributes (Xing et al. 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastmeta import device as devices
from fastmeta import inputs
from fastmeta.algorithms.zero_shot import (
    PrototypeClassifier,
    check_attribute_net,
    one_shot_loss,
    task_attributes,
)
from fastmeta.floating import quiet
from fastmeta.gradients import prototypes
from fastmeta.learning.learner import Learner
from fastmeta.learning.support import support
from fastmeta.networks.layers import Linear
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch
from fastmeta_kernels.contract import Array, PrototypeHead


class SideInformation(Learner):
    """Prototypes c_k = g_k s_k + (1 - g_k) f(a_k): support mean s_k, attributes a_k, gate g_k = sigmoid(w a_k + b).

    Adaptive cross-modal few-shot learning (arXiv 1902.07104, equations 4 to 6) with a linear gate. net embeds
    samples, attribute_net is f, of the same width; metric, scale, device as in ProtoNet. Tasks carry
    `attributes` (T, K, A). Learns "theta", "map" (of f) and "gate", w and b (A + 1,), which starts at g = 1/2.
    Batch norm is transductive; support and query sets pass by themselves.

    Raises ValueError or TypeError where the networks or the tasks do not fit, DivergenceError where training does.

    >>> from fastmeta import MLP, tasks
    >>> learner = SideInformation(MLP((10, 10)), MLP((6, 10)), device="numpy")
    >>> learner.fit(tasks.AttributeClasses(), iterations=2).evaluate(tasks.AttributeClasses(), 4).measure
    'accuracy'
    """

    gpu_parameters = ("theta", "map", "gate")

    def __init__(
        self,
        net: Network,
        attribute_net: Network,
        metric: str = "euclidean",
        scale: float = 10.0,
        device: str = "cpu",
    ) -> None:
        super().__init__(net, device)
        self.attribute_net = check_attribute_net(attribute_net, net)
        self.metric, self.scale = prototypes.similarity(metric, scale)
        self._gate_net = Network([Linear(1)], attribute_net.input_shape)

    def initial_parameters(self, theta: Array, seed: int = 0) -> dict[str, Array]:
        """theta (P,) of net, map (P',) of attribute_net and gate (A + 1,)."""
        gate = np.zeros(self._gate_net.parameter_count, theta.dtype)
        return {"theta": theta, "map": self.attribute_net.init(seed, str(theta.dtype)), "gate": gate}

    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The mean query loss, and its gradient by theta, map and gate."""
        backend, dtype = devices.backend(self.device), self.theta.dtype
        x = inputs.samples(self.net, batch.x_support, dtype, "x_support", self.device)
        x_query = inputs.samples(self.net, batch.x_query, dtype, "x_query", self.device)
        a = inputs.samples(self.attribute_net, task_attributes(batch), dtype, "attributes")
        member, s, f, g = self._parts(x, batch.y_support, a)
        z = backend.predict(self.net.table, self.theta, x_query)
        head = PrototypeHead(a.shape[1], self.metric, self.scale)
        found = one_shot_loss(backend, g * s + (1 - g) * f, z, batch.y_query, head)
        dc = found.d_support
        d_logit = (dc * (s - f)).sum(axis=2, keepdims=True) * g * (1 - g)
        d_embedded = member.swapaxes(1, 2) @ (g * dc)
        theta = backend.pullback(self.net.table, self.theta, x, d_embedded)
        theta += backend.pullback(self.net.table, self.theta, x_query, found.d_query)
        return float(found.losses.mean(dtype=np.float64)), {
            "theta": theta.mean(axis=0),
            "map": backend.pullback(self.attribute_net.table, self.parameters["map"], a, (1 - g) * dc).mean(axis=0),
            "gate": backend.pullback(self._gate_net.table, self.parameters["gate"], a, d_logit).mean(axis=0),
        }

    @quiet
    def adapt(self, x_support: Any, y_support: Any, attributes: ArrayLike) -> PrototypeClassifier:
        """A classifier from samples x (N, ...), labels (N,) and class attributes (K, A); or with a leading T."""
        given = support(x_support, y_support, self.preparation)
        lead = given.x.shape[: 1 if inputs.is_single(self.net, given.x) else 2]
        x = inputs.samples(self.net, given.x, self.theta.dtype, "x_support")
        y = prototypes.labels(given.y, "y_support", lead).reshape(x.shape[:2])
        a = inputs.samples(self.attribute_net, attributes, self.theta.dtype, "attributes")
        _, s, f, g = self._parts(x, y, a)
        head = PrototypeHead(a.shape[1], self.metric, self.scale)
        c = g * s + (1 - g) * f
        together = x.shape[1] if self.batch_norm else 0
        model = PrototypeClassifier(self.net, self.theta, True, self.device, None, together, prototypes=c, head=head)
        return given.told(model)

    @quiet
    def gates(self, attributes: ArrayLike) -> Array:
        """g (T, K): how much of each class's prototype its samples are, for attributes (T, K, A)."""
        a = inputs.samples(self.attribute_net, attributes, self.theta.dtype, "attributes")
        logits = self._gate_net.predict(self.parameters["gate"], a, device=self.device)
        gates: Array = (1 + np.tanh(logits[:, :, 0] / 2)) / 2
        return gates

    def query_outputs(self, batch: Batch) -> Array:
        """Logits (T, M, K) of the query sets."""
        model = self.adapt(batch.x_support, batch.y_support, task_attributes(batch))
        return model._replace(together=0).outputs(batch.x_query)

    def _parts(self, x: Array, y: Array, a: Array) -> tuple[Array, Array, Array, Array]:
        """The averaging matrix (T, K, N), support means and mapped attributes (T, K, D), gates (T, K, 1)."""
        if len(x) != len(a):
            raise ValueError(f"x_support has {len(x)} tasks but attributes are of {len(a)}. Give both the same.")
        if y.dtype.kind == "f" or prototypes.ways(y) != a.shape[1]:
            raise ValueError(
                f"y_support must be integer labels of as many classes as attributes describe, {a.shape[1]}."
            )
        member = prototypes.averaging(y, a.shape[1], x.dtype)
        z = self.net.predict(self.theta, x, device=self.device)
        f = self.attribute_net.predict(self.parameters["map"], a, device=self.device)
        return member, member @ z, f, self.gates(a)[:, :, None]
