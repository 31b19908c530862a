"""Small victims and real digits for the tests: 8x8 images, four channels, a few steps, trained for a second."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof import parts
from spikeproof.data._images import Images
from spikeproof.data.digits import Digits
from spikeproof.layers.copies import copied
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys
from spikeproof.victims.victim import Victim

__all__ = ["adapted", "built", "digits", "frozen_state", "trained", "untouched"]


def built(
    encoder: str = "direct", *, steps: int = 3, seed: int = 0, neuron: str = "if", model: str = "small_sew_resnet",
    **options: Any,
) -> Victim:  # fmt: skip
    """An untrained victim of 4 channels in train mode; torch's global stream is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = parts.build(
            "models",
            {"name": model, "width": 4, **options},
            in_channels=1,
            classes=10,
            neuron=lambda: parts.build("neurons", {"name": neuron}),
        )
    return Victim(body, parts.build("encoders", {"name": encoder}), steps)


def digits(count: int, *, first: int = 0, split: str = "test") -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (count,1,8,8), labels, ids of real digits."""
    return _split(split).at(torch.arange(first, first + count))


@cache
def _split(name: str) -> Images:
    return Digits().load(name)  # type: ignore[arg-type]


KEPT: Path | None = None
"""A folder for what is trained, of this run of the tests alone: a second process need not train it again."""


@cache
def _trained(encoder: str, steps: int, options: tuple[tuple[str, Any], ...]) -> Victim:
    name = "-".join(map(str, ("trained", encoder, steps, *chain(*options))))
    path = None if KEPT is None else KEPT / f"{name}.safetensors"
    if path is not None and path.exists():
        victim = built(encoder, steps=steps, **dict(options))
        victim.load_state_dict(load_file(path))
        return victim.eval()
    victim = _fitted(encoder, steps, options)
    if path is not None:
        draft = path.with_suffix(f".{os.getpid()}")
        save_file(victim.state_dict(), draft)
        draft.replace(path)
    return victim


def _fitted(encoder: str, steps: int, options: tuple[tuple[str, Any], ...]) -> Victim:
    # Trained in float64 from numpy's numbers, so that every processor gets the same network: what differs in the last
    # bits of float32, torch's normal numbers among it, grows into another one.
    victim = built(encoder, steps=steps, **dict(options)).double()
    stream = np.random.default_rng(0)
    for weight in (p for p in victim.parameters() if p.dim() > 1):
        weight.data = torch.from_numpy(stream.normal(0.0, (2 / weight[0].numel()) ** 0.5, tuple(weight.shape)))
    optimiser = torch.optim.Adam(victim.parameters(), lr=2e-2)
    for k in range(60):
        x, y, ids = digits(32, first=(32 * k) % 1400, split="train")
        loss = F.cross_entropy(victim(x.double(), ATan(), image_keys(k, ids)), y)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return victim.float().eval()


def trained(encoder: str = "direct", *, steps: int = 3, **options: Any) -> Victim:
    """A victim in eval mode that gets a fair share of the digits right and wrong; a copy, free to be changed."""
    victim = copied(_trained(encoder, steps, tuple(sorted(options.items()))))
    for parameter in victim.parameters():
        parameter.grad = None
    return victim


def adapted(encoder: str = "direct", *, steps: int = 3, **options: Any) -> Victim:
    """The weights of `trained(encoder)` in another number of steps, and among other layers that have none of their own:
    lively, and nothing more need be trained."""
    victim = built(encoder, steps=steps, **options)
    victim.load_state_dict(trained(encoder).state_dict())
    return victim.eval()


def moves_events(attack: str) -> bool:
    """Whether an attack of that name moves whole events, and so asks for a threat of that kind."""
    return any(_asks(attack, kind) for kind in ("event_threat", "free_moves", "retime_threat"))


def retimes(attack: str) -> bool:
    """Whether it moves them in time alone."""
    return _asks(attack, "retime_threat")


def _asks(attack: str, kind: str) -> bool:
    return hasattr(sys.modules[parts.find("attacks", attack).__module__], kind)


def frozen_state(module: nn.Module) -> dict[str, Any]:
    """Everything an attack or a measurement must leave alone: weights, buffers, gradients, flags, modes, hooks, rng."""
    return {
        "tensors": {name: tensor.detach().clone() for name, tensor in module.state_dict().items()},
        "gradients": {n: None if p.grad is None else p.grad.clone() for n, p in module.named_parameters()},
        "flags": {name: parameter.requires_grad for name, parameter in module.named_parameters()},
        "modes": {name: child.training for name, child in module.named_modules()},
        "attributes": {name: sorted(vars(child)) for name, child in module.named_modules()},
        "hooks": {
            name: [len(getattr(child, hook)) for hook in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
            for name, child in module.named_modules()
        },
        "grad mode": torch.is_grad_enabled(),
        "random stream": torch.random.get_rng_state(),
    }


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


@contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Fails where the block changes anything that `frozen_state` sees, also when it ends in an exception."""
    before = [frozen_state(module) for module in modules]
    try:
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            new = frozen_state(module)
            assert not [name for name in old if not _same(old[name], new[name])]
