"""Ten digits of a person who was never heard, from one recording each: `python -m examples.speech DATA`.

DATA is `log-mel.npz`; README.md says where it comes from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import fastmeta as fm

WIDTHS = (32 * 40, 64, 10)
ROWS = {
    "everybody": "one network for everybody, no personalisation",
    "nearest": "nearest recording, raw spectrograms",
    "protonet": "ProtoNet 1280-128-64",
    "before": "MAML 1280-64-10, before adaptation",
    "maml": "MAML 1280-64-10, 10 gradient steps",
}


def read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Pixels (n, 1280), digit and speaker (n,), names of the speakers."""
    with np.load(path) as file:
        x = file["x"].reshape(len(file["x"]), -1)
        return x, file["digit"].astype(int), file["speaker"].astype(int), [str(name) for name in file["speakers"]]


def fold(x: np.ndarray, y: np.ndarray, who: np.ndarray, unheard: list[int], seed: int, iterations: int) -> dict:
    """For each unheard person the accuracy of each row on the same draws of 10 recordings; trained on the others."""
    people = fm.tasks.from_groups(x, y, who, shots=1, queries=10)
    heard = people.of([person for person in people.members if person not in unheard])
    everyone = np.isin(who, heard.members)
    options = {"tasks_per_step": 4, "seed": seed}
    transfer = fm.Transfer(fm.MLP(WIDTHS), head="centroid")
    transfer.fit(fm.tasks.from_arrays(x[everyone], y[everyone]), iterations, optimizer=fm.Adam(1e-3), seed=seed)
    pooled = fm.MAML(fm.MLP(WIDTHS), 0.1, 5).fit(heard, 0, theta=transfer.theta)
    maml = fm.MAML(fm.MLP(WIDTHS), 0.1, 5).fit(heard, iterations, **options)
    protonet = fm.ProtoNet(fm.MLP((WIDTHS[0], 128, 64))).fit(heard, iterations, **options)
    return {person: rows(people.of([person]), pooled, maml, protonet) for person in unheard}


def rows(person: fm.tasks.GroupedTasks, pooled: fm.MAML, maml: fm.MAML, protonet: fm.ProtoNet) -> dict:
    """Scores on 100 draws of one recording a digit."""
    found = maml.evaluate(person, 100, inner_steps=[0, 10])
    scores = {"everybody": pooled.evaluate(person, 100, inner_steps=[0])[0]}
    scores |= {"nearest": nearest(person, 100, scores["everybody"].stream), "protonet": protonet.evaluate(person, 100)}
    return scores | {"before": found[0], "maml": found[10]}


def nearest(tasks: fm.tasks.GroupedTasks, episodes: int, stream: str) -> fm.Score:
    """The digit of the recording that is nearest in the raw pixels."""
    values = []
    for i in range(episodes):
        one = tasks.sample(1, seed=1, step=i)
        apart = ((one.x_query[0][:, None] - one.x_support[0]) ** 2).sum(axis=2)
        values.append((one.y_support[0][apart.argmin(axis=1)] == one.y_query[0]).mean())
    return fm.Score(np.array(values), stream=stream)


def draw(results: dict[int, dict[str, np.ndarray]], names: list[str], path: Path) -> None:
    """Accuracy of each row for each person; a marker a seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for i, row in enumerate(ROWS):
        for seed, table in enumerate(results.values()):
            places = np.arange(len(names)) + 0.13 * (i - 2) + 0.03 * seed
            axes.plot(places, 100 * table[row], "os"[seed % 2], color=f"C{i}", ms=5, label=None if seed else ROWS[row])
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="accuracy, %", ylim=(0, 100))
    axes.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.savefig(path, dpi=100)


def main() -> None:
    """Train with two people left out in turn, print the accuracy for each person, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    x, y, who, names = read(options.data)
    results = {}
    for seed in options.seeds:
        found = {}
        for pair in np.arange(len(names)).reshape(-1, 2).tolist():
            found |= fold(x, y, who, pair, seed, options.iterations)
        table = {row: np.array([found[person][row].mean for person in range(len(names))]) for row in ROWS}
        results[seed] = table
        print(f"\nseed {seed}: accuracy in %, 100 draws of 1 recording a digit; ± 95 % over the {len(names)} people")
        print(f"{'':<48}{'mean':>14}{'less the first':>16}" + "".join(f"{name:>10}" for name in names))
        for row, values in table.items():
            gain = values - table["everybody"]
            spread = [100 * 2.571 * part.std(ddof=1) / np.sqrt(len(part)) for part in (values, gain)]  # Student, 5
            mean = f"{100 * values.mean():>7.1f} ± {spread[0]:4.1f}{100 * gain.mean():>+9.1f} ± {spread[1]:4.1f}"
            print(f"{ROWS[row]:<48}{mean}" + "".join(f"{100 * value:>10.1f}" for value in values), flush=True)
    if options.picture:
        draw(results, names, options.picture)


if __name__ == "__main__":
    main()
