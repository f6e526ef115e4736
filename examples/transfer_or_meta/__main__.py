"""When is transfer learning enough? Accuracy against shots, near and far.

`python -m examples.transfer_or_meta OMNIGLOT DATA`: OMNIGLOT is a folder with images_background.zip and
images_evaluation.zip, DATA one with clinc150 and banking77.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from pathlib import Path

import fastmeta as fm
from examples.transfer_or_meta.domains import Domains, characters, requests
from examples.transfer_or_meta.picture import draw

SHOTS, WAYS, WIDTH, BASELINE = (1, 2, 5, 10), 5, 512, "Transfer, linear head"


def of_images(train: fm.tasks.LabelledTasks, iterations: int, seed: int) -> dict[str, fm.Learner]:
    """Every row's learner on images; batch norm never sees two queries at once."""
    net = lambda outputs: fm.Conv4(channels=32, outputs=outputs)  # noqa: E731
    run = {"iterations": iterations, "seed": seed}
    transfer = fm.Transfer(net(len(train.classes))).fit(train, tasks_per_step=2, optimizer=fm.Adam(1e-3), **run)
    twenty = replace(train, ways=20, queries=5)
    return {
        BASELINE: transfer,
        "Transfer, nearest mean": with_head(transfer, "centroid"),
        "ProtoNet, 20 ways": fm.ProtoNet(net(None)).fit(twenty, tasks_per_step=1, **run),
        "MAML, 5 steps": fm.MAML(net(WAYS), 0.4, 1).fit(replace(train, queries=5), tasks_per_step=8, **run),
    }


def of_texts(train: fm.tasks.LabelledTasks, iterations: int, seed: int) -> dict[str, fm.Learner]:
    """Every row's learner on text features."""
    run = {"iterations": iterations, "seed": seed}
    transfer = fm.Transfer(fm.MLP((WIDTH, 256, len(train.classes)))).fit(train, tasks_per_step=2, **run)
    identity, twenty = fm.MLP((WIDTH, WIDTH), scheme="identity"), replace(train, ways=20, queries=5)
    return {
        BASELINE: transfer,
        "Transfer, nearest mean": with_head(transfer, "centroid"),
        "nothing learned, nearest mean": fm.ProtoNet(identity, "cosine").fit(twenty, 0),
        "ProtoNet from the identity": fm.ProtoNet(identity, "cosine").fit(twenty, optimizer=fm.Adam(3e-4), **run),
        "MAML, 5 steps": fm.MAML(fm.MLP((WIDTH, 128, WAYS)), 0.5, 1).fit(train, tasks_per_step=8, **run),
    }


def with_head(transfer: fm.Transfer, head: str) -> fm.Transfer:
    """The same pretraining with another head."""
    other = copy.copy(transfer)
    other.head = head
    return other


def table(title: str, learners: dict[str, fm.Learner], tests: Domains, episodes: int) -> dict:
    """Print accuracies by domain and shots with the gain on the first row; scores by (domain, row, shots)."""
    found = {}
    for domain, tasks in tests.items():
        print(f"\n{title}, {domain}: 5-way accuracy in % and gain on transfer learning, {episodes} tasks ± 95 %")
        print(f"{'':<32}" + "".join(f"{f'{shots} shots':>26}" for shots in SHOTS))
        for row, learner in learners.items():
            cells = ""
            for shots in SHOTS:
                sized = replace(tasks, shots=shots)
                options = {"inner_steps": 5} if isinstance(learner, fm.MAML) else {}
                options |= {"batch_norm": "frozen"} if learner.batch_norm == "transductive" else {}
                score = learner.evaluate(sized, episodes, **options)
                found[domain, row, shots] = score
                gain = fm.compare(score, found[domain, BASELINE, shots])
                cells += f"{100 * score.mean:>10.1f}{100 * gain.mean:>+8.1f} ± {100 * gain.ci95:<5.1f}"
            print(f"{row:<32}{cells}", flush=True)
    return found


def main() -> None:
    """Print the tables of both problems, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("omniglot", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--iterations", type=int, nargs=2, default=[400, 300], help="on images, on texts")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--picture", type=Path)
    options, results = parser.parse_args(), {}
    for seed in options.seeds:
        for title, domains, learners, iterations in (
            ("requests", lambda: requests(options.data, 1 + seed, WIDTH), of_texts, options.iterations[1]),  # noqa: B023
            ("characters", lambda: characters(options.omniglot, seed), of_images, options.iterations[0]),  # noqa: B023
        ):
            train, tests = domains()
            results[title, seed] = table(
                f"{title}, seed {seed}", learners(train, iterations, seed), tests, options.episodes
            )
    if options.picture:
        draw(results, SHOTS, options.picture)


if __name__ == "__main__":
    main()
