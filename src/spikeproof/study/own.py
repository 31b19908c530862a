"""A network of somebody's own in a cell: made by their function, with weights from a file, and wrapped.

It is taken in eval mode, and wrapped on a few of the cell's own test images; whatever `wrap` refuses is refused before
any attack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof import parts
from spikeproof.data import Images, balanced
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.evaluation.panel import refuse_whole_box
from spikeproof.interop.load import factory, made, weighted
from spikeproof.interop.wrap import Wrapped, wrap
from spikeproof.store.summary import NetworkFacts
from spikeproof.study.config import CellConfig, Network, rule_of, threats_of
from spikeproof.training.checkpoint import read_tensors, write_tensors

__all__ = ["Own", "measurable", "own_network"]

_TRIED = 8
"""Images that a network is wrapped on."""


@dataclass(frozen=True)
class Own:
    """model: what the user's function makes, with its weights, in eval mode; loaded: what was said of the weights."""

    model: Callable[..., Any]
    loaded: str | None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its state dict, without what is no tensor; of a bare callable nothing."""
        state = self.model.state_dict() if isinstance(self.model, nn.Module) else {}
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}

    def digest(self) -> str:
        """16 hex characters of sha256 over the names, types, shapes and values of its tensors."""
        state = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            whole = tensor.detach().cpu().contiguous()
            state.update(f"{name} {whole.dtype} {tuple(whole.shape)} ".encode())
            state.update(whole.flatten().view(torch.uint8).numpy().data)
        return state.hexdigest()[:16]

    def write(self, path: Path, images: Images) -> None:
        """Its tensors as safetensors, with the shape of its images."""
        facts = {"input_shape": list(images.pixels.shape[1:]), "classes": list(images.classes)}
        write_tensors(path, self.tensors, facts, anew=False)

    def victim(self, config: CellConfig, images: Images, device: torch.device) -> Wrapped:
        """Wrapped as the configuration says, on images of the cell. Raises SpikeproofError as `wrap` does, and where it
        has not as many outputs as there are classes."""
        few = balanced(images.labels, images.ids, min(_TRIED, len(images)), purpose="wrap")
        return self.wrapped(config, images.at(few)[0].to(device), len(images.classes))

    def wrapped(self, config: CellConfig, x: Tensor, classes: int) -> Wrapped:
        """The same on images (B,C,H,W) in [0,1], two or more."""
        assert config.network is not None
        steps = {} if config.steps is None else {
            "steps": config.steps, "encoder": parts.build("encoders", config.encoder),
        }  # fmt: skip
        model = self.model.to(x.device) if isinstance(self.model, nn.Module) else self.model
        with _told_of(x):
            found = wrap(
                model, x, step_mode=config.network.step_mode, readout=_readout(config.network),
                tolerance=config.network.tolerance, **steps,
            )  # fmt: skip
        if found.classes != classes:
            mend = "one class folder, or class of the data set, for each output, in the order of the outputs"
            raise UsageError(
                f"labels that fit the {found.classes} outputs of the network", f"{classes} classes", mend=mend
            )
        return found

    def facts(self, victim: Wrapped) -> NetworkFacts:
        """What a reader of its numbers should know of it."""
        found = [framework.__module__.rpartition(".")[2] for framework in victim.body.frameworks]
        return {
            "class": type(self.model).__name__,
            "weights": self.digest(),
            "loaded": self.loaded,
            "rule": _rule(victim),
            "feed": victim.body.feed,
            "notes": list(victim.notes),
            "frameworks": {name: _version(name) for name in found},
        }


def own_network(config: CellConfig, *, weights: Path | None = None) -> Own:
    """What a configuration names; weights: instead of those that it names. The seed decides what its function draws
    from torch.

    Raises UsageError where there is no such function, SpikeproofError where it fails or the weights do not fit.
    """
    assert config.network is not None
    for evaluation in config.evaluations:
        for said, threat in threats_of({"name": evaluation.norm}, evaluation.eps, evaluation.surface).items():
            refuse_whole_box(threat, said)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = made(factory(config.network.make), config.network.make)
    path = weights or (None if config.weights is None else Path(config.weights))
    if isinstance(model, nn.Module):
        model.eval()
    elif path is not None and path.suffix == ".safetensors" and not read_tensors(path)[0]:
        path = None  # of a bare callable nothing was written
    return Own(model, None if path is None else weighted(model, path))


def _readout(network: Network) -> Callable[[Any], Tensor] | None:
    return None if network.readout is None else factory(network.readout)


def _rule(victim: Wrapped) -> str:
    if not victim.differentiable:
        return "no gradient: it can only be asked"
    return "its own gradient" if victim.one_gradient else str(rule_of(None, victim.rule))


@contextmanager
def _told_of(x: Tensor) -> Iterator[None]:
    """What is refused of a call on these images (B,C,H,W) may also be mended by others."""
    try:
        yield
    except SpikeproofError as error:
        shape = tuple(x.shape[1:])
        if f", {str(shape)[1:]}" in error.says:  # of a batch of whatever size
            error.mend += f"; or give images of the size and the channels that it takes, not {shape}"
        raise


@contextmanager
def measurable() -> Iterator[None]:
    """Whatever a foreign network raises while something is measured of it becomes a SpikeproofError."""
    try:
        yield
    except (SpikeproofError, torch.OutOfMemoryError, OSError):
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        mend = "leave out what it cannot have: gradients.layers, gradients.weight_images, energy.images, theory.images"
        raise SpikeproofError("a network of which all can be measured that is asked for", got, mend=mend) from error


def _version(framework: str) -> str | None:
    try:
        return version(framework)
    except PackageNotFoundError:
        return None
