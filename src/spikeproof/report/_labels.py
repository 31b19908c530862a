"""Labels of marks that do not run into each other: in a column of their own, or beside their marks in the first free
place of a fixed list, else the least crowded. And legends that end with the figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # its functions take half a second to import, and do so when they are first asked
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

__all__ = ["above", "beside", "place"]

_FONT = 8.5
"""Of labels, in points."""

_MARK = 4.5
"""Half the side of the square that a mark keeps free, in points."""

# Offsets in points from the mark: near ones first, and first those off the bars of its intervals. The text hangs on the
# side of its offset.
_PLACES = [(x, y) for reach in (1.0, 2.2, 3.6) for x, y in (
    (6 * reach, 5 * reach), (6 * reach, -5 * reach), (-6 * reach, 5 * reach), (-6 * reach, -5 * reach),
    (8 * reach, 0), (-8 * reach, 0), (0, 9 * reach), (0, -9 * reach),
)]  # fmt: skip


def above(figure: Figure, handles: Sequence[Any], most: int) -> None:
    """A legend above the axes, of as many columns, `most` at most, as the figure's width has room for."""
    FigureCanvasAgg(figure)
    for columns in range(most, 0, -1):
        legend = figure.legend(handles=list(handles), loc="outside upper left", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def beside(figure: Figure, axes: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str]) -> None:
    """Write the texts below each other to the right of the axes, each as near to the height of its point (data
    coordinates) as its neighbours let it, with a line to it. The axes must be high enough for all of them."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    order = sorted(range(len(points)), key=lambda n: points[n][::-1])
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = np.array([to_axes.transform(points[n])[1] for n in order])
    line = 1.25 * _FONT * figure.dpi / 72 / axes.get_window_extent().height
    for n, height in zip(order, _apart(wanted, line), strict=True):
        axes.annotate(
            texts[n], points[n], xytext=(1.03, height), textcoords="axes fraction", fontsize=_FONT, color="#23272f",
            va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#b6bac2", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 5},
        )  # fmt: skip


def _apart(wanted: np.ndarray, line: float) -> np.ndarray:
    """The heights nearest to those wanted (ascending, in 0..1) by least squares that are a line apart."""
    steps = line * np.arange(len(wanted))
    free = np.asarray(scipy.optimize.isotonic_regression(wanted - steps).x)
    highest = max(line / 2, 1 - line / 2 - steps[-1])
    apart: np.ndarray = np.clip(free, line / 2, highest) + steps
    return apart


def place(figure: Figure, axes: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str]) -> None:
    """Write each text beside its point (data coordinates). Call it last: it needs the final layout."""
    canvas: Any = FigureCanvasAgg(figure)  # Any: matplotlib leaves drawing untyped
    figure.draw_without_rendering()
    renderer = canvas.get_renderer()
    centres = [axes.transData.transform(point) for point in points]
    half = _MARK * figure.dpi / 72
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in centres]
    inside = axes.get_window_extent()
    for point, text in zip(points, texts, strict=True):
        note = axes.annotate(
            text,
            point,
            xytext=_PLACES[0],
            textcoords="offset points",
            fontsize=_FONT,
            color="#23272f",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#8a8f98", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4},
        )
        note.set_in_layout(False)
        size = _size(note, renderer)
        boxes = [_box(tuple(axes.transData.transform(point)), offset, size, figure.dpi / 72) for offset in _PLACES]
        costs = [_cost(box, taken, inside) for box in boxes]
        best = costs.index(min(costs))
        note.xyann = _PLACES[best]
        note.set(**dict(zip(("horizontalalignment", "verticalalignment"), _sides(_PLACES[best]), strict=True)))
        taken.append(boxes[best])


def _sides(offset: tuple[float, float]) -> tuple[str, str]:
    """How a text at an offset is aligned: it hangs on the side of its offset."""
    x, y = offset
    across = "center" if x == 0 else "left" if x > 0 else "right"
    return across, "center" if y == 0 else "bottom" if y > 0 else "top"


def _size(note: Annotation, renderer: RendererBase) -> tuple[float, float]:
    """Width and height in pixels, without the leader. Measured once: a place only moves the text."""
    note.update_positions(renderer)
    extent = Text.get_window_extent(note, renderer)  # an Annotation's own extent would hold its leader too
    return extent.width, extent.height


def _box(centre: Sequence[float], offset: tuple[float, float], size: tuple[float, float], scale: float) -> Bbox:
    """Where a text of a size lies that hangs at an offset (points) from a mark (pixels): in pixels."""
    start = {"left": 0.0, "bottom": 0.0, "center": -0.5, "right": -1.0, "top": -1.0}
    across, along = _sides(offset)
    x = centre[0] + scale * offset[0] + start[across] * size[0]
    y = centre[1] + scale * offset[1] + start[along] * size[1]
    return Bbox.from_bounds(x, y, *size)


def _cost(box: Bbox, taken: Sequence[Bbox], inside: Bbox) -> float:
    """The area, in square pixels, that the box shares with others or that sticks out of the axes."""
    return sum(_shared(box, other) for other in taken) + box.width * box.height - _shared(box, inside)


def _shared(a: Bbox, b: Bbox) -> float:
    common = Bbox.intersection(a, b)
    return 0.0 if common is None else float(common.width * common.height)
