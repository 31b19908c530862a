"""What can be seen of a foreign network before any call: its framework, mode, device, precision, and its weights.

`wrap` stops at the first refusal, which names the module it is about; `check` asks every question of `DEPLOYED`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.interop._borrowing import called
from spikeproof.interop._faults import refuse_old

__all__ = ["DEPLOYED", "PRECISIONS", "accept"]


def accept(model: nn.Module, images: Tensor) -> None:
    """Refuses train mode, weights on another device than the images, and weights of another precision."""
    for question in DEPLOYED.values():
        question(model, images)


def _refuse_train_mode(model: nn.Module, images: Tensor) -> None:
    for name, module in model.named_modules():
        if module.training:
            raise SpikeproofError(
                "a model in eval mode", f"{called(name, module)} in train mode", mend="call model.eval()"
            )


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Floating-point parameters and buffers, each with the words for where it is."""
    for name, module in model.named_modules():
        for own, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if tensor.is_floating_point():
                yield f"{own!r} of {called(name, module)}", tensor


def _refuse_another_device(model: nn.Module, images: Tensor) -> None:
    for where, tensor in _weights(model):
        if tensor.device != images.device:
            raise SpikeproofError(
                f"weights as the images are, on {images.device}",
                f"{tensor.dtype} on {tensor.device}: {where}",
                mend=".to(...) for the model or for the images; load the weights of what is on 'meta'",
            )


PRECISIONS = (torch.float32, torch.float64)
"""In less, a membrane near its threshold is rounded over it, and other kernels give other spikes."""


def _refuse_another_precision(model: nn.Module, images: Tensor) -> None:
    if images.is_floating_point() and images.dtype not in PRECISIONS:
        mend = "images.float() and model.float(): half precision moves membranes over their threshold"
        raise SpikeproofError("images of float32 or float64", images.dtype, mend=mend)
    for where, tensor in _weights(model):
        if tensor.dtype != images.dtype and images.is_floating_point():  # the victim refuses images of integers
            raise SpikeproofError(
                f"weights as the images are, {images.dtype} on {images.device}",
                f"{tensor.dtype} on {tensor.device}: {where}",
                mend="model.float(): half precision moves membranes over their threshold",
            )


@torch.no_grad()
def _refuse_unfinite_weights(model: nn.Module, images: Tensor) -> None:
    for where, tensor in _weights(model):
        if not tensor.is_meta and not bool(torch.isfinite(tensor).all()) and isinstance(tensor, nn.Parameter):
            mend = "load weights of a training that did not diverge"
            raise SpikeproofError("finite numbers in the weights", f"NaN or infinity: {where}", mend=mend)


DEPLOYED: dict[str, Callable[[nn.Module, Tensor], None]] = {
    "framework": refuse_old,
    "mode": _refuse_train_mode,
    "device": _refuse_another_device,
    "precision": _refuse_another_precision,
    "finite": _refuse_unfinite_weights,
}
