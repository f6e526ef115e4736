"""Omniglot few-shot classification with the splits of MAML and of Vinyals et al."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fastmeta import checks
from fastmeta.tasks.images.pictures import Pictures
from fastmeta.tasks.labelled import LabelledTasks
from fastmeta.tasks.omniglot.archives import ARCHIVES, Archive, Root
from fastmeta.tasks.parts import PARTS, Parts


class Omniglot(Parts):
    """N-way K-shot tasks over 1,623 handwritten characters with 20 drawings each, 28x28, ink = 1, paper = 0.

    `train`, `validation` and `test` are task sources whose samples have shape (28, 28, 1). `characters` maps
    these names to their characters "ALPHABET/characterNN". With `rotations` a character turned by 0, 90, 180
    and 270 degrees is four classes, in every part, as in the code of both papers: class 4 i + r of a part is
    its character i turned counter-clockwise r times.

    split="maml": characters shuffled by `seed` and cut into 1,100 / 100 / 423 (Finn et al. 2017, arXiv
    1703.03400: 1,200 for training, of which the authors' code holds out 100); 4,400 / 400 / 1,692 classes.
    A task's classes are different characters, each turned at random, as in that code.
    split="vinyals": the fixed 1,028 / 172 / 423 characters (Vinyals et al. 2016, arXiv 1606.04080, as used by
    Snell et al. 2017, arXiv 1703.05175); 4,112 / 688 / 1,692 classes. A task's classes are any of them, so it
    can hold one character in two rotations, as in that code.

    `root`: a folder with images_background.zip and images_evaluation.zip or their unpacked folders, or the
    two paths. None: the folder in the environment variable FASTMETA_OMNIGLOT, else a download into the user's
    cache folder (or FASTMETA_CACHE). Images are verified, resized once with Pillow's LANCZOS on grey levels
    and cached. The MAML authors' script names LANCZOS too, but on one-bit images, which these files are,
    Pillow takes the nearest pixel instead: their images are black and white, these are smooth.

    Raises ValueError or TypeError for bad sizes, names or archives, FileNotFoundError or ConnectionError
    where the images cannot be had, ModuleNotFoundError where Pillow is missing. Images: Lake et al. 2015.
    """

    archives: ClassVar[Sequence[Archive]] = ARCHIVES
    held_out: ClassVar[tuple[int, int]] = (100, 423)  # validation and test characters of the "maml" split

    def __init__(
        self,
        root: Root = None,
        ways: int = 5,
        shots: int = 1,
        queries: int = 15,
        split: str = "maml",
        rotations: bool = True,
        seed: int = 0,
    ) -> None:
        self.ways = checks.integer("ways", ways, 2)
        self.shots = checks.integer("shots", shots, 1)
        self.queries = checks.integer("queries", queries, 1)
        self.split = checks.choice("split", split, ("maml", "vinyals"))
        self.rotations = checks.switch("rotations", rotations)
        self.seed = checks.integer("seed", seed, 0)
        from fastmeta.tasks.omniglot.images import load_images

        names, self._images = load_images(root, self.archives)
        drawers = self._images.shape[1]
        if shots + queries > drawers:
            raise ValueError(
                f"shots + queries={shots + queries} must be at most {drawers}, the number of drawings of a "
                "character. Lower shots or queries."
            )
        self._index = {name: i for i, name in enumerate(names)}
        if self.split == "vinyals":
            self.characters = vinyals_split()
        else:
            self.characters = maml_split(names, self.seed, *self.held_out)

    def __repr__(self) -> str:
        sizes = f"ways={self.ways}, shots={self.shots}, queries={self.queries}"
        return f'Omniglot({sizes}, split="{self.split}", rotations={self.rotations}, seed={self.seed})'

    def _tasks(self, part: str) -> LabelledTasks:
        chosen = [self._index[name] for name in self.characters[part]]
        images = self._images[chosen]  # (C, drawers, 28, 28, 1)
        turns = 4 if self.rotations else 1
        turned = np.stack([np.rot90(images, r, axes=(2, 3)) for r in range(turns)], axis=1)
        x = turned.reshape(-1, *images.shape[2:])
        y = np.repeat(np.arange(len(images) * turns), images.shape[1])
        variants = turns if self.split == "maml" else 1
        names = [f"{name}, {90 * r} degrees" if r else name for name in self.characters[part] for r in range(turns)]
        preparation = Pictures(x.shape[1:], inverted=True)
        sizes = self.ways, self.shots, self.queries, variants
        return LabelledTasks(x, y, *sizes, names=tuple(names), preparation=preparation)


def maml_split(
    names: Sequence[str], seed: int = 0, validation: int = 100, test: int = 423
) -> dict[str, tuple[str, ...]]:
    """`names` shuffled by `seed` and cut; the same on every platform and version of Python and NumPy."""
    chance = random.Random(seed)  # random() is the one stream that Python promises to keep
    keys = {name: chance.random() for name in sorted(names)}
    shuffled = sorted(keys, key=keys.__getitem__)
    train = len(shuffled) - validation - test
    cuts = (0, train, train + validation, len(shuffled))
    return {part: tuple(shuffled[a:b]) for part, a, b in zip(PARTS, cuts[:-1], cuts[1:], strict=True)}


def vinyals_split() -> dict[str, tuple[str, ...]]:
    """The characters of each part as printed in vinyals.txt, whose lines read `part ALPHABET first-last`."""
    from importlib import resources

    characters: dict[str, list[str]] = {part: [] for part in PARTS}
    for line in resources.files("fastmeta.tasks.omniglot").joinpath("vinyals.txt").read_text("utf-8").splitlines():
        part, alphabet, span = line.split()
        first, last = map(int, span.split("-"))
        characters[part] += [f"{alphabet}/character{i:02d}" for i in range(first, last + 1)]
    return {part: tuple(names) for part, names in characters.items()}
