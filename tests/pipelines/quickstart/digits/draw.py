"""Draws a figure's cells into a PNG: ``python3 -m digits.draw FIGURE.json PICTURE.png``."""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle


def draw(figure: dict, picture: Path) -> None:
    """Draw ``figure``, as the step ``figure`` returns it, into the file ``picture``."""
    labels = figure["labels"]
    canvas = Figure(figsize=(6, 6), dpi=120)
    axes = canvas.subplots()
    for cell in figure["cells"]:
        corner = (cell["column"] - 0.5, cell["row"] - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=cell["fill"], edgecolor="white"))
        axes.text(cell["column"], cell["row"], cell["text"], color=cell["ink"], ha="center", va="center")
    axes.set(
        title=figure["title"],
        xlabel="read as",
        ylabel="written",
        xticks=range(len(labels)),
        yticks=range(len(labels)),
        xticklabels=labels,
        yticklabels=labels,
        xlim=(-0.5, len(labels) - 0.5),
        ylim=(len(labels) - 0.5, -0.5),
        aspect="equal",
    )
    # Without the program's version in it, equal figures make equal files.
    canvas.savefig(picture, metadata={"Software": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
