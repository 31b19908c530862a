"""What comes in at the door: images, labels and ids as people have them, and the modes of torch that they are in."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.victims.victim import Victim

__all__ = ["ids_of", "images_of", "in_own_modes", "labels_of", "own_modes", "victim_of"]

P = ParamSpec("P")
R = TypeVar("R")


@contextlib.contextmanager
def own_modes() -> Iterator[None]:
    """Gradients are recorded and nothing is cast, whatever no_grad, inference_mode or autocast the caller is in."""
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    with contextlib.ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        for kind in kinds:
            modes.enter_context(torch.autocast(kind, enabled=False))
        yield


def in_own_modes(call: Callable[P, R]) -> Callable[P, R]:
    """A function that runs in modes of its own, as `own_modes` has them."""

    @functools.wraps(call)
    def inside(*args: P.args, **options: P.kwargs) -> R:
        with own_modes():
            return call(*args, **options)

    return inside


def victim_of(given: object) -> Victim:
    """A victim, or a SpikeproofError that says how to make one of what came."""
    if isinstance(given, Victim):
        return given
    mend = "spikeproof.wrap(model, images) makes one of a network; spikeproof.trained(folder) reads one"
    raise SpikeproofError("a victim", type(given).__name__, mend=mend)


def images_of(given: object, what: str = "images") -> Tensor:
    """Images as a tensor of floats that no graph holds; arrays are taken as torch.from_numpy has them.

    Their axes and range are the victim's to check. SpikeproofError for what is no tensor or array, and for whole
    numbers: whether 255 or 1 is white, only their owner knows.
    """
    if isinstance(given, np.ndarray):
        given = _from_array(given, what)
    if not isinstance(given, Tensor):
        mend = "torch.stack(...) of a list of tensors, torch.from_numpy(...) of arrays"
        raise UsageError(f"{what} as a tensor (N,C,H,W) in [0,1]", type(given).__name__, mend=mend)
    if not given.is_floating_point():
        raise SpikeproofError(f"{what} as floating-point pixels in [0,1]", given.dtype, mend=f"{what}.float() / 255")
    if given.layout is not torch.strided:
        raise SpikeproofError(f"{what} as a dense tensor", given.layout, mend=f"{what}.to_dense()")
    return given.clone() if given.is_inference() else given.detach()


def labels_of(given: object, count: int, device: torch.device | None = None) -> Tensor:
    """Labels (count,) int64 of a tensor, which stays on its device, or of an array or a list of whole numbers.

    SpikeproofError for anything else, with the mend.
    """
    labels = _numbers(given, "labels")
    labels = labels if isinstance(given, Tensor) or device is None else labels.to(device)
    if labels.dim() == 2 and len(labels) == count:
        mend = "labels.flatten()" if labels.shape[1] == 1 else "labels.argmax(1), where each row has one 1"
        raise SpikeproofError(f"{count} integer labels", f"{labels.dtype} of shape {tuple(labels.shape)}", mend=mend)
    if labels.shape != (count,) or labels.is_floating_point() or labels.is_complex():
        got = f"{labels.dtype} of shape {tuple(labels.shape)}"
        mend = "labels.long()" if labels.shape == (count,) else "one label for each image"
        raise SpikeproofError(f"{count} integer labels", got, mend=mend)
    return labels.long()


def ids_of(given: object | None, count: int) -> Tensor:
    """Ids (count,) int64 on the CPU; 0 .. count-1 where none are given."""
    if given is None:
        return torch.arange(count)
    ids = _numbers(given, "ids")
    if ids.shape != (count,) or ids.is_floating_point() or ids.is_complex():
        got = f"{ids.numel()} of shape {tuple(ids.shape)}, {ids.dtype}"
        raise UsageError(f"{count} different ids, one for each image", got, mend="whole numbers, such as torch.arange")
    return ids.long().cpu()


def _numbers(given: object, what: str) -> Tensor:
    """A tensor, an array, or a list of numbers or of tensors of one number each, as a tensor."""
    if isinstance(given, Tensor):
        return given.clone() if given.is_inference() else given.detach()
    mend = f"{what} as a tensor of whole numbers, one for each image"
    try:
        return _from_array(np.asarray(_listed(given)), what)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{what} as a tensor, an array or a list of whole numbers", type(given).__name__,
                         mend=mend) from error  # fmt: skip


def _listed(given: Any) -> Any:
    if isinstance(given, np.ndarray) or hasattr(given, "__array__"):  # a column of a table, say
        return given
    if not isinstance(given, list | tuple | range):
        raise TypeError
    return [one.item() if isinstance(one, Tensor) else one for one in given]


def _from_array(array: np.ndarray[Any, Any], what: str) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{what} as numbers", f"an array of {array.dtype}", mend=f"{what}.astype(...)")
    if array.dtype.kind == "u" and array.itemsize > 1:  # torch counts with few of its unsigned numbers
        array = array.astype(np.int64)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.ascontiguousarray(native) if native.flags.writeable else native.copy())
