"""Damped, driven pendulums of unknown mass, length, damping and motor: the simulation, and tasks of what they do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import fastmeta as fm
from fastmeta.tasks.episode import stream

DT, GRAVITY, TORQUE = 0.05, 9.81, 8.0
LOWEST, HIGHEST = np.array([0.5, 0.5, 0.0, 0.4]), np.array([2.0, 1.5, 0.6, 1.6])  # mass, length, damping, motor gain
Array = NDArray[np.float64]


def bodies(rng: np.random.Generator, count: int) -> Array:
    """(count, 4) masses in kg, lengths in m, dampings in N m s and motor gains."""
    return rng.uniform(LOWEST, HIGHEST, (count, 4))


def move(body: Array, angle: Array, speed: Array, torque: Array) -> tuple[Array, Array]:
    """Angle (0 hangs down) and speed after 0.05 s of constant torque: five semi-implicit Euler steps."""
    mass, length, damping, gain = np.moveaxis(body, -1, 0)
    for _ in range(5):
        moment = gain * torque - damping * speed - mass * GRAVITY * length * np.sin(angle)
        speed = speed + DT / 5 * moment / (mass * length**2)
        angle = angle + DT / 5 * speed
    return angle, speed


def features(angle: Array, speed: Array, torque: Array) -> NDArray[np.float32]:
    """What a network sees, (..., 4): cos, sin, a quarter of the speed, half of the torque."""
    parts = np.broadcast_arrays(np.cos(angle), np.sin(angle), speed / 4, torque / TORQUE)
    return np.stack(parts, axis=-1).astype(np.float32)


def changes(body: Array, angle: Array, speed: Array, torque: Array) -> NDArray[np.float32]:
    """What a network predicts, (..., 2): the change of speed and four times that of the angle."""
    after = move(body, angle, speed, torque)
    return np.stack([after[1] - speed, 4 * (after[0] - angle)], axis=-1).astype(np.float32)


@dataclass(frozen=True)
class Pendulums:
    """Tasks of one pendulum each: `moves` transitions to learn from, and the `moves` that follow to predict."""

    moves: int = 16

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        """x (tasks, moves, 4), y (tasks, moves, 2): a motor driven at random from a random state."""
        rng = stream(seed, step)
        body = bodies(rng, tasks)
        angle, speed = rng.uniform(-np.pi, np.pi, tasks), rng.uniform(-4, 4, tasks)
        x, y = [], []
        for _ in range(2 * self.moves):
            torque = rng.uniform(-TORQUE, TORQUE, tasks)
            x.append(features(angle, speed, torque))
            y.append(changes(body, angle, speed, torque))
            angle, speed = move(body, angle, speed, torque)
        x, y = np.stack(x, axis=1), np.stack(y, axis=1)
        return fm.Batch(x[:, : self.moves], y[:, : self.moves], x[:, self.moves :], y[:, self.moves :])
