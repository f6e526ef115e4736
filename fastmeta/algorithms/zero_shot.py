"""Zero-shot learning: a learned map takes class attributes to prototypes (Snell, Swersky & Zemel 2017, section 2.7)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastmeta import checks, inputs
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta.gradients import prototypes
from fastmeta.learning.adapted_model import AdaptedModel
from fastmeta.learning.learner import Learner
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch
from fastmeta_kernels.contract import Array, PrototypeHead, PrototypeLoss


class ZeroShot(Learner):
    """Learn an embedding of samples and a map of class attributes (arXiv 1703.05175, section 2.7).

    net: embeds samples. attribute_net: maps the attributes (A,) of a class to its prototype, of net's width.
    metric, scale, device: as in ProtoNet. Tasks carry `attributes` (T, K, A); their support sets are not used.
    Learns "theta" and "map", the parameters of the two networks.

    Raises ValueError or TypeError where the networks or the tasks do not fit, DivergenceError where training does.

    >>> from fastmeta import MLP, tasks
    >>> learner = ZeroShot(MLP((10, 10)), MLP((6, 10)), device="numpy")
    >>> learner.fit(tasks.AttributeClasses(shots=0), iterations=2).evaluate(tasks.AttributeClasses(shots=0), 4).measure
    'accuracy'
    """

    gpu_parameters = ("theta", "map")

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

    def initial_parameters(self, theta: Array, seed: int = 0) -> dict[str, Array]:
        """theta (P,) of net and map (P',) of attribute_net."""
        return {"theta": theta, "map": self.attribute_net.init(seed, str(theta.dtype))}

    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The mean query loss, and its gradient by theta and map: mapped attributes are a support set of one shot."""
        backend, attributes = devices.backend(self.device), task_attributes(batch)
        x = inputs.samples(self.net, batch.x_query, self.theta.dtype, "x_query", self.device)
        a = inputs.samples(self.attribute_net, attributes, self.theta.dtype, "attributes")
        z = backend.predict(self.net.table, self.theta, x)
        c = backend.predict(self.attribute_net.table, self.parameters["map"], a)
        found = one_shot_loss(backend, c, z, batch.y_query, PrototypeHead(c.shape[1], self.metric, self.scale))
        return float(found.losses.mean(dtype=np.float64)), {
            "theta": backend.pullback(self.net.table, self.theta, x, found.d_query).mean(axis=0),
            "map": backend.pullback(self.attribute_net.table, self.parameters["map"], a, found.d_support).mean(axis=0),
        }

    @quiet
    def adapt(self, attributes: ArrayLike) -> PrototypeClassifier:
        """A classifier of samples into the classes that attributes (K, A) describe; or of (T, K, A)."""
        given = inputs.array("attributes", attributes)
        a = inputs.samples(self.attribute_net, given, self.theta.dtype, "attributes")
        c = self.attribute_net.predict(self.parameters["map"], a, device=self.device)
        head = PrototypeHead(c.shape[1], self.metric, self.scale)
        together = c.shape[1] if self.batch_norm else 0
        model = PrototypeClassifier(self.net, self.theta, True, self.device, None, together, prototypes=c, head=head)
        return model._replace(preparation=self.preparation)

    def query_outputs(self, batch: Batch) -> Array:
        """Logits (T, M, K) of the query sets."""
        return self.adapt(task_attributes(batch))._replace(together=0).outputs(batch.x_query)


class PrototypeClassifier(AdaptedModel, kw_only=True):
    """`outputs` are the similarities of embedded samples to `prototypes` (T, K, D)."""

    algorithm: ClassVar = "ZeroShot"
    prototypes: Array
    head: PrototypeHead

    @quiet
    def _outputs(self, x: ArrayLike) -> Array:
        """Logits (M, K) of x (M, ...), or (T, M, K) of x (T, M, ...) where there are T sets of classes."""
        given = inputs.array("x", x)
        self._expect_together(given)
        x = inputs.samples(self.net, given, self.theta.dtype)
        if len(x) != len(self.prototypes):
            raise ValueError(f"x has {len(x)} tasks but the model was adapted to {len(self.prototypes)}.")
        z = self.net.predict(self.theta, x, device=self.device)
        found = prototypes.logits(self.prototypes, _own_classes(self.prototypes), z, self.head, self.device)
        return found[0] if inputs.is_single(self.net, given) else found

    def distance(self, x: Any) -> Array:
        """How far each sample is from the nearest prototype, (M,) or (T, M), as `PrototypeModel.distance`."""
        return prototypes.nearest(self.outputs(x), self.head)


def one_shot_loss(backend: Any, c: Array, z: Array, y_query: Array, head: PrototypeHead) -> PrototypeLoss:
    """The loss of query embeddings z with prototypes c, which count as embeddings of one sample a class."""
    if y_query.dtype.kind == "f":
        raise ValueError(f"y_query of dtype {y_query.dtype} must be integer labels.")
    prototypes.check_queries(y_query, head.ways)
    y = np.require(y_query, np.int64, ("C", "A"))
    found: PrototypeLoss = backend.prototype_loss(c, _own_classes(c), z, y, head)
    if not np.isfinite(found.losses).all():
        raise checks.DivergenceError(
            "the loss is not finite: the parameters or the data are too large. Lower the optimizer's rate."
        )
    return found


def check_attribute_net(attribute_net: Network, net: Network) -> Network:
    """`attribute_net` where it maps to the width of net's embeddings."""
    if not isinstance(attribute_net, Network):
        raise TypeError(f"attribute_net={attribute_net!r} must be a Network, such as MLP((6, 64)).")
    if attribute_net.outputs != net.outputs:
        raise ValueError(f"attribute_net={attribute_net} must have net's {net.outputs} outputs.")
    return attribute_net


def task_attributes(batch: Batch) -> Array:
    """The attributes (T, K, A) of a batch; ValueError where it has none, or has targets or weights."""
    if batch.attributes is None:
        raise ValueError(
            "the tasks have no attributes. Give Batch(..., attributes=...), as tasks.AttributeClasses does."
        )
    if batch.y_query.dtype.kind == "f" or batch.support_weights is not None or batch.query_weights is not None:
        raise ValueError("classes with attributes need integer labels and samples without weights; these have others.")
    return batch.attributes


def _own_classes(c: Array) -> Array:
    return np.tile(np.arange(c.shape[1]), (len(c), 1))
