"""A network from a dotted path and weights from a file; a checkpoint is never given the chance to run code."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.training.checkpoint import load_into, read_tensors
from spikeproof.trust import Untrusted, imported

__all__ = ["factory", "load", "made", "weighted"]

_NESTED = ("state_dict", "model_state_dict", "model", "net")
"""Where training scripts put the state dict in a checkpoint."""


_PACKED = ("module.", "_orig_mod.")
"""What nn.DataParallel and torch.compile save before every name."""


def factory(path: str) -> Callable[..., Any]:
    """'package.module:make' -> what makes the network; UsageError where there is nothing to call."""
    module, colon, name = path.partition(":")
    if not (colon and module and name):
        raise UsageError("a dotted path package.module:factory", repr(path), mend="my_models:make_network")
    try:
        whole = imported(path)
    except Untrusted:
        raise
    except Exception as error:  # whatever a user's module does when it is imported
        got = f"{type(error).__name__}: {error}"
        mend = "run from the folder of the module, or install its package"
        raise UsageError(f"an importable package.module:factory, {path!r}", got, mend=mend) from error
    if not hasattr(whole, name):
        known = [own for own, value in vars(whole).items() if callable(value) and not own.startswith("_")]
        mend = f"name a function of {Path(whole.__file__ or module).name}"
        raise UsageError(f"a function or class in {module!r}", repr(name), valid=known, mend=mend)
    found: object = getattr(whole, name)
    if not callable(found):
        raise UsageError(f"a function or class at {path!r}", type(found).__name__)
    return found


def made(make: Callable[..., Any], path: str) -> Callable[..., Any]:
    """What a factory makes, or itself where it is a network; SpikeproofError, with the line, where it raises."""
    if isinstance(make, nn.Module):
        return make
    _refuse_arguments(make, path)
    try:
        network: object = make()
    except Exception as error:  # it is the user's
        last = traceback.extract_tb(error.__traceback__)[-1]
        got = f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
        mend = "a function without arguments that returns the network"
        raise SpikeproofError(f"a network from {path!r}", got, mend=mend) from error
    if not callable(network):
        raise SpikeproofError(f"a network from {path!r}", type(network).__name__, mend="return the module")
    return network


def _refuse_arguments(make: Callable[..., Any], path: str) -> None:
    """SpikeproofError where it cannot be called without arguments; what has no signature is called to see."""
    try:
        inspect.signature(make).bind()
    except ValueError:
        return
    except TypeError as error:
        mend = "a function without arguments that returns the network, such as def make(): return Net(10)"
        raise SpikeproofError(f"a network from {path!r}, called without arguments", error, mend=mend) from error


def weighted(network: Callable[..., Any], path: Path) -> str:
    """Loads a safetensors file or a torch state dict into a network, strictly, and says so.

    A torch file is read with weights_only=True, which runs nothing that is in it. Raises SpikeproofError for files that
    hold more than tensors, and for names, shapes or values that do not fit.
    """
    if not isinstance(network, nn.Module):
        raise SpikeproofError("an nn.Module to load weights into", type(network).__name__)
    tensors = read_tensors(path)[0] if path.suffix == ".safetensors" else _state_dict(path)
    tensors = _unpacked(tensors, network)
    load_into(network, tensors, path)
    return f"{len(tensors)} tensors of {path.name}, every name and shape"


def _unpacked(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Without the words that wrappers have put before every name, as many as make the names the network's own."""
    own, found = network.state_dict().keys(), [tensors]
    while found[-1] and (word := next((w for w in _PACKED if all(n.startswith(w) for n in found[-1])), None)):
        found.append({name.removeprefix(word): tensor for name, tensor in found[-1].items()})
    return max(found, key=lambda names: len(names.keys() & own))


def _state_dict(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise SpikeproofError(f"weights at {path}", "no regular file" if path.exists() else "no such file")
    mend = "torch.save(model.state_dict(), path), or safetensors.torch.save_file; whole pickled models are not opened"
    try:
        if is_zipfile(path):  # torch compresses nothing, and unpacks whatever somebody has compressed
            with ZipFile(path) as members:
                if sum(member.file_size for member in members.infolist()) > path.stat().st_size:
                    raise ValueError("a compressed file, which torch does not write")
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file may be anything
        got = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpikeproofError(f"a state dict of tensors alone in {path}", got, mend=mend) from error
    for name in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    pairs = found.items() if isinstance(found, Mapping) else [(None, found)]
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in pairs):
        raise SpikeproofError(f"a state dict of tensors alone in {path}", type(found).__name__, mend=mend)
    return dict(found)


def load(model: Callable[..., Any], weights: str | Path) -> Any:
    """The same network with weights from a safetensors file or a torch state dict, strictly; no code in it is run.

    Raises SpikeproofError for files that hold more than tensors, and for names, shapes or values that do not fit.
    """
    weighted(model, Path(weights))
    return model
