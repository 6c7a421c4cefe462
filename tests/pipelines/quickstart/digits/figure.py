"""What the picture is to show, as plain data: a cell for each pair of digits, in colours of matplotlib's."""

import matplotlib
from matplotlib.colors import to_hex

from dispatch import step


@step("figure")
def figure(report: dict, colours: str = "viridis") -> dict:
    """Lay out the confusion matrix: the more of a row a cell holds, the stronger its colour."""
    shade = matplotlib.colormaps[colours]
    cells = []
    for row, counts in enumerate(report["confusion"]):
        for column, count in enumerate(counts):
            colour = shade(count / max(1, sum(counts)))
            light = 0.30 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 0.5
            cells.append(
                {
                    "row": row,
                    "column": column,
                    "text": str(count) if count else "",
                    "fill": to_hex(colour),
                    "ink": "black" if light else "white",
                }
            )
    title = f"{report['best']}: {report['accuracy']:.1%} of {report['tested']} digits read rightly"
    return {"title": title, "labels": [str(label) for label in report["labels"]], "cells": cells}
