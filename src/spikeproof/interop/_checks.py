"""What is asked of a foreign network before it becomes a victim; every refusal names the module it is about."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.tensors import exact, image_keys
from spikeproof.types import Rule, SpikeproofError, refusal
from spikeproof.victim import Victim

__all__ = ["accept", "examine", "twin"]

_MEND_STATE = "let forward start from rest: set every state, buffer and list it keeps anew"


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in the attributes of a module, in lists and dicts too; not those of its children."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tensors(one)


def _kept(network: nn.Module) -> dict[str, list[Tensor]]:
    return {name: list(_tensors(vars(module))) for name, module in network.named_modules()}


def accept(model: nn.Module, images: Tensor) -> None:
    """Refuses train mode, weights on another device than the images, and weights of another precision."""
    for name, module in model.named_modules():
        if module.training:
            raise SpikeproofError(
                refusal("a model in eval mode", f"{_called(name, module)} in train mode", mend="call model.eval()")
            )
        for own, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if not tensor.is_floating_point():
                continue
            if tensor.dtype != images.dtype or tensor.device != images.device:
                raise SpikeproofError(
                    refusal(
                        f"weights as the images are, {images.dtype} on {images.device}",
                        f"{tensor.dtype} on {tensor.device}: {own!r} of {_called(name, module)}",
                        mend="model.float(), or .to(...) for the model or for the images",
                    )
                )


def _called(name: str, module: nn.Module) -> str:
    return f"{name!r} ({type(module).__name__})" if name else f"the model ({type(module).__name__})"


def twin(model: nn.Module) -> nn.Module:
    """A copy that shares weights and buffers; graphs that an earlier call left in the model are left there."""
    shared: dict[int, Any] = {}
    for tensor in (t for tensors in _kept(model).values() for t in tensors):
        shared[id(tensor)] = tensor if tensor.is_leaf else tensor.detach().clone()
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_leaf:
            shared[id(tensor)] = tensor
    try:
        return copy.deepcopy(model, shared)
    except Exception as error:  # whatever a user's __deepcopy__ or a lock raises
        raise SpikeproofError(
            refusal("a model that copy.deepcopy can copy", f"{type(error).__name__}: {error}",
                    mend="keep files, locks and generators outside the model")
        ) from error  # fmt: skip


def examine(victim: Victim, images: Tensor, rule: Rule) -> None:
    """Calls a borrowed victim of a foreign network a few times, and refuses what cannot be evaluated."""
    network = victim.body.get_submodule("network")
    keys = image_keys(0, torch.arange(len(images))).to(images.device)
    some = max(len(images) // 2, 1)
    printed = io.StringIO()
    z = victim.encode(images, keys).clone()
    before = z.clone()
    with contextlib.redirect_stdout(printed), torch.no_grad():
        first = victim.classify(z, exact)
        held = [[t.clone() for t in tensors] for tensors in _kept(network).values()]
        victim(1.0 - images, exact, keys)
        victim((1.0 - images)[:some], exact, keys[:some])
        again = victim(images, exact, keys)
    if text := printed.getvalue():
        where = _culprit(victim, network, z, lambda: bool(printed.getvalue()), printed)
        raise SpikeproofError(
            refusal(
                "a model that prints nothing",
                f"{text[:40]!r} from {where}",
                mend="take the print out: an attack calls the model thousands of times",
            )
        )
    if not torch.equal(z, before):
        z = before.clone()
        where = _culprit(victim, network, z, lambda: not torch.equal(z, before), printed)
        raise SpikeproofError(
            refusal(
                "a model that leaves its input alone",
                f"another input after {where}",
                mend="take out operations in place: inplace=True, add_, x[...] = ...",
            )
        )
    if not torch.equal(first, again):
        now = _kept(network).items()
        changed = [name for (name, new), old in zip(now, held, strict=True) if not _equal(new, old)]
        where = _called(changed[-1], network.get_submodule(changed[-1])) if changed else "the model"
        raise SpikeproofError(
            refusal(
                "the same answer to the same images, whatever was seen in between",
                f"logits that differ by {float((first - again).abs().max()):.3g}; {where} remembers or draws noise",
                mend=_MEND_STATE,
            )
        )
    _refuse_probabilities(first)
    _refuse_graphs(victim, network, images, keys, rule)


def _equal(new: list[Tensor], old: list[Tensor]) -> bool:
    return len(new) == len(old) and all(torch.equal(a, b) for a, b in zip(new, old, strict=True))


def _culprit(
    victim: Victim, network: nn.Module, z: Tensor, wrong: Callable[[], bool], printed: io.StringIO
) -> str:
    """The first module, inner before outer, after whose call something is wrong."""
    found: list[str] = []
    printed.seek(0)
    printed.truncate()

    def hook(name: str) -> Any:
        def seen(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and wrong():
                found.append(_called(name, module))

        return seen

    handles = [module.register_forward_hook(hook(name)) for name, module in network.named_modules()]
    try:
        with contextlib.redirect_stdout(printed), torch.no_grad():
            victim.classify(z, exact)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "the model"


def _refuse_probabilities(logits: Tensor) -> None:
    if bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-4).all()):
        raise SpikeproofError(
            refusal("logits", "probabilities: every row sums to 1", mend="take the softmax out of the network")
        )


def _refuse_graphs(victim: Victim, network: nn.Module, images: Tensor, keys: Tensor, rule: Rule) -> None:
    with torch.enable_grad():
        victim(images.detach().clone().requires_grad_(), rule, keys)
    for name, tensors in _kept(network).items():
        if any(t.grad_fn is not None for t in tensors):
            raise SpikeproofError(
                refusal(
                    "a model that keeps no graph after its call",
                    f"a tensor with a graph in {_called(name, network.get_submodule(name))}",
                    mend="keep x.detach(), or nothing: every step of an attack would be held in memory",
                )
            )
