"""Architecture search by exact hypergradients on Omniglot, against hand-made, uniform and random networks of one cost.

`python -m benchmarks.search {operations,width} --data FOLDER [--iterations N] [--seeds S ...]`. operations: a search
over 1x1, 3x3 and 5x5 kernels among networks of equal multiply-adds (`draws`), by the exact, the first-order and the
one-step gradient, and by the mixture with a price of multiply-adds; each choice is retrained by MAML beside the
hand-made Conv4 and five random choices. "chosen" is the best of five after a quarter of the training, on validation
characters: of the likeliest five of the exact search, of the five random ones. width: gates with a price, pruned to
half of the multiply-adds, beside the uniform network of that cost. Writes results/search-NAME.json.
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.draws import Draws, likeliest, searched
from fastmeta.algorithms.architecture.discrete import multiply_adds
from fastmeta.lab.backward_sweep import cosine

RESULTS = Path(__file__).resolve().parent / "results"
KERNELS, RANDOM = (1, 3, 5), 5
KINDS = {"exact": {"steps": 3}, "first order": {"steps": 3, "order": 1}, "one step": {"steps": 1}}


def stack(kernels: tuple[int, ...], channels: tuple[int, ...], ways: int) -> fm.Network:
    """Blocks of a stride-2 convolution, batch norm and ReLU, like Conv4's, with these kernels and channels."""
    layers: list[fm.Layer] = []
    for kernel, width in zip(kernels, channels, strict=True):
        layers += [fm.Conv2d(width, kernel, 2, kernel // 2, bias=False), fm.BatchNorm(), fm.ReLU()]
    return fm.Network([*layers, fm.GlobalMeanPool(), fm.Linear(ways)], (28, 28, 1))


def at_cost(kernels: tuple[int, ...], cost: int, ways: int) -> fm.Network:
    """The network of these kernels whose multiply-adds are nearest to `cost`, of equal channels in all blocks."""
    nets = [stack(kernels, (width,) * len(kernels), ways) for width in range(2, 200)]
    return min(nets, key=lambda net: abs(multiply_adds(net) - cost))


def retrained(net: fm.Network, train: Any, test: Any, seed: int, iterations: int, episodes: int) -> fm.Score:
    """The score of a network trained by plain MAML."""
    optimizer = fm.Adam(fm.CosineSchedule(3e-3, 1e-5, iterations))
    maml = fm.MAML(net, 0.4, 1).fit(train, iterations, tasks_per_step=8, optimizer=optimizer, seed=seed)
    return maml.evaluate(test, episodes, inner_steps=3, seed=77)


def kernels_of(net: fm.Network) -> tuple[int, ...]:
    """The kernels of its convolutions."""
    return tuple(layer.kernel for layer in net.layers if isinstance(layer, fm.Conv2d))


def operations(options: Any, seed: int) -> dict[str, Any]:
    """Accuracy of each way to choose the kernels, at the multiply-adds of the hand-made network."""
    ways, channels = options.ways, options.channels
    omniglot = fm.tasks.Omniglot(options.data, ways=ways, queries=5)
    cost = multiply_adds(stack((3,) * 4, (channels,) * 4, ways))
    rng, found = np.random.default_rng(seed), dict[str, Any]()
    draws = Draws(lambda kernels: at_cost(kernels, cost, ways), KERNELS, 4)
    choices = {f"random {i + 1}": tuple(map(int, rng.choice(KERNELS, 4))) for i in range(RANDOM)}
    candidates = {"random, chosen": list(choices.values())}
    choices["hand-made"] = (3,) * 4
    for kind, settings in KINDS.items():
        p = searched(draws, omniglot.train, options.search, seed, **settings)
        candidates[f"search, {kind}, chosen"] = likeliest(draws, p, RANDOM)
        choices[f"search, {kind}"] = candidates[f"search, {kind}, chosen"][0]
        found[f"search, {kind}"] = {"probabilities": p.tolist()}
    choices["mixture, priced"], found["mixture, priced"] = mixture(options, seed)

    @cache
    def validated(kernels: tuple[int, ...]) -> float:
        few = options.iterations // 4
        return retrained(draws.nets[kernels], omniglot.train, omniglot.validation, seed, few, 100).mean

    for name in ("search, exact, chosen", "random, chosen"):
        found[name] = {"validated": {str(one): validated(one) for one in candidates[name]}}
        choices[name] = max(candidates[name], key=validated)

    @cache
    def tested(kernels: tuple[int, ...]) -> fm.Score:
        return retrained(draws.nets[kernels], omniglot.train, omniglot.test, seed, options.iterations, options.episodes)

    for name, kernels in choices.items():
        score = tested(kernels)
        said = {"kernels": kernels, "multiply_adds": multiply_adds(draws.nets[kernels])}
        said |= {"accuracy": score.mean, "interval": score.ci95}
        found[name] = found.get(name, {}) | said
        print(seed, name, said, flush=True)
    return found


def mixture(options: Any, seed: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The kernels of ArchitectureMAML's mixture, on 5-way tasks, with a price of multiply-adds; what it found."""
    tasks = fm.tasks.Omniglot(options.data, ways=5, queries=5).train
    net = stack((5,) * 4, (options.channels // 2,) * 4, 5)
    search = fm.ArchitectureMAML(net, 0.4, 3, "conv1,conv3,conv5", cost_penalty=options.cost)
    search.fit(tasks, options.search, tasks_per_step=8, optimizer=fm.Adam(3e-3), seed=seed)
    said = {"probabilities": search.architecture, "cosines": cosines(search, tasks.sample(32, seed=9))}
    return kernels_of(search.discretised()), said


def cosines(search: fm.ArchitectureMAML, batch: fm.Batch) -> dict[str, float]:
    """Of the gradient by the architecture of first order, and through the last step alone, with the exact one."""
    sweep = fm.lab.trace(search.net, search.theta, batch, search.rates, search.inner_steps)
    own = search.parameters["kernels"], search.parameters["architecture"]
    exact, first, one = (search.mixture.slopes(sweep.truncated(back), *own)[2] for back in (search.inner_steps, 0, 1))
    return {"first order": cosine(first, exact), "last step alone": cosine(one, exact)}


def width(options: Any, seed: int) -> dict[str, Any]:
    """Accuracy of the whole network, of its pruning to half the multiply-adds, and of the uniform one of that cost."""
    omniglot = fm.tasks.Omniglot(options.data, ways=options.ways, queries=5)
    whole = stack((3,) * 4, (options.channels,) * 4, options.ways)
    half = multiply_adds(whole) // 2
    search = fm.ArchitectureMAML(whole, 0.4, 1, operations="conv3", width_penalty=options.price)
    search.fit(omniglot.train, options.search, tasks_per_step=8, optimizer=fm.Adam(3e-3), seed=seed)
    shares = np.linspace(0.2, 1, 81)
    pruned = min((search.discretised(keep=k) for k in shares), key=lambda net: abs(multiply_adds(net) - half))
    found = {}
    for name, net in (
        ("whole", whole),
        ("pruned by gates", pruned),
        ("uniform", at_cost((3,) * 4, half, options.ways)),
    ):
        score = retrained(net, omniglot.train, omniglot.test, seed, options.iterations, options.episodes)
        channels = [layer.channels for layer in net.layers if isinstance(layer, fm.Conv2d)]
        found[name] = {"channels": channels, "multiply_adds": multiply_adds(net)}
        found[name] |= {"accuracy": score.mean, "interval": score.ci95}
        print(seed, name, found[name], flush=True)
    return found


def summary(rows: list[dict[str, Any]]) -> str:
    """One line a way to choose: accuracy, mean over seeds and spread; and whether search won."""
    names = [name for name in rows[0] if not name.startswith("random ")]
    lines = [f"{'':24} accuracy % over {len(rows)} seeds"]
    for name in names:
        values = 100 * np.array([row[name]["accuracy"] for row in rows])
        lines.append(f"{name:24} {values.mean():6.2f}  ({', '.join(f'{v:.2f}' for v in values)})")
    randoms = np.array([[100 * v["accuracy"] for n, v in row.items() if n.startswith("random ")] for row in rows])
    if randoms.size:
        mean, spread = randoms.mean(), randoms.std(axis=1, ddof=1).mean()
        lines.append(f"{'random, mean + deviation':24} {mean:6.2f} + {spread:.2f}")
        hand = 100 * np.mean([row["hand-made"]["accuracy"] for row in rows])
        for name in ("search, exact", "search, exact, chosen"):
            own = 100 * np.mean([row[name]["accuracy"] for row in rows])
            lines.append(f"{name} {'beats' if own >= mean + spread else 'DOES NOT beat'} random by its deviation")
            lines.append(f"{name} {'is at least' if own >= hand else 'LOSES to'} the hand-made network")
        for name in rows[0]["mixture, priced"]["cosines"]:
            values = [row["mixture, priced"]["cosines"][name] for row in rows]
            lines.append(f"cosine with the mixture's exact gradient, {name}: {', '.join(f'{v:.3f}' for v in values)}")
    else:
        pruned, whole, uniform = (
            100 * np.mean([row[name]["accuracy"] for row in rows]) for name in ("pruned by gates", "whole", "uniform")
        )
        said = "at most 0.3, as asked" if whole - pruned <= 0.3 else "MORE than the 0.3 asked"
        lines.append(f"half of the multiply-adds by gates costs {whole - pruned:.2f} points: {said}")
        lines.append(f"gates less the uniform network of that cost: {pruned - uniform:+.2f} points")
    return "\n".join(lines)


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["operations", "width"])
    parser.add_argument("--data", help="folder with the Omniglot archives")
    parser.add_argument("--ways", type=int, default=20)
    parser.add_argument("--channels", type=int, default=32, help="of the hand-made network")
    parser.add_argument("--search", type=int, default=2000, help="iterations of the search")
    parser.add_argument("--iterations", type=int, default=5000, help="of each training")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--cost", type=float, default=0.05, help="price of the log of multiply-adds")
    parser.add_argument("--price", type=float, default=1e-3, help="of the sum of |scale|")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    measured, rows = {"operations": operations, "width": width}[options.what], list[dict[str, Any]]()
    names = "ways", "channels", "search", "iterations", "episodes", "cost", "price"
    for seed in options.seeds:
        rows.append(measured(options, seed))
        said = {name: getattr(options, name) for name in names} | {"seeds": options.seeds[: len(rows)]}
        text = json.dumps({"settings": said, "seeds": rows}, indent=1)
        (RESULTS / f"search-{options.what}.json").write_text(text + "\n", encoding="utf-8")
    print(summary(rows))


if __name__ == "__main__":
    main()
