"""Sixteen moves of an unknown pendulum, and its model is good enough to swing it up: `python -m examples.pendulum`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

import fastmeta as fm
from examples.pendulum.pendulums import DT, TORQUE, Array, Pendulums, bodies, features, move

NET = fm.MLP((4, 64, 64, 2), activation="tanh")
PLANS, HORIZON, SECONDS = 128, 20, 8.0
Model = Callable[[Array, Array, Array], tuple[Array, Array]]


class Pooled(fm.MAML):
    """One network for all tasks, trained without inner steps."""

    def meta_gradients(self, batch: fm.Batch) -> tuple[float, dict[str, np.ndarray]]:
        """The mean query loss over tasks, and its gradient."""
        loss, slopes = fm.gradient(self.net, self.theta, batch.x_query, batch.y_query, device=self.device)
        return float(loss.mean()), {"theta": slopes.mean(axis=0)}


def learned(model: fm.learning.adapted_model.AdaptedModel) -> Model:
    """The next angle and speed as an adapted network predicts them."""

    def predict(angle: Array, speed: Array, torque: Array) -> tuple[Array, Array]:
        change = model.predict(features(angle, speed, torque).reshape(-1, 4)).astype(float)
        return angle + change[:, 1] / 4, speed + change[:, 0]

    return predict


def control(body: Array, model: Model | None, seed: int) -> tuple[list[float], float]:
    """Angles of a swing-up from rest, and its return: the mean of -cos(angle), 1 where it stands all the time.

    Random-shooting model-predictive control: of 128 torque plans of one second, the first move of the best, and the
    better half of them, moved on, among the next ones. model None: the true pendulum.
    """
    rng = np.random.default_rng(seed)
    model = model or (lambda angle, speed, torque: move(body, angle, speed, torque))
    angle, speed, angles = np.array(0.0), np.array(0.0), []
    plans = rng.uniform(-TORQUE, TORQUE, (PLANS, HORIZON))
    for _ in range(int(SECONDS / DT)):
        a, s, value = np.full(PLANS, angle), np.full(PLANS, speed), np.zeros(PLANS)
        for torque in plans.T:
            a, s = model(a, s, torque)
            value += -np.cos(a) - 0.01 * s**2
        order = np.argsort(-value)
        angle, speed = move(body, angle, speed, plans[order[0], 0])
        angles.append(float(angle))
        kept = np.roll(plans[order[: PLANS // 2]], -1, axis=1)
        kept[:, -1] = rng.uniform(-TORQUE, TORQUE, len(kept))
        levels = rng.uniform(-TORQUE, TORQUE, (PLANS - len(kept), HORIZON // 5))
        plans = np.concatenate([kept, np.repeat(levels, 5, axis=1)])
    return angles, float(-np.cos(angles).mean())


def errors(seed: int, iterations: int, episodes: int) -> tuple[dict[str, fm.Score], fm.MAML, fm.MAML]:
    """Squared errors of a pooled network and of MAML before and after 10 steps, on the same unseen pendulums."""
    tasks = Pendulums()
    options = {"tasks_per_step": 25, "seed": seed}
    optimizer = fm.Adam(fm.CosineSchedule(3e-3, 1e-5, iterations))
    pooled = Pooled(NET, 0.05, 5).fit(tasks, iterations, optimizer=optimizer, **options)
    maml = fm.MAML(NET, 0.05, 5).fit(tasks, iterations, optimizer=optimizer, **options)
    rows = {}
    for name, learner in (("one network for all", pooled), ("MAML", maml)):
        found = learner.evaluate(tasks, episodes, inner_steps=[0, 5, 10])
        rows |= {f"{name}, {count} steps": score for count, score in found.items()}
    return rows, pooled, maml


def swing_up(maml: fm.MAML, pooled: fm.MAML, pendulums: int, seed: int) -> dict[str, list[tuple[list[float], float]]]:
    """Closed loops on unseen pendulums, with each model in turn."""
    runs: dict[str, list[tuple[list[float], float]]] = {}
    for i in range(pendulums):
        one = Pendulums().sample(1, seed=100 + seed, step=i)
        body = bodies(fm.tasks.episode.stream(100 + seed, i), 1)[0]
        adapt = lambda learner, steps: learned(  # noqa: E731
            learner.adapt(one.x_support[0], one.y_support[0], inner_steps=steps)  # noqa: B023
        )
        models = {"true pendulum": None, "MAML, 10 steps": adapt(maml, 10), "one network for all": adapt(pooled, 0)}
        for name, model in models.items():
            runs.setdefault(name, []).append(control(body, model, seed=i))
    return runs


def main() -> None:
    """Print both tables, and animate three pendulums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--iterations", type=int, default=3000)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--pendulums", type=int, default=20)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    for seed in options.seeds:
        rows, pooled, maml = errors(seed, options.iterations, options.episodes)
        print(f"\nseed {seed}: mean squared error of the next 16 moves, {options.episodes} unseen pendulums")
        for name, score in rows.items():
            print(f"{name:<32}{score!s:>20}   median {score.median:.4f}", flush=True)
        runs = swing_up(maml, pooled, options.pendulums, seed)
        print(f"return of {SECONDS:.0f} s of control, {options.pendulums} pendulums (1 stands, -1 hangs), and 95 %")
        best = np.array([value for _, value in runs["true pendulum"]])
        for name, found in runs.items():
            values = np.array([value for _, value in found])
            half, gap = (1.96 * part.std() / len(part) ** 0.5 for part in (values, values - best))
            less = f"less the true one {(values - best).mean():+.2f} ± {gap:.2f}"
            print(f"{name:<32}{values.mean():>8.2f} ± {half:.2f}, {less}", flush=True)
    if options.picture:
        from examples.pendulum.picture import animate

        animate({name: [angles for angles, _ in found] for name, found in runs.items()}, DT, options.picture)


if __name__ == "__main__":
    main()
