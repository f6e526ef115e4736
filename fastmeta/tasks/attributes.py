"""Classes that attributes describe: a synthetic problem whose best zero-shot map and best gate are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastmeta import checks
from fastmeta.floating import quiet
from fastmeta.tasks.episode import Batch, stream
from fastmeta_kernels.contract import Array


@dataclass(frozen=True)
class AttributeClasses:
    """Classes with attributes a ~ N(0, 1) and samples x = a W + u + e: u ~ N(0, spread^2) is the class's own,
    e ~ N(0, noise^2) the sample's, W (attributes, features) the same in all tasks (drawn from `map_seed`).

    Attributes alone (shots=0) tell a class by the nearest a W. With n samples of mean s the best prototype is the
    posterior mean of a class's centre, g s + (1 - g) a W, with g = `best_gate`.

    >>> AttributeClasses(ways=5, shots=0).sample(2, seed=0).attributes.shape
    (2, 5, 6)
    """

    ways: int = 5
    shots: int = 1
    queries: int = 15
    attributes: int = 6
    features: int = 10
    spread: float = 0.5
    noise: float = 1.0
    map_seed: int = 0

    def __post_init__(self) -> None:
        least = {"ways": 2, "shots": 0, "queries": 1, "attributes": 1, "features": 1, "map_seed": 0}
        for name, at_least in least.items():
            checks.settle(self, **{name: checks.integer(name, getattr(self, name), at_least)})
        for name in ("spread", "noise"):
            checks.settle(self, **{name: checks.positive(name, getattr(self, name))})

    @property
    def best_map(self) -> Array:
        """W (attributes, features): the best linear map of attributes to prototypes."""
        rng = np.random.default_rng(self.map_seed)
        drawn: Array = rng.standard_normal((self.attributes, self.features)) / np.sqrt(self.attributes)
        return drawn

    @property
    def best_gate(self) -> float:
        """spread^2 / (spread^2 + noise^2 / n), the support mean's share in the best prototype; 0 without samples."""
        return self.spread**2 / (self.spread**2 + self.noise**2 / self.shots) if self.shots else 0.0

    @quiet
    def sample(self, tasks: int, seed: int, step: int = 0) -> Batch:
        """float32 x (tasks, ways * samples, features) by class, with attributes (tasks, ways, attributes)."""
        rng = stream(seed, step)
        tasks = checks.integer("tasks", tasks, 1)
        a = rng.standard_normal((tasks, self.ways, self.attributes))
        centres = a @ self.best_map + self.spread * rng.standard_normal((tasks, self.ways, self.features))
        (x_support, y_support), (x_query, y_query) = (
            self._samples(rng, centres, count) for count in (self.shots, self.queries)
        )
        return Batch(x_support, y_support, x_query, y_query, attributes=a.astype(np.float32))

    def _samples(self, rng: np.random.Generator, centres: Array, count: int) -> tuple[Array, Array]:
        x = np.repeat(centres, count, axis=1)
        x += self.noise * rng.standard_normal(x.shape)
        return x.astype(np.float32), np.tile(np.repeat(np.arange(self.ways), count), (len(centres), 1))
