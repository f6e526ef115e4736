"""What personalisation buys on the watch data: `python -m benchmarks.personalisation`, about ten minutes on two cores.

Each pair of people is held out in turn and both networks are trained on the other eight. Every arm of every held-out
person is then evaluated on `EPISODES` draws of its support and query windows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm

PEOPLE = 10
EPISODES = 100
NETWORK = fm.Network(
    [
        *(fm.Conv2d(24, stride=2), fm.ReLU()),
        *(fm.Conv2d(24, stride=2), fm.ReLU()),
        *(fm.Conv2d(24, stride=2), fm.ReLU()),
        *(fm.GlobalMeanPool(), fm.Linear(7)),
    ],
    input_shape=(100, 1, 6),
)
ROWS = {
    "everybody": "one network for everybody, no personalisation",
    "fine-tuned": "the same, 10 gradient steps of 0.1 on the support set",
    "centroid": "the same, nearest class mean of its features",
    "MAML": "MAML, 5 steps of 0.1 in training, 10 here",
}


def accuracies(people: tuple[int, ...], shots: int) -> dict[str, list[float]]:
    """Accuracy of each row on each held-out person, the mean over both arms."""
    watch = fm.tasks.Watch(people, shots=shots, queries=10)
    pretrained = fm.Transfer(NETWORK, head="centroid").fit(watch.train, 800, optimizer=fm.Adam(3e-3))
    everybody = fm.MAML(NETWORK, inner_lr=0.1).fit(watch.train, 0, theta=pretrained.theta)
    maml = fm.MAML(NETWORK, inner_lr=0.1, inner_steps=5)
    maml.fit(watch.train, 800, tasks_per_step=4, optimizer=fm.Adam(3e-3))
    found: dict[str, list[float]] = {row: [] for row in ROWS}
    for person in people:
        arms = watch.test.of([2 * person, 2 * person + 1])
        plain = everybody.evaluate(arms, EPISODES, inner_steps=[0, 10])
        scores = {"everybody": plain[0], "fine-tuned": plain[10], "centroid": pretrained.evaluate(arms, EPISODES)}
        scores["MAML"] = maml.evaluate(arms, EPISODES, inner_steps=10)
        for row, score in scores.items():
            found[row].append(score.mean)
    return found


def interval(values: np.ndarray) -> str:
    """Mean and half its 95 % interval over people: 2.262 (Student, 9 degrees) standard errors."""
    return f"{100 * values.mean():.1f} ± {100 * 2.262 * values.std(ddof=1) / np.sqrt(len(values)):.1f}"


def table(results: dict[str, Any]) -> str:
    """Markdown: a row a method, two columns a number of shots."""
    shots = sorted(results, key=int)
    head = " | ".join(f"{n} window{'s' * (int(n) > 1)} each | less no personalisation" for n in shots)
    lines = [f"| | {head} |", "|---|" + "---|---|" * len(shots)]
    for row, text in ROWS.items():
        cells = []
        for n in shots:
            values, plain = np.array(results[n][row]), np.array(results[n]["everybody"])
            cells += [interval(values), "" if row == "everybody" else f"{interval(values - plain)}"]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what the file lacks, write it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/personalisation.json"))
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4])
    path, shots = parser.parse_args().out, parser.parse_args().shots
    results: dict[str, dict[str, list[float]]] = json.loads(path.read_text()) if path.exists() else {}
    for n in shots:
        found = results.setdefault(str(n), {row: [] for row in ROWS})
        for first in range(len(found["MAML"]) + 1, PEOPLE, 2):
            for row, values in accuracies((first, first + 1), n).items():
                found[row] += values
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            print(
                f"{n} shots, people {first} and {first + 1}:", {r: [round(v, 3) for v in found[r][-2:]] for r in ROWS}
            )
    print(table(results))


if __name__ == "__main__":
    main()
