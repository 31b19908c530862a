"""A network from a dotted path and weights from a file; a checkpoint is never given the chance to run code."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.interop._checkpoints import (
    fitting,
    is_safetensors,
    place_of,
    refuse_lost_digits,
    refuse_others,
    sets_of,
)
from spikeproof.training.checkpoint import check_fit, load_into, read_weights
from spikeproof.trust import Untrusted, imported

__all__ = ["factory", "load", "made", "weighted"]


def factory(path: str) -> Callable[..., Any]:
    """'package.module:make' -> what makes the network; UsageError where there is nothing to call."""
    module, colon, name = path.partition(":")
    if not (colon and module and name):
        raise UsageError("a dotted path package.module:factory", repr(path), mend="my_models:make_network")
    try:
        whole = imported(path)
    except Untrusted:
        raise
    except SystemExit as error:
        got = f"a module that exits when it is imported, {error.code!r}"
        mend = 'put what it runs, such as parse_args(), under `if __name__ == "__main__":`'
        raise UsageError(f"an importable package.module:factory, {path!r}", got, mend=mend) from error
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
    except SystemExit as error:
        mend = "a function without arguments that returns the network, and reads no command line"
        raise SpikeproofError(f"a network from {path!r}", f"an exit, {error.code!r}", mend=mend) from error
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
    """Loads a safetensors file or a torch state dict into a network, strictly, and says what of the file it was.

    A torch file is read with weights_only=True, which runs nothing that is in it. Raises SpikeproofError for files that
    are no checkpoint, that hold more than tensors, or several sets of weights that fit, and for names, shapes or values
    that do not fit.
    """
    if not isinstance(network, nn.Module):
        raise SpikeproofError("an nn.Module to load weights into", type(network).__name__)
    path, wanted = place_of(path)
    refuse_others(path)
    found = {"": read_weights(path)} if is_safetensors(path) else sets_of(path)
    name, tensors, prefix = fitting(found, network, path, wanted)
    check_fit(tensors, network.state_dict(), f"the weights of {type(network).__name__}", path)
    refuse_lost_digits(tensors, network, path)
    load_into(network, tensors, path)
    which = f", those under {name!r}" if name else ""
    without = f", without {prefix!r} before every name" if prefix else ""
    return f"{len(tensors)} tensors of {path.name}{which}{without}, every name and shape"


def load(model: Callable[..., Any], weights: str | Path) -> Any:
    """The same network with weights from a safetensors file or a torch state dict, strictly; no code in it is run.

    Of a file with several sets of weights, such as 'model' and 'model_ema', one may be named: 'file.pth:model_ema'. One
    prefix before all names ('module.', 'model.') is left out. Raises SpikeproofError for files that are no checkpoint,
    that hold more than tensors, or several sets that fit, and for names, shapes or values that do not fit.
    """
    if not isinstance(weights, str | Path):
        raise UsageError("the path of a file with weights", type(weights).__name__, mend="model.load_state_dict(...)")
    weighted(model, Path(weights))
    return model
