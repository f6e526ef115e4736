"""Meta-gradients of which nothing more is asked: their requests are remembered by all that such calls can differ in.

To make a request, and to look for its program by all that it says, takes longer than what a program of a few tasks
does between two calls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from fastmeta_kernels.contract import Array, InnerLoop, MetaGradientArrays, TaskSet
from fastmeta_kernels.layer_table import Table
from fastmeta_kernels.request import Request

MOST = 64  # requests
NAMES = "query_losses", "support_losses", "gradient", "rates_gradient"  # results
Form = tuple[Any, ...]


class Seen:
    """Requests by the forms of calls."""

    def __init__(self) -> None:
        self.requests: dict[Form, Request] = {}

    def get(self, form: Form) -> Request | None:
        """The request of a form that was seen."""
        return self.requests.get(form)

    def keep(self, form: Form, request: Request) -> None:
        """Remember it."""
        if len(self.requests) >= MOST:
            self.requests = {}
        self.requests[form] = request

    def of_parts(
        self, table: Table, theta: Array, support: TaskSet, query: TaskSet, parts: int, inner: InnerLoop, order: int
    ) -> tuple[Request, dict[str, Any]] | None:
        """The request of a meta-gradient of one of equal parts of a support and a query set, and the arrays of all.

        None where it was not seen.
        """
        first, last = (data._replace(x=data.x[: len(data.x) // parts]) for data in (support, query))
        request = self.get(form_of(table, theta, first, last, inner, order, "auto"))
        if request is None:
            return None
        return request, set_arrays(set_arrays({"rates": inner.rates}, "query", query), "support", support)


def form_of(
    table: Table, theta: Array, support: TaskSet, query: TaskSet, inner: InnerLoop, order: int, memory: str
) -> Form:
    """All that the request of a plain meta-gradient depends on."""
    sets = (
        support.x.shape, support.y.dtype, support.weights is None, support.loss,
        query.x.shape, query.y.dtype, query.weights is None, query.loss,
    )  # fmt: skip
    return table.tobytes(), theta.dtype, theta.ndim, inner.steps, inner.rates.shape, inner.adapted, order, memory, sets


def again(
    run: Callable[..., list[Array]], request: Request, theta: Array, support: TaskSet, query: TaskSet, inner: InnerLoop
) -> MetaGradientArrays:
    """The results of a request that was seen."""
    arrays = set_arrays(set_arrays({"theta": theta}, "query", query), "support", support)
    arrays["rates"] = inner.rates if inner.steps else np.zeros((1, 1), theta.dtype)
    losses, support_losses, gradient, rates = run(request, arrays, NAMES)
    rates = rates.reshape(inner.rates.shape) if inner.steps else np.zeros(inner.rates.shape, theta.dtype)
    return MetaGradientArrays(losses.reshape(-1), support_losses, gradient.reshape(-1), rates, **not_asked(theta.dtype))


def set_arrays(arrays: dict[str, Any], name: str, data: TaskSet) -> dict[str, Any]:
    """`arrays` with those of a set."""
    arrays[f"{name}.x"] = data.x
    arrays[f"{name}.y"] = data.y
    if data.weights is not None:
        arrays[f"{name}.weights"] = data.weights
    if data.log_probs is not None:
        arrays[f"{name}.log_probs"] = data.log_probs
    return arrays


@lru_cache
def not_asked(dtype: Any) -> dict[str, Array]:
    """What a meta-gradient has none of, in the dtype of the call."""
    names = "step_parameters_gradient", "task_gradients", "weights_gradient"
    return dict.fromkeys(names, np.zeros((0, 0), dtype)) | {"pulls_gradient": np.zeros(0, dtype)}
