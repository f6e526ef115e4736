"""Adaptation gains of all rows, one panel a data set and protocol."""

from __future__ import annotations

from pathlib import Path

import fastmeta as fm


def draw(tables: dict[str, dict[str, fm.Score]], baseline: str, path: Path) -> None:
    """Points above the best row without a support set, with 95 % intervals over support sets; a colour a seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    titles = list(dict.fromkeys(name.rsplit(", seed", 1)[0] for name in tables))
    figure, panels = plt.subplots(1, len(titles), figsize=(3 + 2.6 * len(titles), 3.2), sharey=True, squeeze=False)
    for axes, title in zip(panels[0], titles, strict=True):
        seeds = [table for name, table in tables.items() if name.startswith(title)]
        for seed, table in enumerate(seeds):
            gains = [fm.compare(score, table[baseline]) for score in table.values()]
            places = [-i - 0.2 * seed for i in range(len(gains))]
            means, halves = ([100 * getattr(gain, part) for gain in gains] for part in ("mean", "ci95"))
            axes.errorbar(means, places, xerr=halves, fmt="o", ms=4, color=f"C{seed}", label=f"seed {seed}")
        axes.axvline(0, color="black", lw=1)
        axes.set(title=title, xlabel="ROC-AUC, points")
        axes.set_yticks([-i for i in range(len(seeds[0]))], list(seeds[0]))
    panels[0, -1].legend(loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
