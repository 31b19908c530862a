"""Weights and optimiser state on disk: safetensors with a JSON header, written whole or not at all, never pickled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.files import write_bytes
from spikeproof.limits import HEADER_BYTES, TENSORS

__all__ = ["check_fit", "load_into", "read_header", "read_tensors", "read_weights", "write_tensors"]

_HEADER = "spikeproof"
"""The one key of the file's metadata: with two, safetensors writes them in either order, and equal files differ."""

_MEND = "give a .safetensors file that spikeproof wrote; formats that run code when read (.pt, .pth) are not opened"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], *, anew: bool = True) -> None:
    """Tensors and a JSON-able header as one safetensors file; anew: in a folder that need not be there yet."""
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, save(whole, {_HEADER: json.dumps(header)}), anew=anew)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of `write_tensors`; SpikeproofError for what is not a whole safetensors file.

    Another program's safetensors have the header {}; whether their tensors fit is for `load_into` to say.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _facts(file, path)  # noqa: SIM118 - not a dict


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors alone, whoever wrote the file and whatever its metadata say; SpikeproofError as `read_tensors`."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


def read_header(path: Path) -> dict[str, Any]:
    """The header alone, at once however large the file is; SpikeproofError as `read_tensors`."""
    with _opened(path) as file:
        return _facts(file, path)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        if not path.is_file():
            got = "no regular file" if path.exists() else "no such file"
            raise SpikeproofError(f"a checkpoint at {path}", got, mend=_MEND)
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
        if size > HEADER_BYTES:  # of a text or a pickle, whose first bytes are no length, too
            raise SafetensorError(f"no header of at most {HEADER_BYTES} bytes")
        with safe_open(path, framework="pt") as tensors:
            if (count := len(tensors.keys())) > TENSORS:
                raise SafetensorError(f"{count} tensors, more than {TENSORS}")
            yield tensors
    except (SafetensorError, OSError, MemoryError) as error:
        raise SpikeproofError(f"a whole safetensors file at {path}", error, mend=_MEND) from error


def _facts(file: Any, path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((file.metadata() or {}).get(_HEADER, "{}")))
    except (ValueError, TypeError, RecursionError) as error:
        raise SpikeproofError(f"{_HEADER!r} in the metadata of {path} as JSON", error, mend=_MEND) from error


def load_into(body: nn.Module, tensors: Mapping[str, Tensor], source: object) -> None:
    """Strictly, as `check_fit`, or not at all."""
    check_fit(tensors, body.state_dict(), f"the weights of {type(body).__name__}", source)
    body.load_state_dict(dict(tensors), strict=True)


def check_fit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str, source: object) -> None:
    """SpikeproofError unless every name and shape is as expected, and every value one that is held as it is there.

    Floats may be rounded, as from 64 to 32 bits, but stay finite; a whole number or a bool stays the number it is.
    """
    for name, tensor in tensors.items():
        if tensor.is_nested or tensor.is_quantized or tensor.is_meta or tensor.layout is not torch.strided:
            got = f"{name}, which is nested, quantised, sparse or without values"
            raise SpikeproofError(f"plain tensors in {source}", got)
    _check_names(expected, tensors, f"{what} in {source}")
    for name, tensor in tensors.items():
        _check_values(name, tensor, expected[name].dtype, source)


def _check_names(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], what: str) -> None:
    missing = [name for name in expected if name not in tensors]
    foreign = [name for name in tensors if name not in expected]
    reshaped = [n for n in expected if n in tensors and expected[n].shape != tensors[n].shape]
    if missing or foreign or reshaped:
        first = [
            *(f"{n} is missing" for n in missing[:2]),
            *(f"{n} is not in the model" for n in foreign[:2]),
            *(f"{n} is {tuple(tensors[n].shape)} and not {tuple(expected[n].shape)}" for n in reshaped[:2]),
        ]
        counts = f"{len(missing)} missing, {len(foreign)} foreign, {len(reshaped)} of another shape"
        raise SpikeproofError(
            what,
            f"another architecture ({counts}: {'; '.join(first)})",
            mend="build the model with the options it was trained with (config.yaml beside the weights)",
        )


def _check_values(name: str, tensor: Tensor, held: torch.dtype, source: object) -> None:
    """SpikeproofError for values that a model which holds numbers of type `held` would take for others."""
    found = tensor.dtype
    if any(kind.is_floating_point and kind.itemsize == 1 for kind in (found, held)):
        raise SpikeproofError(f"weights in {source} of 16 bits or more", f"{found} in {name}")
    if (found.is_floating_point, found.is_complex) != (held.is_floating_point, held.is_complex):
        raise SpikeproofError(f"{held} at {name} in {source}", found, mend="give the weights that this model has saved")
    cast = tensor.to(held)
    if found.is_floating_point or found.is_complex:
        if not bool(torch.isfinite(cast).all()):
            as_held = "" if found == held else f", read as {held} from {found}"
            raise SpikeproofError(f"finite weights in {source}", f"NaN or infinity in {name}{as_held}")
    elif not np.array_equal(tensor.cpu().numpy(), cast.cpu().numpy()):
        raise SpikeproofError(f"whole numbers that {held} holds at {name} in {source}", f"larger ones of {found}")
