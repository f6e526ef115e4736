"""N-way K-shot classification tasks over labelled arrays.

One file of more than 200 lines, because what a class needs and how it is drawn are one rule.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmeta import checks
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta.inputs import features
from fastmeta.labels import Names, numbered
from fastmeta.tasks import transforms
from fastmeta.tasks.episode import Batch, stream
from fastmeta.tasks.sizes import SMALL, Size, checked_size, drawn, lowest
from fastmeta.tasks.transforms import Transform

if TYPE_CHECKING:
    from fastmeta.tasks.images.pictures import Pictures


def from_arrays(
    x: ArrayLike,
    y: ArrayLike | Sequence[Hashable],
    ways: int = 5,
    shots: Size = 1,
    queries: Size = 15,
    small_classes: str = "refuse",
    attributes: ArrayLike | None = None,
    preparation: Pictures | None = None,
    transform: Transform | None = None,
) -> LabelledTasks:
    """N-way K-shot tasks over anybody's labelled samples.

    x (n, ...features): floats, or uint8 images, which come out divided by 255; neither is copied where it is
    C-contiguous float32 or uint8. y (n,): one label per sample, whole numbers of any values, or strings, tuples and
    whatever else can be hashed; the tasks' `class_names` are the distinct ones, in ascending order where they have
    one, otherwise as they first come. A task has `ways` classes with `shots` support and `queries` query samples each.
    Either may be a range, (lowest, highest), of which each call of `sample` draws one number for all of its tasks,
    within what their classes have.

    small_classes: a class of fewer than shots + queries samples (the lowest of a range) is an error, "refuse"; is
    left out, "skip"; or is used, "use": the tasks of a call that has it take only as many queries of each class.
    `left_out` names the classes left out; with "use" those are the ones of no more samples than shots.
    attributes (classes, A): floats that describe each distinct label, in that order, for learners that read a
    class from its description, `ZeroShot` and `SideInformation`. preparation: how pictures became these samples, where
    they did, so that models of a learner trained on them take pictures. transform(x, rng): augmentation of the float32
    samples x (samples, ...) of one task, support samples first; it gives others of that shape and dtype. rng is the
    task's own, so that an episode stays a pure function of (seed, step).

    Raises ValueError or TypeError where shapes or kinds do not fit, a value is masked or not finite, `ways` exceeds
    the number of classes, or a class is too small.
    Source: Vinyals et al. 2016, arXiv 1606.04080 (episodes).

    >>> x, y = np.random.default_rng(0).random((60, 8)), np.repeat([3, 5, 9], 20)
    >>> from_arrays(x, y, ways=2, shots=1, queries=15).sample(4, seed=0).x_query.shape
    (4, 30, 8)
    """
    described = None if attributes is None else checks.array("attributes", attributes)
    return LabelledTasks(
        checks.array("x", x),
        y,  # type: ignore[arg-type]
        ways,
        shots,
        queries,
        small_classes=small_classes,
        attributes=described,
        preparation=preparation,
        transform=transform,
    )


@dataclass(frozen=True, eq=False)
class LabelledTasks:
    """Tasks of `ways` classes drawn from samples x (n, ...) with labels y (n,); see `from_arrays`.

    `classes` holds the distinct labels in ascending order, `class_names` what they are called. Where `variants` > 1,
    each run of that many is one thing in several forms (the rotations of one character), and a task holds at most one
    form of it. `names` has a name for each distinct label, in ascending order, or is empty: the labels are names.
    Other sizes over the same samples: `dataclasses.replace(tasks, ways=20)`; augmented ones: `transform=`.
    """

    x: NDArray[Any] = field(repr=False)
    y: NDArray[Any] = field(repr=False)
    ways: int = 5
    shots: Size = 1
    queries: Size = 15
    variants: int = 1
    names: tuple[Any, ...] = field(default=(), repr=False)
    small_classes: str = "refuse"
    attributes: NDArray[Any] | None = field(default=None, repr=False)  # (classes, A)
    preparation: Pictures | None = field(default=None, repr=False)
    transform: Transform | None = field(default=None, repr=False)
    left_out: tuple[Any, ...] = field(init=False, repr=False)
    classes: NDArray[Any] = field(init=False, repr=False)
    class_names: tuple[Any, ...] = field(init=False, repr=False)
    _order: NDArray[np.intp] = field(init=False, repr=False)  # (n,) samples, class by class
    _first: NDArray[np.intp] = field(init=False, repr=False)  # (classes,) where each class begins in _order
    _count: NDArray[np.intp] = field(init=False, repr=False)  # (classes,)

    def __post_init__(self) -> None:
        x = checks.array("x", self.x)
        y, names = (self.y, self.names) if self.names else numbered("y", self.y)
        settings: dict[str, Any] = {
            "ways": checks.integer("ways", self.ways, 2),
            "shots": checked_size("shots", self.shots),
            "queries": checked_size("queries", self.queries),
            "variants": checks.integer("variants", self.variants, 1),
            "small_classes": checks.choice("small_classes", self.small_classes, SMALL),
            "names": names,
            "transform": transforms.checked(self.transform),
        }
        check_samples(x, y)
        if self.preparation is not None and self.preparation.shape != x.shape[1:]:
            raise ValueError(f"preparation={self.preparation!r} must give samples of x, which are {x.shape[1:]}.")
        classes, count = np.unique(y, return_counts=True)
        arrays = {"x": stored(x), "y": y, "classes": classes, "_count": count}
        arrays |= {"_order": np.argsort(y, kind="stable"), "_first": np.cumsum(count) - count}
        checks.settle(self, **settings, **arrays)
        self._check_attributes()
        self._check_sizes()

    def sample(self, tasks: int, seed: int, step: int = 0) -> Batch:
        """x (tasks, ways * samples, ...) float32, y (tasks, ways * samples) int64 in 0 .. ways-1, by class.

        Classes are drawn without replacement, and which class is label 0 is chance; a class's support and
        query samples are distinct. All classes have the same number of samples. A pure function of (seed, step).
        Raises where tasks < 1, or seed or step is not a whole number >= 0.
        """
        return self.share(tasks, 0, tasks, seed, step)

    def share(self, tasks: int, begin: int, end: int, seed: int, step: int = 0) -> Batch:
        """Tasks begin .. end - 1 of sample(tasks, seed, step): the same bits, and no others are gathered."""
        rng = stream(seed, step)
        chosen = self._chosen(rng, tasks)
        flat = chosen.ravel()
        fewest = int(self._count[flat].min())
        shots = drawn(rng, self.shots, fewest - self._least_queries)
        queries = drawn(rng, self.queries, fewest - shots)
        places = draw(rng, self._count[flat], shots + queries)  # (tasks * ways, samples)
        rows = self._order[self._first[flat, None] + places].reshape(tasks, self.ways, -1)[begin:end]
        parts = [part.reshape(len(rows), self.ways * part.shape[2]) for part in np.split(rows, [shots], axis=2)]
        x_support, x_query = self._samples(parts, seed, step, begin)
        y_support, y_query = (np.tile(np.repeat(np.arange(self.ways), n), (len(rows), 1)) for n in (shots, queries))
        described = None if self.attributes is None else self.attributes[chosen[begin:end]]
        return Batch(x_support, y_support, x_query, y_query, attributes=described)

    def classes_of(self, tasks: int, seed: int, step: int = 0) -> NDArray[np.int64]:
        """(tasks, ways): which of `class_names` each label of sample(tasks, seed, step) is; nothing is gathered."""
        return self._chosen(stream(seed, step), tasks)

    def _chosen(self, rng: np.random.Generator, tasks: int) -> NDArray[np.int64]:
        """(tasks, ways) places of classes."""
        kinds = np.full(checks.integer("tasks", tasks, 1), len(self.classes) // self.variants)
        chosen = draw(rng, kinds, self.ways)
        if self.variants > 1:
            chosen = chosen * self.variants + rng.integers(self.variants, size=chosen.shape)
        return chosen

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """The samples of these places in x, of shape rows.shape + (...), as they come in tasks."""
        return features(self.x.take(rows, axis=0))  # type: ignore[no-any-return]

    def on_device(self, device: str) -> LabelledTasks:
        """The same tasks, to the bit, whose samples lie where `device` computes, if they take half of its free memory.

        They are gathered there. Those that are transformed stay, for that is done by NumPy.
        """
        backend = devices.backend(device)
        if self.transform is not None or self.x.nbytes > backend.free_bytes() // 2:
            return self
        moved = copy.copy(self)
        checks.settle(moved, x=backend.on_device(self.x))
        return moved

    def _samples(self, parts: list[NDArray[np.intp]], seed: int, step: int, begin: int) -> list[NDArray[np.float32]]:
        """The samples of parts (T, N) of tasks begin .. , transformed together."""
        if self.transform is None:
            return [self.take(rows) for rows in parts]
        x = transforms.transformed(self.take(np.concatenate(parts, axis=1)), self.transform, seed, step, begin)
        return np.split(x, [parts[0].shape[1]], axis=1)

    @property
    def fewest(self) -> int:
        """The number of samples of the smallest of `classes`."""
        return int(self._count.min())

    @property
    def _least_queries(self) -> int:
        return 1 if self.small_classes == "use" else lowest(self.queries)

    def _check_attributes(self) -> None:
        given = self.attributes
        if given is None:
            return
        if given.dtype.kind != "f" or given.ndim != 2 or len(given) != len(self.classes):
            raise ValueError(
                f"attributes of shape {given.shape} and dtype {given.dtype} must be floats of shape "
                f"({len(self.classes)}, attributes), a row for each distinct label of y in ascending order."
            )
        checks.settle(self, attributes=stored(given, "attributes"))

    def _check_sizes(self) -> None:
        """Leave out the classes that are too small, or raise."""
        names = self.names or tuple(self.classes.tolist())
        if len(names) != len(self.classes):
            raise ValueError(f"names of length {len(names)} must name each of the {len(self.classes)} classes.")
        kept = _kept(self, names, lowest(self.shots) + self._least_queries)
        parts = {name: getattr(self, name)[kept] for name in ("classes", "_first", "_count")}
        parts |= {} if self.attributes is None else {"attributes": self.attributes[kept]}
        left_out, class_names = (tuple(compress(names, some)) for some in (~kept, kept))
        checks.settle(self, left_out=left_out, class_names=class_names, **parts)


def _kept(tasks: LabelledTasks, names: Names, need: int) -> NDArray[np.bool_]:
    """(classes,): which have `need` samples in all their variants; raises where one must not, or too few do."""
    total, variants, count = len(names), tasks.variants, tasks._count
    if total % variants:
        raise ValueError(f"variants={variants} must divide the number of classes, {total}.")
    small = count < need
    if tasks.ways <= total // variants and small.any() and tasks.small_classes == "refuse":
        i, others = int(count.argmin()), int(small.sum()) - 1
        called = f'"{names[i]}"' if isinstance(names[i], str) else names[i]
        raise ValueError(
            f"shots + queries={need} must be at most {count[i]}, the number of samples of class {called}"
            f"{f' ({others} others have too few, too)' if others else ''}. Lower shots or queries, or leave "
            'such classes out: small_classes="skip" does, "use" takes the queries that they have.'
        )
    kept: NDArray[np.bool_] = np.repeat(~small.reshape(-1, variants).any(axis=1), variants)
    if tasks.ways > (kinds := int(kept.sum()) // variants):
        left_out = list(compress(names, ~kept))
        without = f" without {', '.join(map(str, left_out[:5]))}, which are too small" if left_out else ""
        raise ValueError(
            f"ways={tasks.ways} must be at most {kinds}, the number of classes that a task can hold{without}. "
            "Lower ways or give samples of more classes."
        )
    return kept


def draw(rng: np.random.Generator, population: NDArray[np.intp], k: int) -> NDArray[np.int64]:
    """(R, k) distinct numbers a row in 0 .. population-1, every order equally likely; population (R,).

    Floyd's algorithm (Bentley and Floyd 1987, CACM 30(9)) on all rows at once, then a shuffle of each row.
    """
    last = population - k + np.arange(k)[:, None]  # (k, R)
    drawn = rng.integers(last + 1)
    for i in range(1, k):
        taken = (drawn[:i] == drawn[i]).any(axis=0)
        np.copyto(drawn[i], last[i], where=taken)
    return rng.permuted(drawn.T, axis=1)


@quiet
def stored(x: NDArray[Any], name: str = "x") -> NDArray[Any]:
    """Samples as they are kept: contiguous uint8 as it is, or finite float32."""
    if x.dtype != np.uint8:
        x = x.astype(np.float32, copy=False)  # an overflow becomes an infinity, which the check names
        checks.finite(name, x)
    return np.ascontiguousarray(x)


def check_samples(x: NDArray[Any], y: NDArray[Any]) -> None:
    """Raise where x (n, ...) and y (n,) are no labelled samples."""
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise TypeError(
            f"x of dtype {x.dtype} must be floats or uint8. Convert it: pixels of 0 .. 255 by x.astype('uint8'), "
            "which divides them by 255 later, of 0 .. 65,535 by x / 65535, other features by x.astype('float32')."
        )
    if y.dtype.kind not in "iu":
        advice = "Give strings, whole numbers or tuples."
        if y.dtype.kind == "f":
            advice = "Where they are, y.astype(int); targets of a regression go to fm.tasks.from_groups(x, y, groups)."
        raise TypeError(f"y of dtype {y.dtype} must be whole numbers, the classes of samples. {advice}")
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"x of shape {x.shape} must be (samples, ...features) and not empty.")
    if y.shape != x.shape[:1]:
        raise ValueError(f"y of shape {y.shape} must be ({x.shape[0]},), one label per sample of x {x.shape}.")
