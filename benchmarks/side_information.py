"""What attributes add to few-shot learning, over shots, where the best map and gate are known.

`python -m benchmarks.side_information [--device numpy] [--picture FILE]`: two minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import fastmeta as fm

RESULTS = Path(__file__).resolve().parent / "results"
SHOTS = (0, 1, 2, 3, 5, 10, 20, 40)
EPISODES, ITERATIONS, EVALUATION_SEED = 1000, 3000, 77
SIDE, SUPPORT, ATTRIBUTES, BEST = "both, gated", "support set", "attributes", "best possible"
COLOURS = {SIDE: "C3", SUPPORT: "C0", ATTRIBUTES: "C2", BEST: "black"}


def scores(shots: int, device: str) -> dict[str, fm.Score]:
    """Scores of the learners that `shots` allow and of the known optimum, all on the same episodes."""
    tasks = fm.tasks.AttributeClasses(shots=shots)
    embed, attribute_map = fm.MLP((tasks.features, 10)), fm.MLP((tasks.attributes, 10))
    learners: dict[str, fm.Learner] = {ATTRIBUTES: fm.ZeroShot(embed, attribute_map, device=device)}
    if shots:
        learners[SUPPORT] = fm.ProtoNet(embed, device=device)
        learners[SIDE] = fm.SideInformation(embed, attribute_map, device=device)
    found = {}
    for name, learner in learners.items():
        rate = fm.CosineSchedule(1e-2, 1e-4, ITERATIONS)
        learner.fit(tasks, ITERATIONS, tasks_per_step=8, optimizer=fm.Adam(rate))
        found[name] = learner.evaluate(tasks, EPISODES, seed=EVALUATION_SEED)
    values = best_accuracies(tasks, tasks.sample(EPISODES, EVALUATION_SEED))
    return found | {BEST: fm.Score(values, stream=found[ATTRIBUTES].stream)}


def best_accuracies(tasks: fm.tasks.AttributeClasses, batch: fm.Batch) -> Any:
    """(T,) accuracies of the nearest g s + (1 - g) a W, with the map W and the gate g that drew the tasks."""
    episodes = len(batch.x_query)
    assert batch.attributes is not None
    c = batch.attributes @ tasks.best_map
    if tasks.shots:
        means = batch.x_support.reshape(episodes, tasks.ways, tasks.shots, -1).mean(axis=2)
        c = tasks.best_gate * means + (1 - tasks.best_gate) * c
    distances = ((batch.x_query[:, :, None] - c[:, None]) ** 2).sum(axis=3)
    return (distances.argmin(axis=2) == batch.y_query).mean(axis=1)


def draw(table: dict[int, dict[str, fm.Score]], path: Path) -> None:
    """Accuracy over shots, and what attributes add to the support set, episode by episode."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, colour in COLOURS.items():
        shots = [n for n in table if name in table[n]]
        means = [100 * table[n][name].mean for n in shots]
        halves = [100 * table[n][name].ci95 for n in shots]
        style = "--" if name == BEST else "o-"
        left.errorbar(shots, means, halves, fmt=style, color=colour, label=name, ms=4, capsize=2)
    gains = {n: fm.compare(row[SIDE], row[SUPPORT]) for n, row in table.items() if n}
    means, halves = ([100 * getattr(g, part) for g in gains.values()] for part in ("mean", "ci95"))
    right.errorbar(list(gains), means, halves, fmt="o-", color=COLOURS[SIDE], ms=4, capsize=2)
    right.axhline(0, color="black", lw=1)
    left.set(ylabel="accuracy, %", xlabel="shots")
    right.set(ylabel="gain over the support set alone, points", xlabel="shots")
    for axes in (left, right):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks(list(table), [str(n) for n in table])
    left.legend()
    figure.suptitle(f"5-way, {EPISODES:,} episodes; bars: 95 % over tasks", fontsize=10)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="numpy", choices=["numpy", "cpu"])
    parser.add_argument("--picture", type=Path, default=RESULTS / "side-information.png")
    options = parser.parse_args()
    print(f"5-way accuracy on {EPISODES:,} episodes, half a 95 % interval over tasks; {ITERATIONS:,} iterations each\n")
    print(f"{'shots':>5}" + "".join(f"{name:>17}" for name in COLOURS) + f"{'gain, paired':>25}")
    table = {}
    for shots in SHOTS:
        table[shots] = row = scores(shots, options.device)
        gain = str(fm.compare(row[SIDE], row[SUPPORT])) if shots else ""
        cells = "".join(f"{str(row[name]) if name in row else '-':>17}" for name in COLOURS)
        print(f"{shots:>5}{cells}{gain:>25}", flush=True)
    draw(table, options.picture)
    print(f"\nPicture: {options.picture}")


if __name__ == "__main__":
    main()
