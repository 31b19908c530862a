"""What an attack does to an image, and where the gradient is that it follows: two images a cell, chosen by a rule."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from spikeproof.report import _pixels
from spikeproof.report._blocks import Block, Fold, Heading, Paragraph, Section, text
from spikeproof.report._findings import Findings
from spikeproof.report._summary import Summary
from spikeproof.store.pictures import Layer, Picture, layer_bytes

PLACE = 145

_MOST = 12
"""Up to so many cells are shown, the first of the page."""

_RULE = """
Chosen by a rule: at the panel of the headline, in the order of the test set, the first image that was right when clean
and fell, as the attack left it that broke it first, and the first that stood, as the plain attack left it. The change
is white where nothing changed, orange where there is more now, blue where less. A gradient's map is that of the
cross-entropy at the clean input, summed over time, its size summed over channels: white where it is exactly zero, black
where it is largest. Of grids of events the counts over time are drawn: on in orange, off in blue. Events that move in
time alone leave these counts as they are, so such an attack shows no change.
"""

_MAPS = {"image": "gradient at the input", "encoded": "gradient at the encoded input", "pool": "gradient at the pool"}


def section(of: Findings) -> Section | None:
    cells = [cell for cell in of.cells if cell.pictures is not None and cell.pictures.pictures]
    if not cells:
        return None
    blocks: list[Block] = [Paragraph(text(_RULE))]
    without = len(of.cells) - len(cells)
    if without:
        blocks.append(Paragraph(f"None was kept of {without} of the {len(of.cells)} cells."))
    if len(cells) > _MOST:
        blocks.append(Paragraph(f"The first {_MOST} of the {len(cells)} cells that have some are shown."))
    for cell in cells[:_MOST]:
        blocks += _shown(cell)
    return Section("", [Fold("An attacked image, and its gradient", "pictures", blocks)], "pictures.css")


def _shown(cell: Summary) -> list[Block]:
    assert cell.pictures is not None
    where = f"{cell.pictures.evaluation}, eps {cell.pictures.eps_text}"
    blocks: list[Block] = [Heading(f"{cell.label} ({where})", level=3)]
    for one in cell.pictures.pictures:
        blocks += [Paragraph(_said(one)), Paragraph(_row(one), "pictures")]
    return blocks


def _said(one: Picture) -> str:
    what = f"answered {one['attacked']} after {one['attack']}"
    start = f"Test image {one['image']}, of class {one['label']}"
    return f"{start}, fell: {what}." if one["outcome"] == "fell" else f"{start}, stood: still {what}."


def _row(one: Picture) -> Markup:
    seen = _pixels.as_events if one["events"] else _pixels.as_image
    layers = one["layers"]
    which = f"of test image {one['image']}"
    shown = [
        _one("clean", f"clean, class {one['clean']}", _pixels.element(seen(layers["clean"]), f"clean picture {which}")),
        _one("attacked", f"attacked, class {one['attacked']}",
             _pixels.element(seen(layers["attacked"]), f"attacked picture {which}")),
        _one("change", _changed(one), _pixels.element(_pixels.as_change(layers["change"]), f"change {which}")),
    ]  # fmt: skip
    for name, words in _MAPS.items():
        if name in layers:
            said = f"{words}, {_zeros(layers[name])} zero"
            shown.append(_one(name, said, _pixels.element(_pixels.as_map(layers[name]), f"{said}, {which}")))
    return Markup("").join(shown)


def _changed(one: Picture) -> str:
    """How large the largest change is; an event that only came at another time is in the same pixel of the counts."""
    scale = one["layers"]["change"]["scale"]
    return "no change but in time" if one["events"] and scale == 0 else f"change, at most {scale:.3g}"


def _one(name: str, words: str, image: Markup) -> Markup:
    return text('<span class="picture {}">{}<span>{}</span></span>', name, image, words)


def _zeros(layer: Layer) -> str:
    """The share of pixels at which no channel has a gradient."""
    x = np.frombuffer(layer_bytes(layer), dtype=np.uint8)
    return f"{100 * float((x == 0).mean()):.0f} %"
