"""The sweep back through the inner steps as a schedule: v_k = v_{k+1} - H_k m alpha_k v_{k+1} + w_k grad Q(phi_k).

With one rate alpha for everything, H (alpha v) = alpha (H v), and the rate's gradient is minus the derivative of the
support loss along v, which the tangents of the outputs give: no copy of v, and no gradient, is needed.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout.instruction import NONE, G, at
from fastmeta_kernels.cpu.layout.places import ADDED
from fastmeta_kernels.cpu.program import inner_loop, parameters, pulls
from fastmeta_kernels.cpu.program.choices import Choices
from fastmeta_kernels.cpu.program.inner_loop import Adaptation
from fastmeta_kernels.cpu.program.schedule import Schedule
from fastmeta_kernels.cpu.program.vectors import Vectors


def sweep_back(
    schedule: Schedule, choices: Choices, vectors: Vectors, found: Adaptation, v: int, query_set: int
) -> None:
    """Write the sweep from v_S, which lies at v, to v_0 in its place, and the gradient of the rates."""
    request = choices.request
    take_own(schedule, choices, v, request.steps)
    if request.steps == 0:
        return
    u, r = schedule.room(choices.query.packed), schedule.room(found.plan.set_size)
    to_theta = schedule.room(choices.query.packed if request.pulled else 0)
    _segments(schedule, choices, vectors, found, v, u, to_theta)
    if request.pulled:
        schedule.run("zeros", p=to_theta)
    for k in range(request.steps - 1, -1, -1):
        here = vectors.at_step(k)
        if request.order == 2 and not choices.keeps_sets and k < request.steps - 1:  # the last step's set is there
            if choices.direct:
                schedule.run("transposes", **here)
            schedule.run("gradient", **here)
        if choices.direct:
            schedule.run("tangents", sign=-1, u=v, r=r, **(here | {"g": v, "x": query_set}))
        else:
            schedule.run("products", **here)
            schedule.run("rates gradient", sign=-1, **here)
            if request.order == 2:
                _hessian(schedule, choices, v, u, r, here, last=k == request.steps - 1)
            elif request.pulled:
                schedule.run("rates", **here)
                schedule.run("scale", u=u, **here)
            schedule.run("pull back", u=u, **(here | {"g": v}))
        if request.query_loss_steps and request.query_loss_steps[k]:
            schedule.run("query loss", p=here["p"], s=query_set, inner_step=k)
            schedule.run("added", p=here["p"], s=query_set, g=v)
        take_own(schedule, choices, v, k)
    schedule.run("to theta", p=v)
    if request.order == 2 and found.body:
        body = found.body
        schedule.segment("body gradient", lambda: body.backward(ADDED))
        schedule.run("body gradient", p=vectors.theta, s=vectors.features, g=v)


def take_own(schedule: Schedule, choices: Choices, v: int, k: int) -> None:
    """What v_k says of the parameters that are step k's own is their gradient and goes no further."""
    schedule.run("own gradient", g=v, rate_row=k)
    schedule.run("own zeros", g=v, rate_row=choices.request.steps + 1)  # the row behind the last holds zeros


def _hessian(schedule: Schedule, choices: Choices, v: int, u: int, r: int, here: dict[str, int], last: bool) -> None:
    """v -= H u with u = m alpha_k v, and what it does to the features of a body."""
    schedule.run("rates", **here)
    schedule.run("scale", u=u, **here)
    schedule.run("tangents", sign=-1, u=u, r=r, **(here | {"g": v}))
    if choices.head_only:
        schedule.run("first features" if last else "features", sign=-1, u=u, r=r, **here)


def _segments(
    schedule: Schedule, choices: Choices, vectors: Vectors, found: Adaptation, v: int, u: int, to_theta: int
) -> None:
    code, query = schedule.code, choices.query
    passes = found.passes
    to_rates, v_at = job.RATES_GRADIENTS, at(op.ZERO, v)
    u_at = at(op.ZERO, u)

    def products() -> None:
        if choices.per_parameter:
            parameters.multiply(code, query, choices.adapted, at(G), v_at, u_at)

    def rates_gradient() -> None:
        if choices.per_parameter:
            parameters.move(code, query.blocks, to_rates, u_at, parameters.ADD, choices.parameters)
        else:
            parameters.rates_gradient(code, query, choices.request.rates[1], choices.adapted, at(G), v_at)

    def pull_back() -> None:
        if choices.request.pulled:
            places = at(op.U), at(G), at(op.P), at(op.ZERO, vectors.theta), at(op.ZERO, to_theta)
            pulls.pull_back(code, choices.adapted, *places, choices.request.order == 2)

    def to_theta_too() -> None:
        if choices.request.pulled:
            parameters.add(code, query, at(op.P), at(op.ZERO, to_theta))

    schedule.segment("pull back", pull_back)
    schedule.segment("to theta", to_theta_too)
    schedule.segment("products", products)
    schedule.segment("rates gradient", rates_gradient)
    schedule.segment("scale", lambda: inner_loop.move(code, choices, vectors, NONE, v_at, at(op.U)))
    if choices.request.order == 2:
        schedule.segment("tangents", lambda: inner_loop.tangents(code, choices, passes, found.plan, True))
        if choices.head_only:
            to = at(op.X, choices.support.layers[-1].dx)
            schedule.segment("first features", lambda: passes.features_tangent(to, False))
            schedule.segment("features", lambda: passes.features_tangent(to, True))
