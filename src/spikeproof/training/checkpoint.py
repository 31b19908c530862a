"""Weights and optimiser state on disk: safetensors with a JSON header, written whole or not at all, never pickled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.files import write_bytes
from spikeproof.limits import HEADER_BYTES

__all__ = ["load_into", "read_header", "read_tensors", "write_tensors"]

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


def read_header(path: Path) -> dict[str, Any]:
    """The header alone, at once however large the file is; SpikeproofError as `read_tensors`."""
    with _opened(path) as file:
        return _facts(file, path)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise SpikeproofError(f"a checkpoint at {path}", "no such file", mend=_MEND)
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
        if size > HEADER_BYTES:  # of a text or a pickle, whose first bytes are no length, too
            raise SafetensorError(f"no header of at most {HEADER_BYTES} bytes")
        with safe_open(path, framework="pt") as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        raise SpikeproofError(f"a whole safetensors file at {path}", error, mend=_MEND) from error


def _facts(file: Any, path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((file.metadata() or {}).get(_HEADER, "{}")))
    except (ValueError, TypeError, RecursionError) as error:
        raise SpikeproofError(f"{_HEADER!r} in the metadata of {path} as JSON", error, mend=_MEND) from error


def load_into(body: nn.Module, tensors: Mapping[str, Tensor], source: object) -> None:
    """Strictly: every name and every shape must be the body's, and every value finite; else SpikeproofError."""
    expected = body.state_dict()
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
            f"the weights of {type(body).__name__} in {source}",
            f"another architecture ({counts}: {'; '.join(first)})",
            mend="build the model with the options it was trained with (config.yaml beside the weights)",
        )
    bad = [n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise SpikeproofError(f"finite weights in {source}", f"NaN or infinity in {bad[0]}")
    body.load_state_dict(dict(tensors), strict=True)
