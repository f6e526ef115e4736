"""Accuracy over shots, a panel a domain."""

from __future__ import annotations

from pathlib import Path

import fastmeta as fm


def draw(results: dict[tuple[str, int], dict[tuple[str, str, int], fm.Score]], shots: tuple, path: Path) -> None:
    """Full lines are the first seed, dashed ones the second."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = list(dict.fromkeys((title, domain) for (title, _), table in results.items() for domain, _, _ in table))
    seeds = list(dict.fromkeys(seed for _, seed in results))
    figure, axes = plt.subplots(1, len(panels), figsize=(2.9 * len(panels), 3.2), layout="constrained")
    for panel, (title, domain) in zip(axes, panels, strict=True):
        for seed, style in zip(seeds, ("-", "--", ":"), strict=False):
            table = results[title, seed]
            for i, row in enumerate(dict.fromkeys(row for _, row, _ in table)):
                means = [100 * table[domain, row, count].mean for count in shots]
                label = row if seed == seeds[0] else None
                panel.plot(shots, means, "o" + style, ms=3, color=f"C{i}", label=label)
        panel.set_xscale("log")
        panel.set_xticks(shots, [str(count) for count in shots])
        panel.set_title(f"{title}:\n{domain}", fontsize=8)
        panel.set_xlabel("shots")
        panel.legend(fontsize=6)
    axes[0].set_ylabel("accuracy, %")
    figure.savefig(path, dpi=100)
