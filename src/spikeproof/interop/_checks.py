"""What is asked of a foreign network before it becomes a victim; every refusal names the module it is about.

`wrap` stops at the first refusal; `check` asks every question of `DEPLOYED` and `BEHAVIOUR` and lists the answers.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.tensors import exact, image_keys
from spikeproof.types import Rule
from spikeproof.victims.outputs import refuse_probabilities
from spikeproof.victims.victim import Victim

__all__ = [
    "BEHAVIOUR", "DEPLOYED", "PRECISIONS", "Trial", "accept", "answering", "called", "examine", "forked", "hooked",
    "seeded", "share_what_stays", "twin",
]  # fmt: skip


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


DEPLOYED: dict[str, Callable[[nn.Module, Tensor], None]] = {
    "mode": _refuse_train_mode,
    "device": _refuse_another_device,
    "precision": _refuse_another_precision,
}
"""What can be seen before any call."""


def called(name: str, module: nn.Module) -> str:
    """The words for a module in a message."""
    return f"{name!r} ({type(module).__name__})" if name else f"the model ({type(module).__name__})"


def twin(model: nn.Module, *, apart: bool = False) -> nn.Module:
    """A copy on the same weights, or on weights of its own (apart=True); all else that a call may write to is its own.

    Graphs that an earlier call left in the model are left there.
    """
    shared: dict[int, Any] = {}
    for tensor in (t for tensors in _kept(model).values() for t in tensors):
        if not tensor.is_leaf:
            shared[id(tensor)] = tensor.detach().clone()
        elif not apart and (isinstance(tensor, nn.Parameter) or tensor.requires_grad):
            shared[id(tensor)] = tensor
    try:
        return copy.deepcopy(model, shared)
    except Exception as error:  # whatever a user's __deepcopy__ or a lock raises
        raise SpikeproofError(
            "a model that copy.deepcopy can copy", f"{type(error).__name__}: {error}",
                    mend="keep files, locks and generators outside the model"
        ) from error  # fmt: skip


def share_what_stays(copied: nn.Module, model: nn.Module) -> None:
    """Puts the model's own buffers into a twin that has been called: those that the calls did not write to.

    Statistics that are loaded into the model later then reach the twin with the weights; a counter stays its own.
    """
    modules = dict(copied.named_modules())
    for name, module in model.named_modules():
        for own, buffer in module.named_buffers(recurse=False):
            there = modules[name]._buffers.get(own) if name in modules else None
            if there is not None and buffer.is_leaf and torch.equal(there, buffer):
                modules[name]._buffers[own] = buffer


def forked(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """A model that draws from torch's global stream leaves it as it was."""
    return torch.random.fork_rng([] if device.type == "cpu" else [device])


@contextlib.contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Noise from torch's global stream is the same each time."""
    with forked(device):
        torch.manual_seed(0)
        yield


@dataclass(frozen=True)
class Trial:
    """A borrowed victim of a foreign network, the images it is tried on, and the rule for gradients."""

    victim: Victim
    images: Tensor
    rule: Rule

    @property
    def network(self) -> nn.Module:
        return self.victim.body.get_submodule("network")

    @cached_property
    def keys(self) -> Tensor:
        return image_keys(0, torch.arange(len(self.images))).to(self.images.device)

    @cached_property
    def code(self) -> Tensor:
        """What the network is given, (T,B,C,H,W)."""
        return self.victim.encode(self.images, self.keys).detach().clone()

    @torch.no_grad()
    def logits(self, z: Tensor) -> Tensor:
        """From rest; what the network prints is swallowed."""
        with contextlib.redirect_stdout(io.StringIO()):
            return self.victim.classify(z.clone(), exact)

    def drawn(self, z: Tensor) -> Tensor:
        """The same; a network that draws noise from torch draws the same each time."""
        with seeded(z.device):
            return self.logits(z)


def examine(victim: Victim, images: Tensor, rule: Rule) -> None:
    """Calls a borrowed victim of a foreign network a few times, and refuses what cannot be evaluated."""
    trial = Trial(victim, images, rule)
    for question in BEHAVIOUR.values():
        question(trial)


def _refuse_prints(trial: Trial) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), torch.no_grad():
        trial.victim.classify(trial.code.clone(), exact)
    if text := printed.getvalue():
        where = _culprit(trial, trial.code.clone(), lambda out: bool(out))
        raise SpikeproofError(
            "a model that prints nothing",
            f"{text[:40]!r} from {where}",
            mend="take the print out: an attack calls the model thousands of times",
        )


@torch.no_grad()
def _refuse_changed_input(trial: Trial) -> None:
    given = trial.code.clone()
    with contextlib.redirect_stdout(io.StringIO()):
        trial.victim.classify(given, exact)
    if not torch.equal(given, trial.code):
        given = trial.code.clone()
        where = _culprit(trial, given, lambda out: not torch.equal(given, trial.code))
        raise SpikeproofError(
            "a model that leaves its input alone",
            f"another input after {where}",
            mend="take out operations in place: inplace=True, add_, x[...] = ...",
        )


