"""Swing-ups as an animated GIF: a row a model, a column a pendulum."""

from __future__ import annotations

from math import cos, sin
from pathlib import Path

from PIL import Image, ImageDraw

SIZE, COLUMNS, LEFT = 90, 5, 130


def animate(runs: dict[str, list[list[float]]], seconds: float, path: Path) -> None:
    """Every second state of the first five pendulums, in about its own time."""
    frames = []
    moves = len(next(iter(runs.values()))[0])
    for t in range(0, moves, 2):
        frame = Image.new("P", (LEFT + SIZE * COLUMNS, SIZE * len(runs)), 0)
        frame.putpalette([255, 255, 255, 30, 30, 30, 200, 60, 50] + [0] * 759)
        pen = ImageDraw.Draw(frame)
        for row, (name, angles) in enumerate(runs.items()):
            pen.text((4, SIZE * row + SIZE // 2 - 6), name, fill=1)
            for column, path_of_one in enumerate(angles[:COLUMNS]):
                x, y = LEFT + SIZE * column + SIZE // 2, SIZE * row + SIZE // 2
                end = (x + 34 * sin(path_of_one[t]), y + 34 * cos(path_of_one[t]))
                pen.line([(x, y), end], fill=1, width=3)
                pen.ellipse([end[0] - 6, end[1] - 6, end[0] + 6, end[1] + 6], fill=2)
        frames.append(frame)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=int(2000 * seconds), loop=0, optimize=True)
