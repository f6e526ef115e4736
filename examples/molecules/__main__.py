"""Is a molecule active in an assay of which twenty molecules were measured? `python -m examples.molecules DATA`.

DATA is a folder with `tox21-ecfp4-2048.npz` and `sider-ecfp4-2048.npz`; README.md says how to make them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from examples.molecules.assays import Assays, prior, read, ridges, with_outputs
from examples.molecules.picture import draw
from examples.molecules.posterior import areas, learned

TEST_ASSAYS = {"tox21": 3, "sider": 6}  # the last ones, Altae-Tran et al. 2017 (arXiv 1611.03199)
SUPPORT_SETS, MORE_SETS = 10, 100
SIZES = {"tox21": (0.45, 0.1, 0.5), "sider": (0.2, 0.04, 0.05)}  # best for training assays: README.md
LINEAR = fm.MLP((2048, 2))
ONE_RIDGE = "no support set: ridge on the mean activity"
NO_SUPPORT = "no support set: mean of one ridge for each assay"
POSTERIOR = "those ridges as a Gaussian prior, its posterior"


def protocol(data: Path, name: str, other_molecules: bool, seed: int) -> tuple[Assays, Assays]:
    """Training and test assays: of the same molecules, as published, or of 70 % and of the other 30 %."""
    x, y, assays = read(data / f"{name}-ecfp4-2048.npz")
    order = np.random.default_rng(seed).permutation(len(x))
    cut = int(0.7 * len(x))
    known, new = (order[:cut], order[cut:]) if other_molecules else (order, order)
    first = range(len(assays) - TEST_ASSAYS[name])
    test = range(len(first), len(assays))
    return Assays(x[known], y[known][:, first], queries=32), Assays(x[new], y[new][:, test])


def scores(train: Assays, test: Assays, name: str, seed: int, iterations: int) -> tuple[dict[str, fm.Score], str]:
    """ROC-AUC of each row on the same support sets; and what two of them give on more."""
    episodes = SUPPORT_SETS * test.y.shape[1]
    weights = ridges(train.x, train.y, together=False)
    each = prior(train.x, weights)
    mean_activity = prior(train.x, ridges(train.x, train.y, together=True))
    rows = {ONE_RIDGE: start(mean_activity, test, episodes)[0]}
    found = start(each, test, episodes)
    rows |= {NO_SUPPORT: found[0]} | {f"that ridge as start, {n} gradient steps": found[n] for n in (5, 20)}
    more = np.insert(each, len(each) - 2, np.zeros(2 * weights.shape[1], np.float32))
    wider = start(more, with_outputs(train, test, weights), episodes)[5]  # the same molecules, in other features
    alike: dict[str, Any] = {"measure": "auc", "stream": found[0].stream}
    rows["and what each ridge says as features, 5 steps"] = fm.Score(wider.values, **alike)
    pair = areas(learned(train, weights).sized(*SIZES[name]), test, MORE_SETS * test.y.shape[1]).T
    rows[POSTERIOR] = fm.Score(pair[1, :episodes], **alike)
    options: dict[str, Any] = {"tasks_per_step": 9, "seed": seed}
    maml = fm.MAML(LINEAR, 0.03, 5).fit(train, iterations, **options, optimizer=fm.Adam(1e-4), theta=each)
    rows["that ridge as start of a linear MAML"] = maml.evaluate(test, episodes)
    maml = fm.MAML(fm.MLP((2048, 128, 2)), 0.1, 5).fit(train, iterations, **options)
    found = maml.evaluate(test, episodes, inner_steps=[0, 5])
    rows |= {"MAML 2048-128-2 before adaptation": found[0], "MAML 2048-128-2": found[5]}
    protonet = fm.ProtoNet(fm.MLP((2048, 256, 128))).fit(train, iterations, **options)
    rows["ProtoNet 2048-256-128"] = protonet.evaluate(test, episodes)
    without, posterior = (fm.Score(values, "auc", stream="more support sets") for values in pair)
    return rows, f"{without} without a support set, its posterior {fm.compare(posterior, without)}"


def start(theta: np.ndarray, test: Assays, episodes: int) -> dict[int, fm.Score]:
    """Scores of the linear network theta before and after gradient steps on the support set; nothing is learned."""
    untrained = fm.MAML(fm.MLP((test.x.shape[1], 2)), 0.03, 5).fit(test, 0, theta=theta)
    return untrained.evaluate(test, episodes, inner_steps=[0, 5, 20])


def main() -> None:
    """Print a table a data set and protocol, and draw all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--sets", nargs="+", choices=TEST_ASSAYS, default=list(TEST_ASSAYS))
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    tables = {}
    for name in options.sets:
        for other in (False, True):
            title = f"{name}, {'other molecules' if other else 'published protocol'}"
            for seed in options.seeds:
                found, more = scores(*protocol(options.data, name, other, seed), name, seed, options.iterations)
                print(f"\n{title}, seed {seed}: ROC-AUC, and gains on the first and the second row, in points")
                for row, score in found.items():
                    gains = [fm.compare(score, found[other]) for other in (ONE_RIDGE, NO_SUPPORT)]
                    columns = "".join(f"{100 * gain.mean:>+8.2f} ± {100 * gain.ci95:.2f}" for gain in gains)
                    print(f"{row:<50}{score!s:>18}{columns}", flush=True)
                print(f"{MORE_SETS} support sets an assay: {more}", flush=True)
                tables[f"{title}, seed {seed}"] = found
    if options.picture:
        draw(tables, NO_SUPPORT, options.picture)


if __name__ == "__main__":
    main()