def _refuse_memory(trial: Trial) -> None:
    """The same input again, with another one in between and a smaller batch."""
    network, z = trial.network, trial.code
    with forked(z.device):
        first = trial.logits(z)
        before = _copied(network)
        trial.logits(1.0 - z)
        between = _copied(network)
        trial.logits((1.0 - z)[:, : max(z.shape[1] // 2, 1)])
        again = trial.logits(z)
    if torch.equal(first, again):
        return
    changed = [name for name, tensors in before.items() if not _equal(tensors, between[name])]
    # What a framework's neuron keeps is put back to rest, so that it is somebody else's.
    changed.sort(key=lambda name: type(network.get_submodule(name)).__module__.split(".")[0] not in _RESTED)
    if changed:
        where, mend = f"{called(changed[-1], network.get_submodule(changed[-1]))} remembers", _REST
    elif torch.equal(trial.drawn(z), trial.drawn(z)):
        with forked(z.device):
            where, mend = f"noise is drawn in {_first_change(trial.logits, network, z, z, slice(None))}", _NOISE
    else:
        where, mend = "something in it remembers, or draws noise", f"{_REST}; {_NOISE}"
    raise SpikeproofError(
        "the same answer to the same images, whatever was seen in between",
        f"logits that differ by {float((first - again).abs().max()):.3g}: {where}",
        mend=mend,
    )


_RESTED = ("spikingjelly", "snntorch", "norse")
_REST = "let forward start from rest, and set anew what it keeps"
_NOISE = "draw no noise in eval mode; a random encoder is given to wrap, as encoder=Poisson()"


def _refuse_company(trial: Trial) -> None:
    """Every second image among others than before: its logits are its own."""
    z = trial.code[:, : len(trial.images) // 2 * 2]
    other = 1.0 - z
    other[:, 1::2] = z[:, 1::2]
    apart = (trial.drawn(z)[1::2] - trial.drawn(other)[1::2]).abs().max()
    if apart == 0:
        return
    where = _first_change(trial.drawn, trial.network, z, other, slice(1, None, 2))
    raise SpikeproofError(
        "logits of an image that do not depend on the others in its batch",
        f"logits that differ by {float(apart):.3g}: images are mixed in {where}",
        mend="give what takes (T,N,*) the time first, not (N,T,*); batch-norm needs its running statistics",
    )


def _copied(network: nn.Module) -> dict[str, list[Tensor]]:
    return {name: [tensor.detach().clone() for tensor in tensors] for name, tensors in _kept(network).items()}


def _equal(new: list[Tensor], old: list[Tensor]) -> bool:
    return len(new) == len(old) and all(torch.equal(a, b) for a, b in zip(new, old, strict=True))


def _culprit(trial: Trial, z: Tensor, wrong: Callable[[str], bool]) -> str:
    """The first module, inner before outer, after whose call on z something is wrong with it or what was printed."""
    found: list[str] = []
    printed = io.StringIO()

    def seen(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not found and wrong(printed.getvalue()):
            found.append(called(name, module))

    with hooked(trial.network, seen), contextlib.redirect_stdout(printed), torch.no_grad():
        trial.victim.classify(z, exact)
    return found[0] if found else "the model"


@contextlib.contextmanager
def hooked(network: nn.Module, seen: Callable[[str, nn.Module, Any, Any], None]) -> Iterator[None]:
    """Calls `seen(name, module, inputs, output)` after every module's call, inner before outer."""

    def hook(name: str) -> Any:
        def tell(module: nn.Module, inputs: Any, output: Any) -> None:  # what a hook returns replaces the output
            seen(name, module, inputs, output)

        return tell

    handles = [module.register_forward_hook(hook(name)) for name, module in network.named_modules()]
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

    handles = [module.register_forward_pre_hook(enter(name)) for name, module in network.named_modules()]
    try:
        with hooked(network, leave):
            yield
    except SpikeproofError:
        raise
    except Exception as error:
        text = str(error).strip()
        got = f"{type(error).__name__} in {inside[-1] if inside else 'the model'}: {text.partition(chr(10))[0]}"
        if any(word in text.lower() for word in ("cuda", "cupy", "triton", "nvidia")):
            mend = "a module without a CPU path: take the framework's own in torch, or move model and images to the GPU"
        raise SpikeproofError(expected, got, mend=mend) from error
    finally:
        for handle in handles:
            handle.remove()


def _first_change(call: Callable[[Tensor], Tensor], network: nn.Module, z: Tensor, other: Tensor, rows: slice) -> str:
    """The first module, inner before outer, whose output changes in `rows` from z to other while its input does not."""
    calls: list[list[tuple[str, list[Tensor], list[Tensor]]]] = []
    for given in (z, other):
        calls.append([])

        def seen(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
            took, gave = ([t.detach()[rows].clone() for t in _tensors(v) if t.dim()] for v in (inputs, output))
            calls[-1].append((called(name, module), took, gave))

        with hooked(network, seen):
            call(given)
    before, after = calls
    for (where, took, gave), (_, took_then, gave_then) in zip(before, after, strict=False):
        if _equal(took, took_then) and not _equal(gave, gave_then):
            return where
    return "the model's own forward"


def _refuse_probabilities(trial: Trial) -> None:
    refuse_probabilities(trial.logits(trial.code))


def _refuse_graphs(trial: Trial) -> None:
    able = answering(trial.network, "a forward that can be differentiated", "call it by hand on x.requires_grad_()")
    with able, torch.enable_grad(), contextlib.redirect_stdout(io.StringIO()):
        trial.victim(trial.images.detach().clone().requires_grad_(), trial.rule, trial.keys)
    for name, tensors in _kept(trial.network).items():
        if any(t.grad_fn is not None for t in tensors):
            raise SpikeproofError(
                "a model that keeps no graph after its call",
                f"a tensor with a graph in {called(name, trial.network.get_submodule(name))}",
                mend="keep x.detach(), or nothing: every step of an attack would be held in memory",
            )


BEHAVIOUR: dict[str, Callable[[Trial], None]] = {
    "prints": _refuse_prints,
    "input left alone": _refuse_changed_input,
    "state and noise": _refuse_memory,
    "images apart": _refuse_company,
    "output": _refuse_probabilities,
    "graphs": _refuse_graphs,
}
"""What calls show."""
