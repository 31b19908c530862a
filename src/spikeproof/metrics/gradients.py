"""How sparse the gradients of a cell are on average: a mean over images of every measure at every place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["summarise"]

_OUTSIDE = {"image": -2, "encoded": -1}
"""The order of what lies before the first layer."""


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of gradients.jsonl -> batchnorm -> site -> scalar -> measure -> mean, as plain JSON.

    Sites: 'image', 'encoded', the name of each layer (the gradient that *enters* it), 'weights' (all together) and
    'weight:' with the name of each layer, which have the measure 'masked_share' too. Beside the measures stand `order`
    (the depth of the site), `images`, and `undefined`, the images whose gradient is all zero: they are left out of the
    means of scale-free measures, and a mean over no image is None.
    """
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["side"] != "output":
            found.setdefault((row["batchnorm"], row["site"], row["scalar"]), []).append(row)
    tree: dict[str, Any] = {}
    for (batchnorm, site, scalar), some in found.items():
        tree.setdefault(batchnorm, {}).setdefault(site, {})[scalar] = _place(site, some)
    return tree


def _place(site: str, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    numbers = [{**row["summed"], **({"masked_share": row["masked_share"]} if "masked_share" in row else {})}
               for row in rows]  # fmt: skip
    return {
        "order": _OUTSIDE.get(site, rows[0]["order"]),
        "images": len({row["image"] for row in rows}),
        "undefined": sum(one["l1"] == 0 for one in numbers),
        **{name: _mean([one[name] for one in numbers]) for name in numbers[0]},
    }


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None
