"""Accuracy of each row, a panel a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fastmeta as fm


def draw(tables: dict[str, list[dict[str, dict[int, fm.Score]]]], baseline: str, path: Path) -> None:
    """A point a published split; filled with five shots, hollow with one; the line is the baseline's mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(tables), figsize=(3 + 2.4 * len(tables), 3), sharey=True, squeeze=False)
    for axes, (title, folds) in zip(panels[0], tables.items(), strict=True):
        for i, row in enumerate(folds[0]):
            for shots, face in ((1, "none"), (5, None)):
                values = [100 * fold[row][shots].mean for fold in folds]
                axes.scatter(values, np.full(len(values), -i), s=22, edgecolors=f"C{i}", facecolors=face or f"C{i}")
        for shots in (1, 5):
            axes.axvline(100 * np.mean([fold[baseline][shots].mean for fold in folds]), color="grey", lw=0.8)
        axes.set(title=title, xlabel="5-way accuracy, %")
        axes.set_yticks([-i for i in range(len(folds[0]))], list(folds[0]))
    figure.tight_layout()
    figure.savefig(path, dpi=100)
