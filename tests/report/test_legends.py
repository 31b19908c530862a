"""A legend above a figure has as many columns as fit, and ends with the figure."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spikeproof.report._labels import above


@pytest.mark.parametrize(("letters", "columns"), [(3, 4), (30, 2), (60, 1), (200, 1)])
def test_a_legend_has_the_columns_that_fit(letters: int, columns: int) -> None:
    figure = Figure(figsize=(8.4, 4), layout="constrained")
    figure.add_subplot()
    above(figure, [Line2D([], [], label="n" * letters) for _ in range(5)], 4)
    (legend,) = figure.legends
    figure.draw_without_rendering()
    assert legend._ncols == columns
    assert columns == 1 or legend.get_window_extent().x1 <= figure.bbox.x1
    assert len(legend.get_texts()) == 5
