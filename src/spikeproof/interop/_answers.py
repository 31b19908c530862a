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

    A list of tensors (N,K) is the steps, (T,N,K). Raises SpikeproofError for a tuple of such tensors, of which nobody
    can say whether they are steps or several outputs, and for what has names.
    """
    if isinstance(returned, Mapping) or _is_record(returned):
        names = list(returned) if isinstance(returned, Mapping) else list(vars(returned))
        got = f"{type(returned).__name__} of {', '.join(map(repr, names[:6]))}"
        raise SpikeproofError("logits (N,K) or (T,N,K)", got, mend=f"{_READOUT}{_named(returned, names)}")
    if not isinstance(returned, tuple | list) or not returned:
        return returned
    if len(returned) == 1 or not _alike(returned):
        return first(returned[0])
    if type(returned) is list:
        return torch.stack(returned)
    raise SpikeproofError(
        "logits (N,K) or (T,N,K)",
        f"a tuple of {len(returned)} tensors {tuple(returned[0].shape)}: steps, or several outputs",
        mend=f"{_READOUT}torch.stack(out).mean(0) where they are steps, or out[0]",
    )


def unread(returned: Any) -> str:
    """What is left unread of several things that a network returns, in words; '' where nothing is."""
    if not isinstance(returned, tuple | list) or len(returned) < 2:
        return unread(returned[0]) if isinstance(returned, tuple | list) and returned else ""
    if _alike(returned):
        return ""
    rest = ", ".join(_word(one) for one in returned[1:4])
    return f"the first of {len(returned)} things it returns is read, and not the rest: {rest}"


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
