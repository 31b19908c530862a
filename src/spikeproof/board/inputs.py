"""Adversarial inputs in a file: read from whoever sends them, never by pickle, and written as small as they can be.

A file is a safetensors, an npz, or an npy with the inputs alone. `inputs` (n,*) are the points, `ids` (n,) the names of
their images in the entry; without ids they are all of its images, in its order. What a number means:

    floats    the value itself, in [0,1], held in 32 bits
    bytes     v / 255, on every surface but 'events', where a byte is an event (1) or none (0)
    bits      with `shape`, that of one input: eight cells a byte, the first in the highest bit; `events` alone

The budget is on that value and on nothing rounded: a byte that rounding has carried out of the ball is out of it, and
`as_bytes` carries none out whose image is of bytes itself.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.files import write_bytes
from spikeproof.limits import IMAGES_BYTES
from spikeproof.training.checkpoint import read_weights

__all__ = ["Given", "Kind", "as_bytes", "read_inputs", "values", "write_inputs"]

Kind = Literal["bytes", "bits", "floats"]

_NEARLY = 1e-4
"""Of a byte: by so much a float may lie off a whole number and still be that one."""


_SLACK = 1e-7
"""Of a value in [0,1]: what a float in 32 bits may be off."""


@dataclass(frozen=True, eq=False)  # compared by identity: tensors have no single truth value
class Given:
    """inputs (n,*) float32, points of a surface; ids (n,) int64, or None for all images of an entry in its order."""

    inputs: Tensor
    ids: Tensor | None


def values(data: Tensor, events: bool) -> Tensor:
    """What bytes (n,*) uint8 stand for, float32; events: on the surface of that name."""
    return data.to(torch.float32) / (1 if events else 255)


def as_bytes(points: Tensor, clean: Tensor, events: bool, room: float = 0.0) -> Tensor:
    """Points (n,*) in [0,1] as uint8: the nearest byte where that is no farther than `room` from the clean value (the
    eps of L-inf), else the next one towards it: where clean values are bytes too, none is farther off than its point.

    >>> as_bytes(torch.tensor([0.5, 0.5]), torch.tensor([0.4, 0.6]), False)
    tensor([127, 128], dtype=torch.uint8)
    """
    most = 1 if events else 255
    scaled = points.double() * most
    towards = torch.where(points > clean, (scaled + _NEARLY).floor(), (scaled - _NEARLY).ceil())
    nearest = scaled.round()
    kept = torch.where((nearest / most - clean).abs() <= room + _SLACK, nearest, towards)
    return kept.clamp(0, most).to(torch.uint8)


def read_inputs(path: Path, events: bool) -> Given:
    """The inputs of a file; SpikeproofError for what is no such file, UsageError for another ending."""
    arrays = _arrays(path)
    if "inputs" not in arrays:
        raise SpikeproofError(
            f"an array 'inputs' in {path}", sorted(arrays)[:5], mend="np.savez(file, inputs=..., ids=...)"
        )
    inputs, ids = arrays["inputs"], arrays.get("ids")
    if ids is not None and (ids.is_floating_point() or ids.is_complex() or ids.shape != inputs.shape[:1]):
        raise SpikeproofError(f"whole numbers ({len(inputs)},) as ids in {path}", f"{ids.dtype} {tuple(ids.shape)}")
    if "shape" in arrays:
        inputs = _unpacked(inputs, tuple(arrays["shape"].flatten().tolist()), path)
    if inputs.dtype == torch.uint8:
        inputs = values(inputs, events)
    elif not inputs.is_floating_point():
        raise SpikeproofError(f"inputs in {path} as bytes (uint8) or floats in [0,1]", inputs.dtype)
    return Given(inputs.to(torch.float32), None if ids is None else ids.to(torch.int64))


def write_inputs(path: Path, data: Tensor, ids: Tensor, *, bits: bool = False) -> None:
    """data (n,*), uint8 or float32, of the images ids (n,); bits: cells are 0 or 1, and eight of them a byte."""
    tensors: dict[str, Tensor] = {"ids": ids, "inputs": data}
    if bits:
        tensors["inputs"] = torch.from_numpy(np.packbits(data.flatten(1).numpy(), axis=1))
        tensors["shape"] = torch.tensor(data.shape[1:])
    write_bytes(path, save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))


def _unpacked(packed: Tensor, shape: tuple[int, ...], path: Path) -> Tensor:
    size = int(np.prod([int(side) for side in shape], dtype=object)) if shape and min(shape) > 0 else 0
    if packed.dtype != torch.uint8 or packed.dim() != 2 or not size or packed.shape[1] != (size + 7) // 8:
        expected = f"packed bits (n, {(size + 7) // 8}) of inputs {shape} in {path}"
        raise SpikeproofError(expected, f"{packed.dtype} {tuple(packed.shape)}")
    if size * len(packed) > IMAGES_BYTES:
        raise SpikeproofError(f"at most {IMAGES_BYTES} bytes of inputs in {path}", size * len(packed))
    bits = np.unpackbits(packed.numpy(), axis=1, count=size)
    return torch.from_numpy(bits).view(len(packed), *shape)


# --- files of others ---


def _arrays(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_weights(path)
    if path.suffix not in (".npz", ".npy"):
        mend = "np.savez or safetensors; what runs code when it is read (.pt, .pkl) is not opened"
        raise UsageError("inputs as .npz, .npy or .safetensors", path.name, mend=mend)
    try:
        if not path.is_file():
            raise ValueError("no such file")
        if path.suffix == ".npy":
            with open(path, "rb") as file:
                return {"inputs": torch.from_numpy(_array(file))}
        return dict(_zipped(path))
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise SpikeproofError(
            f"arrays of numbers at {path}", error, mend="write it with np.save or np.savez"
        ) from error


def _zipped(path: Path) -> Iterator[tuple[str, Tensor]]:
    with zipfile.ZipFile(path) as whole:
        if sum(one.file_size for one in whole.infolist()) > IMAGES_BYTES:
            raise ValueError(f"more than {IMAGES_BYTES} bytes unpacked")
        for name in ("inputs", "ids", "shape"):
            if f"{name}.npy" in whole.namelist():
                with whole.open(f"{name}.npy") as file:
                    yield name, torch.from_numpy(_array(file))


def _array(file: IO[bytes]) -> np.ndarray[Any, Any]:
    """One array of numbers; nothing is made of a header that says more than comes. ValueError for objects."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format")
    shape, columns, kind = _HEADERS[version](file)
    size = int(np.prod(shape, dtype=object)) * kind.itemsize
    if kind.kind not in "uif" or size > IMAGES_BYTES:
        raise ValueError(f"{kind} {shape}")
    data = file.read(size)
    if len(data) < size:
        raise ValueError(f"{len(data)} bytes of {size}")
    found = np.frombuffer(data, kind).reshape(shape, order="F" if columns else "C")
    return np.array(found, found.dtype.newbyteorder("="), order="C")  # torch takes no other byte order


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
