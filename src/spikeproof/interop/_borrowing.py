"""A foreign network as a copy that can be called, watched and written to, while its owner's stays as it is."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection, Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import Failed, SpikeproofError
from spikeproof.interop._preserved import HOOKS

__all__ = [
    "alone",
    "answering",
    "called",
    "forked",
    "hookable",
    "hooked",
    "kept",
    "seeded",
    "share_what_stays",
    "tensors_in",
    "twin",
]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in the attributes of a module, in lists and dicts too; not those of its children."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(one)


def kept(network: nn.Module) -> dict[str, list[Tensor]]:
    return {name: list(tensors_in(vars(module))) for name, module in network.named_modules()}


def called(name: str, module: nn.Module) -> str:
    """The words for a module in a message."""
    return f"{name!r} ({type(module).__name__})" if name else f"the model ({type(module).__name__})"


def twin(model: nn.Module, *, apart: bool = False, without: Collection[int] = ()) -> nn.Module:
    """A copy on the same weights, or on weights of its own (apart=True); all else that a call may write to is its own.

    Graphs that an earlier call left in the model are left there, and hooks of these identities (`without`) too.
    """
    shared: dict[int, Any] = {id(hook): hook for hook in _others(model)} | dict.fromkeys(without, _left_out)
    for tensor in (t for tensors in kept(model).values() for t in tensors):
        if tensor.is_inference():  # which no graph may save
            shared[id(tensor)] = _of_no_mode(tensor)
        elif not tensor.is_leaf:
            shared[id(tensor)] = tensor.detach().clone()
        elif not apart and (isinstance(tensor, nn.Parameter) or tensor.requires_grad):
            shared[id(tensor)] = tensor
    try:
        copied = copy.deepcopy(model, shared)
    except Exception as error:  # whatever a user's __deepcopy__ or a lock raises
        raise SpikeproofError(
            "a model that copy.deepcopy can copy", f"{type(error).__name__}: {error}",
                    mend="keep files, locks and generators outside the model"
        ) from error  # fmt: skip
    for module in copied.modules() if without else ():
        for kind in HOOKS:
            for key in [key for key, hook in vars(module).get(kind, {}).items() if hook is _left_out]:
                del vars(module)[kind][key]
    return copied


def _others(model: nn.Module) -> Iterator[Any]:
    """Hooks that are methods of somebody else, a monitor with its records, which a copy of the model would copy."""
    modules = set(model.modules())
    for module in modules:
        for kind in HOOKS:
            for hook in (vars(module).get(kind) or {}).values():
                if isinstance(hook, MethodType) and not (
                    isinstance(hook.__self__, nn.Module) and hook.__self__ in modules
                ):
                    yield hook


def _left_out() -> None:
    """Stands for a hook while its module is copied."""


def _of_no_mode(tensor: Tensor) -> Tensor:
    copied = tensor.clone()
    return nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied


def share_what_stays(copied: nn.Module, model: nn.Module) -> None:
    """Puts the model's own buffers into a twin that has been called: those that the calls did not write to.

    Statistics that are loaded into the model later then reach the twin with the weights; a counter stays its own.
    """
    modules = dict(copied.named_modules())
    for name, module in model.named_modules():
        for own, buffer in module.named_buffers(recurse=False):
            there = modules[name]._buffers.get(own) if name in modules else None
            same = there is not None and buffer.is_leaf and not buffer.is_inference()
            if same and there is not None and torch.equal(there, buffer):
                modules[name]._buffers[own] = buffer


def forked(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """A model that draws from torch's global stream leaves it as it was."""
    return torch.random.fork_rng([] if device.type == "cpu" else [device])


@contextlib.contextmanager
def alone(network: nn.Module, registries: list[list[Any]]) -> Iterator[None]:
    """The modules of a network are all that frameworks have in their registries: a reset reaches it, and no other."""
    before = [list(registry) for registry in registries]
    for registry, held in zip(registries, before, strict=True):
        kinds = tuple({type(one) for one in held})
        registry[:] = [module for module in network.modules() if isinstance(module, kinds)]
    try:
        yield
    finally:
        for registry, held in zip(registries, before, strict=True):
            registry[:] = held


@contextlib.contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Noise from torch's global stream on this device is the same each time."""
    with forked(device):
        # torch's own seeding of everything writes down where it was called from, for each kind of device.
        (torch.default_generator if device.type == "cpu" else torch).manual_seed(0)
        yield


def hookable(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Modules by their names, but for scripted ones, which call no hooks."""
    return [(name, m) for name, m in network.named_modules() if not isinstance(m, torch.jit.ScriptModule)]


@contextlib.contextmanager
def hooked(network: nn.Module, seen: Callable[[str, nn.Module, Any, Any], None]) -> Iterator[None]:
    """Calls `seen(name, module, inputs, output)` after every module's call, inner before outer."""

    def hook(name: str) -> Any:
        def tell(module: nn.Module, inputs: Any, output: Any) -> None:  # what a hook returns replaces the output
            seen(name, module, inputs, output)

        return tell

    handles = [module.register_forward_hook(hook(name)) for name, module in hookable(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def answering(network: nn.Module, expected: str, mend: str) -> Iterator[None]:
    """Whatever somebody else's forward raises becomes a SpikeproofError that names the module it was in."""
    inside: list[str] = []

    def enter(name: str) -> Any:
        return lambda module, inputs: inside.append(called(name, module))

    def leave(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        inside.pop()

    handles = [module.register_forward_pre_hook(enter(name)) for name, module in hookable(network)]
    try:
        with hooked(network, leave):
            yield
    except Exception as caught:
        if isinstance(caught, SpikeproofError) and not isinstance(caught, Failed):
            raise
        error = caught.__cause__ if isinstance(caught, Failed) and caught.__cause__ else caught
        text = str(error).strip()
        got = f"{type(error).__name__} in {inside[-1] if inside else 'the model'}: {text.partition(chr(10))[0]}"
        if any(word in text.lower() for word in ("cuda", "cupy", "triton", "nvidia")):
            mend = "a module without a CPU path: take the framework's own in torch, or move model and images to the GPU"
        raise SpikeproofError(expected, got, mend=mend) from error
    finally:
        for handle in handles:
            handle.remove()
