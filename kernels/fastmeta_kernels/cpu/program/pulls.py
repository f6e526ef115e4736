"""Weight decay d and proximal term p of inner steps: what they add to a step's gradient, and the sweep back through it.

g_k = grad L(phi_k) + d phi_k + p (phi_k - theta); with u = m alpha_k v_{k+1} the sweep has v -= (d + p) u besides,
d Q / d theta has p u, d Q / d d = - u phi_k and d Q / d p = - u (phi_k - theta).
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.instruction import PULL, PULL_BACK, SERIAL, Code, Operand, one, place
from fastmeta_kernels.cpu.layout.job import PULLS, PULLS_GRADIENT, stream
from fastmeta_kernels.cpu.machine.jit import kernel


def pull(code: Code, adapted: tuple[int, int], g: Operand, phi: Operand, theta: Operand) -> None:
    """Emit g += d phi + p (phi - theta), where the parameters move."""
    code.add(PULL, SERIAL, g=g, phi=phi, theta=theta, adapted_from=adapted[0], adapted_to=adapted[1])


def pull_back(
    code: Code, adapted: tuple[int, int], u: Operand, v: Operand, phi: Operand, theta: Operand, to_theta: Operand,
    exact: bool,
) -> None:  # fmt: skip
    """Emit the gradients of d and p, and where the sweep is exact v -= (d + p) u and to_theta += p u."""
    moved = {"adapted_from": adapted[0], "adapted_to": adapted[1]}
    code.add(PULL_BACK, SERIAL, u=u, v=v, phi=phi, theta=theta, to_theta=to_theta, exact=exact, **moved)


@kernel
def run_pull(ws, job, code, l, now, t):
    """PULL."""
    it = one(PULL, code, l)
    g, phi = place(now, it.g), place(now, it.phi)
    theta = place(now, it.theta)
    pulls = stream(ws, job, PULLS, t, 2)
    decay, proximal = pulls[0], pulls[1]
    for i in range(it.adapted_from, it.adapted_to):
        ws[g + i] += decay * ws[phi + i] + proximal * (ws[phi + i] - ws[theta + i])


@kernel
def run_pull_back(ws, job, code, l, now, t):
    """PULL_BACK."""
    it = one(PULL_BACK, code, l)
    u, v = place(now, it.u), place(now, it.v)
    phi = place(now, it.phi)
    theta, to_theta = place(now, it.theta), place(now, it.to_theta)
    pulls, slopes = stream(ws, job, PULLS, t, 2), stream(ws, job, PULLS_GRADIENT, t, 2)
    decay, proximal = pulls[0], pulls[1]
    by_decay = by_proximal = 0.0
    for i in range(it.adapted_from, it.adapted_to):
        by_decay += ws[u + i] * ws[phi + i]
        by_proximal += ws[u + i] * (ws[phi + i] - ws[theta + i])
        if it.exact > 0:
            ws[v + i] -= (decay + proximal) * ws[u + i]
            ws[to_theta + i] += proximal * ws[u + i]
    slopes[0] -= by_decay
    slopes[1] -= by_proximal
