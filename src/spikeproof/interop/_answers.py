"""From what a foreign network returns to logits: a tensor, the list of its steps, or the first of several things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from spikeproof.errors import SpikeproofError

__all__ = ["averaged", "first", "unread"]

_READOUT = "a readout, from what the model returns to logits (N,K): readout=lambda out: "


def first(returned: Any) -> Any:
    """What logits are read from: a tensor itself, the first of several, or a list of one tensor a step, stacked.

    A list of tensors (N,K) is the steps, (T,N,K); of a named tuple its field `logits` is read. Raises SpikeproofError
    for several things of which nobody can say whether they are steps or several outputs, and for what has other names.
    """
    if isinstance(returned, Mapping) or _is_record(returned):
        names = list(returned) if isinstance(returned, Mapping) else list(vars(returned))
        got = f"{type(returned).__name__} of {', '.join(map(repr, names[:6]))}"
        raise SpikeproofError("logits (N,K) or (T,N,K)", got, mend=f"{_READOUT}{_named(returned, names)}")
    if not isinstance(returned, tuple | list) or not returned:
        return returned
    if hasattr(returned, "_fields"):
        return _field(returned)
    if len(returned) == 1:
        return first(returned[0])
    if type(returned) is list and _alike(returned):
        return torch.stack(returned)
    if doubt := _doubt(returned):
        raise SpikeproofError("logits (N,K) or (T,N,K)", doubt[0], mend=f"{_READOUT}{doubt[1]}")
    return first(returned[0])


def _field(returned: Any) -> Tensor:
    """The logits (N,K) of a named tuple; SpikeproofError with the names where none is called so."""
    found = dict(zip(returned._fields, returned, strict=True))
    logits = found.get("logits")
    if isinstance(logits, Tensor) and logits.dim() == 2:
        return logits
    got = f"{type(returned).__name__} of {', '.join(map(repr, found))}"
    name = next((n for n in ("logits", "out", "output") if n in found), next(iter(found)))
    raise SpikeproofError("logits (N,K) or (T,N,K)", got, mend=f"{_READOUT}out.{name}")


def _doubt(returned: tuple[Any, ...] | list[Any]) -> tuple[str, str] | None:
    """What several things are of which nobody can say whether they are steps, and a readout where they are."""
    kind, count, steps = type(returned).__name__, len(returned), "torch.stack(out).mean(0) where they are steps"
    one, two = returned[:2]
    if isinstance(one, Tensor) and isinstance(two, Tensor) and one.shape == two.shape:
        what = f"a {kind} of {count} tensors {tuple(one.shape)}"
        if one.dim() == 2 and _alike(returned):
            return f"{what}: steps, or several outputs", f"{steps}, or out[0]"
        if one.dim() == 2:
            return f"a {kind} of {count} things of several shapes: steps and something else, or several outputs", (
                "torch.stack(out[:-1]).mean(0) where all but the last are steps, or out[0]"
            )
        if one.dim() == 3 and (kind == "list" or len(one) == 1):
            return (
                f"{what}: steps, or several outputs",
                "torch.cat(out).mean(0) where they are steps, or out[0].mean(0)",
            )
        return None
    if kind == "list" and isinstance(one, tuple | list) and isinstance(two, tuple | list):
        steps = "torch.stack([step[0] for step in out]).mean(0) where they are steps"
        return f"a list of {count}, each a {type(one).__name__}: steps, or several outputs", f"{steps}, or out[0][0]"
    if kind == "list" and isinstance(one, Tensor) and isinstance(two, Tensor):
        return f"a list of {count} tensors of several shapes: steps, or several outputs", "out[0]"
    return None


def unread(returned: Any) -> str:
    """What a reader should know of how several things that a network returns are read, in words; '' for one thing."""
    if not isinstance(returned, tuple | list) or not returned:
        return ""
    if len(returned) == 1:
        return unread(returned[0])
    if _alike(returned):
        return f"a list of {len(returned)} is read as {len(returned)} steps" if type(returned) is list else ""
    if hasattr(returned, "_fields"):
        return f"{type(returned).__name__}.logits is read, and not the rest"
    rest = ", ".join(_word(one) for one in returned[1:4])
    said = f"the first of {len(returned)} things it returns is read, and not the rest: {rest}"
    return "; ".join(filter(None, (said, unread(returned[0]))))


def averaged(out: Any, size: int, axis: int | None) -> Tensor:
    """Logits (B,K) of an output (B,K), (T,B,K) with time on axis 0, or (B,T,K) with time on axis 1.

    axis: None where the shape tells. Raises SpikeproofError for everything else, with a mend by its shape.
    """
    if isinstance(out, Tensor) and out.dim() == 3 and (axis is not None or size in out.shape[:2]):
        out = out.mean(axis if axis is not None else int(out.shape[1] != size))
    if isinstance(out, Tensor) and out.dim() == 2 and len(out) == size and out.shape[1] >= 2:
        return out
    got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
    raise SpikeproofError(f"logits ({size},K) or (T,{size},K) from the model", got, mend=_mend(out, size))


def _mend(out: Any, size: int) -> str:
    if not isinstance(out, Tensor):
        return "give a readout, from what the model returns to (B,K)"
    if out.shape in ((size,), (size, 1)):
        return "two logits or more; of one number z: readout=lambda z: torch.stack([0 * z.flatten(), z.flatten()], 1)"
    if size == 1 and out.dim() == 1:
        return "keep the axis of the batch also where it has one image: flatten(1) or squeeze(-1), not squeeze()"
    return "time first, then the batch; or give wrap a readout, from what the model returns to (B,K)"


def _alike(returned: Any) -> bool:
    """Whether all are tensors (N,K) of one shape."""
    tensors = all(isinstance(one, Tensor) and one.dim() == 2 for one in returned)
    return tensors and len({one.shape for one in returned}) == 1


def _is_record(value: Any) -> bool:
    return hasattr(value, "__dataclass_fields__")


def _named(returned: Any, names: list[Any]) -> str:
    name = next((n for n in ("logits", "out", "output") if n in names), names[0] if names else "logits")
    return f"out[{name!r}]" if isinstance(returned, Mapping) else f"out.{name}"


def _word(one: Any) -> str:
    return f"a tensor {tuple(one.shape)}" if isinstance(one, Tensor) else f"a {type(one).__name__}"
