"""The contract's functions as requests, once for every backend that runs requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastmeta_kernels.blocks import Span, by_size, mean_of_parts, one_by_one
from fastmeta_kernels.contract import (
    Array,
    InnerLoop,
    Loss,
    MetaGradientArrays,
    PrototypeHead,
    PrototypeLoss,
    TaskSet,
    loss_of,
)
from fastmeta_kernels.host import on_host
from fastmeta_kernels.layer_table import LINEAR_LOSS, PROTOTYPES, Table
from fastmeta_kernels.request import Request, SetShape
from fastmeta_kernels.seen import NAMES, Seen, again, form_of, not_asked, set_arrays

Run = Callable[[Request, dict[str, Any], Sequence[str]], list[Array]]
Keep = Callable[[Request, dict[str, Any]], Callable[[Array], Array] | None]


class Calls:
    """The functions of `contract.Backend` over `run(request, arrays, names of results)`.

    most_steps: inner steps of one program, `adapt` runs it again for more; fits: whether memory "auto" keeps the
    activations of every inner step; sums_blocks: whether a request may ask for means over equal blocks of tasks; keep:
    `run` of a request whose directions change only, if it can be prepared.
    """

    def __init__(
        self,
        run: Run,
        most_steps: int,
        fits: Callable[[Request], bool],
        sums_blocks: bool = False,
        keep: Keep = lambda request, arrays: None,
    ) -> None:
        self.run, self.most_steps, self.fits, self.sums_blocks = run, most_steps, fits, sums_blocks
        self.keep, self.seen = keep, Seen()

    def predict(self, table: Table, theta: Array, x: Array) -> Array:
        """Outputs (T, N, O); see the contract."""
        request = Request("predict", table.tobytes(), theta.dtype, len(x), SetShape(x.shape[1]), thetas=_count(theta))
        return self.run(request, {"theta": theta, "query.x": x}, ("outputs",))[0].reshape(*x.shape[:2], -1)

    def loss(self, table: Table, theta: Array, data: TaskSet) -> Array:
        """Losses (T,); see the contract."""
        return self.run(*_one_set("loss", table, theta, data), ("losses",))[0].reshape(-1)

    def gradient(self, table: Table, theta: Array, data: TaskSet) -> tuple[Array, Array]:
        """Losses (T,) and gradients (T, P); see the contract."""
        losses, gradients = self.run(*_one_set("gradient", table, theta, data), ("losses", "gradients"))
        return losses.reshape(-1), gradients

    def pullback(self, table: Table, theta: Array, x: Array, d_outputs: Array) -> Array:
        """Vector-Jacobian products (T, P); see the contract."""
        data = TaskSet(x, d_outputs, loss=Loss(LINEAR_LOSS))
        return self.run(*_one_set("pullback", table, theta, data), ("gradients",))[0]

    def hvp(self, table: Table, theta: Array, v: Array, data: TaskSet) -> Array:
        """Hessian-vector products (T, P); see the contract."""
        request, arrays = _of_directions("hvp", table, theta, data, _count(v))
        return self.run(request, arrays | {"v": v}, ("products",))[0]

    def fisher(self, table: Table, theta: Array, v: Array, data: TaskSet) -> Array:
        """Products with the Fisher matrix of policies F v (T, P); see the contract."""
        request, arrays = _of_directions("fisher", table, theta, data, _count(v))
        return self.run(request, arrays | {"v": v}, ("products",))[0]

    def products(self, kind: str, table: Table, theta: Array, data: TaskSet) -> Callable[[Array], Array]:
        """v (T, P) -> products with the Hessian or the Fisher matrix at theta (T, P); see the contract."""
        request, arrays = _of_directions(kind, table, theta, data, len(theta))
        product = self.keep(request, arrays)
        if product:
            return product
        parts = len(data.x) // len(theta)
        each = self.hvp if kind == "hvp" else self.fisher
        spread = np.repeat(theta, parts, axis=0)
        return lambda v: mean_of_parts(each(table, spread, np.repeat(v, parts, axis=0), data), parts)

    def adapt(self, table: Table, theta: Array, support: TaskSet, inner: InnerLoop) -> tuple[Array, Array]:
        """phi_S (T, P) and support losses (T, S); see the contract."""
        phi, losses = theta, []
        most = max(inner.steps, 1) if inner.pulls else self.most_steps  # theta is needed to the end
        for first in range(0, max(inner.steps, 1), most):
            steps = min(inner.steps - first, most)
            rates = inner.rates[first : first + steps] if len(inner.rates) > 1 else inner.rates
            own = inner.step_parameters
            own = own and own._replace(values=own.values[first : first + steps + 1])
            part = InnerLoop(steps, rates, inner.adapted, own, inner.pulls)
            request, arrays = _one_set("adapt", table, phi, support)
            rates_shape, adapted, blocks = _inner_shapes(part)
            request = request._replace(steps=steps, rates=rates_shape, adapted=adapted, step_parameters=blocks)
            request = request if inner.pulls is None else request._replace(pulled=True)
            phi, found = self.run(request, _with_inner_arrays(arrays, part, theta.dtype), ("phi", "losses"))
            losses.append(found.reshape(len(support.x), steps))
        return phi, np.concatenate(losses, axis=1)

    def meta_gradient(
        self,
        table: Table,
        theta: Array,
        support: TaskSet,
        query: TaskSet,
        inner: InnerLoop,
        order: int = 2,
        memory: str = "auto",
        loss_weights: Array | None = None,
        each_task: bool = False,
        each_weight: bool = False,
    ) -> MetaGradientArrays:
        """Gradient of the mean query loss after the inner loop; see the contract."""
        form = None
        plain = loss_weights is None and inner.step_parameters is None and inner.pulls is None
        if plain and not (each_task or each_weight):
            form = form_of(table, theta, support, query, inner, order, memory)
            if (request := self.seen.get(form)) is not None:
                return again(self.run, request, theta, support, query, inner)
        asked = table, theta, support, query, inner, order, memory, loss_weights, each_task, each_weight
        return self._meta_gradient(*asked, form=form)

    def _meta_gradient(
        self,
        table: Table,
        theta: Array,
        support: TaskSet,
        query: TaskSet,
        inner: InnerLoop,
        order: int,
        memory: str,
        loss_weights: Array | None,
        each_task: bool = False,
        each_weight: bool = False,
        blocks: int = 0,
        form: Any = None,
    ) -> MetaGradientArrays:
        """The same; of as many equal blocks of tasks, where there are any, means of each. form: what to keep it by."""
        counts: tuple[bool, ...] = ()
        arrays = set_arrays({"theta": theta}, "query", query)
        arrays = _with_inner_arrays(set_arrays(arrays, "support", support), inner, theta.dtype)
        if loss_weights is not None:
            counts, arrays["loss_weights"] = tuple((np.asarray(on_host(loss_weights)) != 0).tolist()), loss_weights
        rates, adapted, own = _inner_shapes(inner)
        request = Request(
            "meta_gradient", table.tobytes(), theta.dtype, len(query.x), _shape(query), _shape(support), _count(theta),
            1, inner.steps, rates, adapted, order, memory != "recompute", counts, own, inner.pulls is not None,
            each_task, each_weight and inner.steps > 0, blocks,
        )  # fmt: skip
        if memory == "auto" and not self.fits(request):
            request = request._replace(stash=False)
        if form is not None:
            self.seen.keep(form, request)
        names = list(NAMES)
        more = {"step_parameters_gradient": bool(own), "task_gradients": each_task}
        more |= {"weights_gradient": request.each_weight, "pulls_gradient": request.pulled and inner.steps > 0}
        names += [name for name, wanted in more.items() if wanted]
        found = dict(zip(names, self.run(request, arrays, names), strict=True))
        found["query_losses"] = found["query_losses"].reshape(-1)
        lead = (blocks,) if blocks else ()
        found["gradient"] = found["gradient"].reshape(*lead, -1)
        shape = *lead, *inner.rates.shape
        found["rates_gradient"] = (
            found["rates_gradient"].reshape(shape) if inner.steps else np.zeros(shape, theta.dtype)
        )
        if own:
            found["step_parameters_gradient"] = found["step_parameters_gradient"].reshape(*lead, inner.steps + 1, -1)
        elif inner.step_parameters is not None:
            found["step_parameters_gradient"] = np.zeros((*lead, inner.steps + 1, 0), theta.dtype)
        if inner.pulls is not None:
            found["pulls_gradient"] = np.reshape(found.get("pulls_gradient", np.zeros(2, theta.dtype)), 2)
        if each_weight and not request.each_weight:
            found["weights_gradient"] = np.zeros(support.x.shape[:2], theta.dtype)
        return MetaGradientArrays(**(not_asked(theta.dtype) | found))

    def block_gradients(
        self,
        table: Table,
        theta: Array,
        support: TaskSet,
        query: TaskSet,
        inner: InnerLoop,
        blocks: Sequence[Span],
        order: int = 2,
        memory: str = "auto",
        loss_weights: Array | None = None,
    ) -> MetaGradientArrays:
        """Means over the tasks of each block; see the contract."""

        def of(support: TaskSet, query: TaskSet, blocks: int = 0) -> MetaGradientArrays:
            arguments = table, theta, support, query, inner, order, memory, loss_weights
            return self._meta_gradient(*arguments, blocks=blocks)

        return (by_size if self.sums_blocks else one_by_one)(of, support, query, blocks)

    def prototype_loss(
        self, support: Array, y_support: Array, query: Array, y_query: Array, head: PrototypeHead
    ) -> PrototypeLoss:
        """Prototypical networks' loss of embeddings, and its gradients; see the contract."""
        (tasks, samples, width), queries = support.shape, query.shape[1]
        request = Request("prototype_loss", b"", support.dtype, tasks, SetShape(queries), SetShape(samples))
        arrays = {"support": support, "y_support": y_support, "query": query, "y_query": y_query}
        names = ("losses", "logits", "d_support", "d_query")
        losses, logits, *slopes = self.run(request._replace(head=head, width=width), arrays, names)
        d_support, d_query = (slope.reshape(of.shape) for slope, of in zip(slopes, (support, query), strict=True))
        return PrototypeLoss(losses.reshape(-1), logits.reshape(tasks, queries, head.ways), d_support, d_query)

    def prototype_gradient(
        self, table: Table, theta: Array, data: TaskSet, support: int, head: PrototypeHead
    ) -> tuple[Array, Array]:
        """Losses (T,) and gradients (T, P) of a network that embeds; see the contract."""
        request, arrays = _one_set("prototype_gradient", table, theta, data._replace(loss=Loss(PROTOTYPES)))
        request = request._replace(support=SetShape(support), head=head)
        losses, gradients = self.run(request, arrays, ("losses", "gradients"))
        return losses.reshape(-1), gradients


