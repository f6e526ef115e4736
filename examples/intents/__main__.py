"""An intent that was never trained, from one or five requests or from its name: `python -m examples.intents DATA`.

DATA has the folders `clinc150` and `banking77`; README.md says how to have them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import fastmeta as fm
from examples.intents.picture import draw
from examples.intents.requests import Requests, read, reduced, split, weighed
from fastmeta.scores.areas import area

WIDTH, BASELINE = 512, "nearest mean, hashed text"
IDENTITY = fm.MLP((WIDTH, WIDTH), scheme="identity")
TRAINING = {"shots": 1, "queries": 5}


def few_shot(
    nearest: dict, lsa: Requests, part: dict, options: argparse.Namespace, seed: int
) -> tuple[dict, fm.Learner]:
    """5-way scores by row and number of shots, all on the same tasks; and the ProtoNet."""
    run = {"iterations": options.iterations, "seed": seed}
    twenty, five = (lsa.tasks(part["train"], ways=ways, **TRAINING) for ways in (20, 5))
    learners: dict[str, fm.Learner] = {
        "nearest mean, LSA": fm.ProtoNet(IDENTITY, "cosine").fit(twenty, 0),
        "ProtoNet from the identity": fm.ProtoNet(IDENTITY, "cosine"),
        "the same, with the intents' names": fm.SideInformation(IDENTITY, IDENTITY, "cosine"),
        "MAML 512-128-5": fm.MAML(fm.MLP((WIDTH, 128, 5)), 0.5, 1).fit(five, tasks_per_step=8, **run),
        "Transfer 512-256, linear head": fm.Transfer(fm.MLP((WIDTH, 256, len(part["train"])))).fit(
            five, tasks_per_step=4, **run
        ),
    }
    for learner in list(learners.values())[1:3]:
        learner.fit(twenty, tasks_per_step=4, optimizer=fm.Adam(3e-4), **run)
    rows: dict[str, dict[int, fm.Score]] = {}
    for shots in (1, 5):
        tasks = lsa.tasks(part["test"], shots=shots)
        for name, learner in learners.items():
            steps = {"inner_steps": 5} if isinstance(learner, fm.MAML) else {}
            rows.setdefault(name, {})[shots] = learner.evaluate(tasks, options.episodes, **steps)
        rows.setdefault(BASELINE, {})[shots] = fm.Score(nearest[shots], stream=rows["nearest mean, LSA"][shots].stream)
    return {BASELINE: rows.pop(BASELINE)} | rows, learners["ProtoNet from the identity"]


def nearest_mean(tasks: fm.tasks.LabelledTasks, episodes: int) -> np.ndarray:
    """Accuracy of the most similar class mean, by the cosine, on the tasks that `evaluate` draws."""
    values = np.zeros(episodes)
    for i in range(episodes):
        one = tasks.sample(1, seed=1, step=i)
        means = one.x_support[0].reshape(5, -1, one.x_support.shape[2]).mean(axis=1)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        values[i] = ((one.x_query[0] @ means.T).argmax(axis=1) == one.y_query[0]).mean()
    return values


def by_name(raw: Requests, lsa: Requests, part: dict, iterations: int, seed: int) -> tuple[float, float]:
    """Accuracy over all requests of all unseen intents, from the intents' names alone: the nearest, and ZeroShot's."""
    rows, truth = np.isin(raw.y, part["test"]), raw.y[np.isin(raw.y, part["test"])]
    nearest = part["test"][(raw.x[rows] @ raw.names[part["test"]].T).argmax(axis=1)]
    tasks = lsa.tasks(part["train"], ways=20, **TRAINING)
    learner = fm.ZeroShot(IDENTITY, IDENTITY, "cosine")
    learner.fit(tasks, iterations, 4, fm.Adam(1e-4), seed)
    found = part["test"][learner.adapt(lsa.names[part["test"]]).predict(lsa.x[rows])]
    return float((nearest == truth).mean()), float((found == truth).mean())


def out_of_scope(learner: fm.ProtoNet, lsa: Requests, part: dict) -> float:
    """AUROC of the distance to the nearest of all unseen intents' prototypes, 5 examples each, for requests of none."""
    tasks = lsa.tasks(part["test"], ways=len(part["test"]), shots=5, queries=30)
    one = tasks.sample(1, seed=1)
    model = learner.adapt(one.x_support[0], one.y_support[0])
    far = np.concatenate([model.distance(one.x_query[0]), model.distance(lsa.outside)])
    return area(far, np.arange(len(far)) >= one.x_query.shape[1])


def main() -> None:
    """Print a table a data set, means over the splits, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=["clinc150", "banking77"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--picture", type=Path)
    options, tables = parser.parse_args(), {}
    for name in options.sets:
        texts, intents, outside = read(options.data / name)
        kinds, y = np.unique(intents, return_inverse=True)
        said = [texts, [kind.replace("_", " ") for kind in kinds], outside]
        hashed = Requests(fm.tasks.hashed_text(said[0]), y, *map(fm.tasks.hashed_text, said[1:]))
        folds, others = {seed: [] for seed in options.seeds}, {seed: [] for seed in options.seeds}
        for fold in options.folds:
            part = split(options.data / name, fold, kinds.tolist())
            raw = weighed(hashed, part["train"])
            lsa = reduced(raw, part["train"], WIDTH)
            nearest = {n: nearest_mean(raw.tasks(part["test"], shots=n), options.episodes) for n in (1, 5)}
            for seed in options.seeds:
                rows, protonet = few_shot(nearest, lsa, part, options, seed)
                folds[seed].append(rows)
                found = by_name(raw, lsa, part, options.iterations, seed)
                others[seed].append((*found, out_of_scope(protonet, lsa, part) if outside else np.nan))
                print(f"{name}, split {fold}, seed {seed} is done", flush=True)
        for seed in options.seeds:
            tables[f"{name}, seed {seed}"] = folds[seed]
            report(f"{name}, seed {seed}", folds[seed], np.array(others[seed]))
    if options.picture:
        draw(tables, BASELINE, options.picture)


def report(title: str, folds: list[dict], others: np.ndarray) -> None:
    """One table: accuracy and paired gain, means over splits, 95 % over all their tasks."""
    print(f"\n{title}: 5-way accuracy in %, mean over {len(folds)} splits; ± 95 % over tasks; gain on the first row")
    for row in folds[0]:
        cells = ""
        for shots in (1, 5):
            score, base = (fm.Score(np.concatenate([f[r][shots].values for f in folds])) for r in (row, BASELINE))
            gain = fm.Score(score.values - base.values)
            cells += (
                f"{100 * score.mean:>9.2f} ± {100 * score.ci95:.2f}{100 * gain.mean:>+8.2f} ± {100 * gain.ci95:.2f}"
            )
        print(f"{row:<36}{cells}")
    each = lambda column: ", ".join(f"{100 * value:.1f}" for value in others[:, column])  # noqa: E731
    mean = 100 * others.mean(axis=0)
    print(
        f"all unseen intents by name alone: nearest name {mean[0]:.1f} ({each(0)}), ZeroShot {mean[1]:.1f} ({each(1)})"
    )
    if np.isfinite(mean[2]):
        print(f"out of scope, AUROC: {mean[2]:.1f} ({each(2)})", flush=True)


if __name__ == "__main__":
    main()
