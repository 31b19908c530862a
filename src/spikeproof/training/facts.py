"""What a network that was trained here says of itself, in the header of its weights; what that cost, beside them.

Two equal trainings say the same and write the same bytes; what the clock and the machine say stands in another file.
"""

import json
from pathlib import Path
from typing import Any, TypedDict, cast, get_type_hints

from spikeproof.errors import SpikeproofError
from spikeproof.limits import ENTRIES
from spikeproof.rows import HistoryRow, fits

__all__ = ["Facts", "Took", "facts_of", "took_of"]


class Facts(TypedDict, total=False):
    """All of it of a network that was trained here, nothing of another program's."""

    architecture: dict[str, object]
    neuron: dict[str, object]
    input_shape: list[int]  # channels, height, width of an image
    classes: list[str]
    best_epoch: int  # the one whose weights these are, from 1
    history: list[HistoryRow]


class Took(TypedDict, total=False):
    """What a training cost."""

    train_seconds: float | None  # None where it was stopped and went on: nobody knows how long the first part took
    trained_on: str


def facts_of(header: object, source: Path) -> Facts:
    """What the header of a file of weights says, as far as it says it; SpikeproofError where that cannot be."""
    facts = cast(Facts, _typed(header, Facts, source))
    shape, history = facts.get("input_shape", [1]), facts.get("history", [])
    if min(shape, default=0) < 1 or shape[0] > ENTRIES:
        raise SpikeproofError(f"an input_shape in {source} of 1 to {ENTRIES} channels, and of pixels", shape[:3])
    if not 1 <= facts.get("best_epoch", 1) <= max(1, len(history)):
        raise SpikeproofError(f"a best_epoch among the {len(history)} in {source}", facts["best_epoch"])
    return facts


def took_of(path: Path) -> Took:
    """What the file beside them says; SpikeproofError as above."""
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SpikeproofError(f"what a training cost at {path}", error) from error
    return cast(Took, _typed(tree, Took, path))


def _typed(tree: object, kind: type, source: Path) -> dict[str, object]:
    if not isinstance(tree, dict):
        raise SpikeproofError(f"what a training says of itself in {source} as an object of JSON", type(tree).__name__)
    kinds: dict[str, Any] = get_type_hints(kind)
    said = {name: tree[name] for name in kinds if name in tree}
    for name, value in said.items():
        if not fits(value, kinds[name]):
            raise SpikeproofError(f"what a training says of its {name} in {source}", ascii(value)[:80])
    return said
