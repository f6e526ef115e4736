"""`fastmeta check`: the gradient audit, hand-written derivatives against central differences in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import click
import numpy as np

import fastmeta as fm
from fastmeta.cli.options import Rate, Whole, Word
from fastmeta.cli.speech import say
from fastmeta.device import DEVICES, backend

STEPS = 2
NETWORKS = {
    "MLP tanh": fm.MLP((1, 12, 12, 1), activation="tanh"),
    "MLP softplus": fm.MLP((1, 12, 12, 1), activation="softplus"),
    "MLP relu": fm.MLP((1, 12, 12, 1), activation="relu"),
    "Conv4 stride": fm.Conv4((12, 12, 1), channels=4, outputs=3, downsample="stride"),
    "Conv4 pool": fm.Conv4((16, 16, 1), channels=3, outputs=3, downsample="pool"),
}


@click.command(short_help="Check meta-gradients against central differences.")
@click.option("--device", type=Word(DEVICES), default="cpu", show_default=True, help="Whose derivatives.")
@click.option("--seed", type=Whole(0), default=0, show_default=True, help="Decides parameters, tasks and directions.")
@click.option("--tolerance", type=Rate(), default=1e-7, show_default=True, help="Largest relative error allowed.")
@click.option("--verbose", is_flag=True, help="Show every parameter array of every network.")
@click.pass_context
def check(ctx: click.Context, device: str, seed: int, tolerance: float, verbose: bool) -> None:
    """Check whole meta-gradients against central differences in float64; exit code 1 where any disagrees.

    Each parameter array, and the inner rates, are tried along a random direction and two coordinates. Where a
    ReLU or a max-pool changes side, the step is narrowed until none does, or the direction skipped.
    """
    backend("numpy")  # the check's own arithmetic is NumPy's
    say(f"{STEPS} inner steps, relative error at most {tolerance:.0e}, device {device}")
    say(f"{'network':14}{'order':>6}  {'rates':16}{'arrays':>6}{'compared':>9}{'narrowed':>9}"
               f"{'skipped':>8}{'error':>9}")  # fmt: skip
    wrong = 0
    for name, network in NETWORKS.items():
        theta, batch = network.init(seed, dtype="float64"), meta_batch(network, seed)
        for order in (2, 1):
            for rates, inner_lr in inner_rates(network, seed):
                report = fm.check_meta_gradient(
                    network,
                    theta,
                    batch,
                    inner_lr,
                    STEPS,
                    order,
                    device=device,
                    tolerance=math.inf,
                    seed=seed,
                )
                compared, narrowed, skipped = (
                    sum(getattr(block, count) for block in report.blocks)
                    for count in ("directions", "narrowed", "skipped")
                )
                agrees = compared > 0 and report.worst.error <= tolerance
                wrong += not agrees
                verdict = "agrees" if agrees else f"DISAGREES in {report.worst.name}"
                say(
                    f"{name:14}{order:>6}  {rates:16}{len(report.blocks):>6}{compared:>9}{narrowed:>9}"
                    f"{skipped:>8}{report.worst.error:>9.1e}  {verdict}"
                )
                if verbose:
                    say(f"{report}\n")
    say(f"{wrong} disagree." if wrong else "All agree.")
    ctx.exit(1 if wrong else 0)


def inner_rates(network: fm.Network, seed: int) -> Iterator[tuple[str, Any]]:
    """Name and value of each form that inner_lr can take."""
    rng = np.random.default_rng(seed)
    yield "one number", 0.05
    yield "step and array", rng.uniform(0.01, 0.1, (STEPS, len(network.parameter_shapes)))
    yield "parameter", rng.uniform(0.01, 0.1, network.parameter_count)


def meta_batch(network: fm.Network, seed: int) -> fm.Batch:
    """Three small tasks: sine curves for a network of one output, else labelled noise."""
    if network.outputs == 1:
        return fm.tasks.Sinusoid(shots=5, queries=7).sample(3, seed)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, 2, 2 * network.outputs, *network.input_shape))
    y = np.tile(np.repeat(np.arange(network.outputs), 2), (3, 1))
    return fm.Batch(x[:, 0], y, x[:, 1], y)
