"""`fastmeta check`: the gradient audit, hand-written derivatives against central differences in float64."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import click
import numpy as np

import fastmeta as fm
from fastmeta.cli.options import Rate, Whole, Word
from fastmeta.cli.progress import SECONDS_BETWEEN_LINES, duration
from fastmeta.cli.speech import say
from fastmeta.device import DEVICES, backend, compiles
from fastmeta.lab.central_differences import GradientReport, expected_seconds
from fastmeta_kernels.layer_table import SURROGATES

STEPS = 2
NETWORKS = {
    "MLP tanh": fm.MLP((1, 12, 12, 1), activation="tanh"),
    "MLP softplus": fm.MLP((1, 12, 12, 1), activation="softplus"),
    "MLP relu": fm.MLP((1, 12, 12, 1), activation="relu"),
    "Conv4 stride": fm.Conv4((12, 12, 1), channels=4, outputs=3, downsample="stride"),
    "Conv4 pool": fm.Conv4((16, 16, 1), channels=3, outputs=3, downsample="pool"),
}
POLICIES = {
    "categorical": fm.rl.categorical_policy(3, 3, (6, 5), "tanh"),
    "gaussian": fm.rl.gaussian_policy(3, 2, (6, 5), "tanh"),
}
QUICK = {  # with these rates, of second order
    "MLP tanh": "parameter",
    "MLP relu": "one number",
    "Conv4 stride": "step and array",
    "Conv4 pool": "one number",
    "categorical log": "one number",
    "gaussian clip": "one number",
}


class Comparison(NamedTuple):
    """One meta-gradient or Fisher product to be compared, and what its row begins with."""

    name: str
    order: int  # 0: a Fisher product
    rates: str
    network: fm.Network
    inner_lr: Any
    policy: str = ""
    surrogate: str = ""

    def report(self, device: str, seed: int) -> GradientReport:
        """The comparison, with differences in float64."""
        from fastmeta.lab import policy_differences

        theta = self.network.init(seed, dtype="float64")
        if not self.order:
            return policy_differences.check_fisher(self.network, theta, self.policy, device, seed)
        if self.policy:
            loss = fm.PolicyLoss(self.policy, self.surrogate)
            options = self.inner_lr, STEPS, device, seed
            return policy_differences.check_policy_loss(self.network, theta, loss, *options)
        batch = meta_batch(self.network, seed)
        return fm.check_meta_gradient(
            self.network, theta, batch, self.inner_lr, STEPS, self.order, device=device, tolerance=math.inf, seed=seed
        )


@click.command(short_help="Check meta-gradients against central differences.")
@click.option(
    "--quick", is_flag=True, help="A few comparisons, of second order: less than a minute, once kernels are compiled."
)
@click.option("--device", type=Word(DEVICES), default="cpu", show_default=True, help="Whose derivatives.")
@click.option("--seed", type=Whole(0), default=0, show_default=True, help="Decides parameters, tasks and directions.")
@click.option("--tolerance", type=Rate(), default=1e-7, show_default=True, help="Largest relative error allowed.")
@click.option("--verbose", is_flag=True, help="Show every parameter array of every network.")
@click.pass_context
def check(ctx: click.Context, quick: bool, device: str, seed: int, tolerance: float, verbose: bool) -> None:
    """Check whole meta-gradients, policy losses and Fisher products against central differences in float64.

    Each parameter array, and the inner rates, are tried along a random direction and two coordinates. Where a
    ReLU or a max-pool changes side, or a clipped ratio, the step is narrowed until none does, or the direction skipped.
    How long it will take is measured first, and said. The exit code is 1 where any disagrees.
    """
    backend("numpy")  # the check's own arithmetic is NumPy's
    begun = time.perf_counter()
    rows = list(comparisons(seed, quick))
    say(f"{STEPS} inner steps, relative error at most {tolerance:.0e}, device {device}")
    if compiles(device):
        say("Loading the kernels; on a machine that has never run them this compiles them.")
    expected = seconds_of(rows, seed, device)
    say(f"{len(rows)} comparisons, about {duration(sum(expected))}")
    say(f"{'network':18}{'order':>6}  {'rates':16}{'arrays':>6}{'compared':>9}{'narrowed':>9}"
               f"{'skipped':>8}{'error':>9}")  # fmt: skip
    wrong, started = 0, time.perf_counter()
    shown = started
    for i, row in enumerate(rows):
        if i and (now := time.perf_counter()) - shown > SECONDS_BETWEEN_LINES:
            left = sum(expected[i:]) * (now - started) / sum(expected[:i])
            say(f"{i} of {len(rows)} compared, about {duration(left)} left", err=True)
            shown = now
        report = row.report(device, seed)
        compared, narrowed, skipped = (
            sum(getattr(block, count) for block in report.blocks) for count in ("directions", "narrowed", "skipped")
        )
        agrees = compared > 0 and report.worst.error <= tolerance
        wrong += not agrees
        verdict = "agrees" if agrees else f"DISAGREES in {report.worst.name}"
        say(
            f"{row.name:18}{row.order or '':>6}  {row.rates:16}{len(report.blocks):>6}{compared:>9}{narrowed:>9}"
            f"{skipped:>8}{report.worst.error:>9.1e}  {verdict}"
        )
        if verbose:
            say(f"{report}\n")
    say(f"{len(rows)} comparisons in {duration(time.perf_counter() - begun)}")
    say(f"{wrong} disagree." if wrong else "All agree.")
    ctx.exit(1 if wrong else 0)


def comparisons(seed: int, quick: bool) -> Iterator[Comparison]:
    """Every network, order and form of rates, then every policy loss and Fisher product; quick: the hardest of few."""
    for name, network in NETWORKS.items():
        for order in (2, 1):
            for rates, inner_lr in inner_rates(network, seed):
                if not quick or (order == 2 and QUICK.get(name) == rates):
                    yield Comparison(name, order, rates, network, inner_lr)
    for policy, network in POLICIES.items():
        rates, inner_lr = next(inner_rates(network, seed))
        for surrogate in SURROGATES:
            if not quick or f"{policy} {surrogate}" in QUICK:
                yield Comparison(f"{policy} {surrogate}", 2, rates, network, inner_lr, policy, surrogate)
        yield Comparison(f"{policy} fisher", 0, "", network, inner_lr, policy)


def seconds_of(rows: list[Comparison], seed: int, device: str) -> list[float]:
    """About how long each comparison takes, as a few evaluations of its network say, which load the kernels."""
    found: dict[tuple[str, int], float] = {}
    for row in rows:
        if (key := (row.name, row.order)) not in found:
            theta, batch = row.network.init(seed, dtype="float64"), meta_batch(row.network, seed)
            found[key] = expected_seconds(row.network, theta, batch, 0.05, STEPS, row.order or 2, device)
    return [found[row.name, row.order] for row in rows]


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