def _one_set(kind: str, table: Table, theta: Array, data: TaskSet) -> tuple[Request, dict[str, Any]]:
    request = Request(kind, table.tobytes(), theta.dtype, len(data.x), _shape(data), thetas=_count(theta))
    return request, set_arrays({"theta": theta}, "query", data)


def _of_directions(kind: str, table: Table, theta: Array, data: TaskSet, count: int) -> tuple[Request, dict[str, Any]]:
    """The request of products with `count` directions, and its arrays but for these."""
    request, arrays = _one_set(kind, table, theta, data._replace(log_probs=None) if kind == "fisher" else data)
    if kind == "fisher":
        del arrays["query.y"]
    return request._replace(directions=count), arrays


def _with_inner_arrays(arrays: dict[str, Any], inner: InnerLoop, dtype: Any) -> dict[str, Any]:
    """`arrays` with those of an inner loop."""
    arrays["rates"] = inner.rates if inner.steps else np.zeros((1, 1), dtype)
    own = inner.step_parameters
    if own is not None and own.blocks:
        arrays["step_parameters"] = own.values
    if inner.pulls is not None:
        arrays["pulls"] = np.array([inner.pulls], dtype)
    return arrays


def _inner_shapes(inner: InnerLoop) -> tuple[tuple[int, int], tuple[int, int], tuple[int, ...]]:
    """What a request says of an inner loop: its rates' shape, what adapts, and which arrays are each step's own."""
    rates = inner.rates.shape if inner.steps else (1, 1)
    start, stop = inner.adapted
    own = inner.step_parameters
    return rates, (int(start), int(stop)), () if own is None else tuple(map(int, own.blocks))


def _shape(data: TaskSet) -> SetShape:
    return SetShape(data.x.shape[1], data.weights is not None, loss_of(data))


def _count(theta: Array) -> int:
    return len(theta) if theta.ndim > 1 else 1
