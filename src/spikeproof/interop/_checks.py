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
            if not tensor.is_floating_point() or not images.is_floating_point():
                continue  # images of integers are refused as such, by the victim
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
    z, printed = victim.encode(images, keys).clone(), io.StringIO()
    given = z.clone()
    with contextlib.redirect_stdout(printed), torch.no_grad():
        first = victim.classify(given, exact)
    if text := printed.getvalue():
        where = _culprit(victim, network, z.clone(), lambda given, out: bool(out))
        raise SpikeproofError(
            refusal(
                "a model that prints nothing",
                f"{text[:40]!r} from {where}",
                mend="take the print out: an attack calls the model thousands of times",
            )
        )
    if not torch.equal(given, z):
        where = _culprit(victim, network, z.clone(), lambda given, out: not torch.equal(given, z))
        raise SpikeproofError(
            refusal(
                "a model that leaves its input alone",
                f"another input after {where}",
                mend="take out operations in place: inplace=True, add_, x[...] = ...",
            )
        )
    _refuse_memory(victim, network, z, first)
    _refuse_probabilities(first)
    _refuse_graphs(victim, network, images, keys, rule)


@torch.no_grad()
def _refuse_memory(victim: Victim, network: nn.Module, z: Tensor, first: Tensor) -> None:
    """The same input again, with another one in between and a smaller batch."""
    before = _copied(network)
    victim.classify(1.0 - z, exact)
    between = _copied(network)
    victim.classify((1.0 - z)[:, : max(z.shape[1] // 2, 1)], exact)
    again = victim.classify(z, exact)
    if torch.equal(first, again):
        return
    changed = [name for name, tensors in before.items() if not _equal(tensors, between[name])]
    where = _called(changed[-1], network.get_submodule(changed[-1])) + " remembers" if changed else "something in it"
    raise SpikeproofError(
        refusal(
            "the same answer to the same images, whatever was seen in between",
            f"logits that differ by {float((first - again).abs().max()):.3g}: {where}, or noise is drawn",
            mend="let forward start from rest, and set anew what it keeps; draw no noise in eval mode",
        )
    )


def _copied(network: nn.Module) -> dict[str, list[Tensor]]:
    return {name: [tensor.detach().clone() for tensor in tensors] for name, tensors in _kept(network).items()}


def _equal(new: list[Tensor], old: list[Tensor]) -> bool:
    return len(new) == len(old) and all(torch.equal(a, b) for a, b in zip(new, old, strict=True))


def _culprit(victim: Victim, network: nn.Module, z: Tensor, wrong: Callable[[Tensor, str], bool]) -> str:
    """The first module, inner before outer, after whose call something is wrong with the input or what was printed."""
    found: list[str] = []
    printed = io.StringIO()

    def hook(name: str) -> Any:
        def seen(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and wrong(z, printed.getvalue()):
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
