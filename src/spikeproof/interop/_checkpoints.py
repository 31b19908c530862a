"""What a file of somebody's training holds: sets of weights under names, behind prefixes, beside other things."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.limits import HEADER_BYTES

__all__ = ["fitting", "is_safetensors", "place_of", "refuse_lost_digits", "refuse_others", "sets_of"]

_WHOLE = "torch.save(model.state_dict(), path), or safetensors.torch.save_file; whole pickled models are not opened"

_DEPTH = 3
"""Dictionaries in dictionaries in which weights are looked for."""

_STARTS = {
    b"version https://git-lfs": ("a pointer of Git LFS, and not the file", "git lfs pull, or download the file itself"),
    b"<!doctype html": ("a web page", "download the file itself: the address of a page is not that of the file"),
    b"<html": ("a web page", "download the file itself: the address of a page is not that of the file"),
    b"<?xml": ("an XML message, such as of a server", "download the file itself"),
    b"\x1f\x8b": ("a gzip archive", "gunzip it first"),
    b"{": ("JSON text", "the file with the weights beside it"),
    b"\x89hdf": ("an HDF5 file, as Keras writes", "torch.save(model.state_dict(), path) of the torch model"),
}
"""How files begin that are no weights."""


def place_of(path: Path) -> tuple[Path, str]:
    """A file, and the name of a set of weights in it behind a colon; '' where none is named."""
    head, colon, name = str(path).rpartition(":")
    return (Path(head), name) if colon and not path.exists() and Path(head).is_file() else (path, "")


def is_safetensors(path: Path) -> bool:
    """By the first bytes: the length of a header, and its brace; or by the name, where it is not torch's."""
    with open(path, "rb") as file:
        begins = file.read(9)
    length = int.from_bytes(begins[:8], "little")
    of_torch = begins[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    return (length <= HEADER_BYTES and begins[8:] == b"{") or (path.suffix == ".safetensors" and not of_torch)


def refuse_others(path: Path) -> None:
    """SpikeproofError for what is no checkpoint by its first bytes: a web page, a pointer, an archive, nothing."""
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no regular file" if path.exists() else "no such file"
        mend = "the file in it" if path.is_dir() else "the path of the file with the weights"
        raise SpikeproofError(f"weights at {path}", got, mend=mend)
    with open(path, "rb") as file:
        begins = file.read(64)
    if not begins:
        raise SpikeproofError(f"weights at {path}", "an empty file", mend="save or download it again")
    if begins[8:9] == b"{" and int.from_bytes(begins[:8], "little") <= HEADER_BYTES:
        return  # safetensors, whose first byte may be any
    for start, (what, mend) in _STARTS.items():
        if begins.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(start):
            raise SpikeproofError(f"weights at {path}", f"no checkpoint, but {what}", mend=mend)


def sets_of(path: Path) -> dict[str, dict[str, Tensor]]:
    """Every set of named tensors in a torch file, by the names that lead to it, 'a.b'; '' for the file's own."""
    try:
        if is_zipfile(path):  # torch compresses nothing, and unpacks whatever somebody has compressed
            with ZipFile(path) as members:
                if sum(member.file_size for member in members.infolist()) > path.stat().st_size:
                    raise ValueError("a compressed file, which torch does not write")
        with open(path, "rb") as file:  # of a path, torch would go by its name
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a file may be anything
        expected = f"a state dict of tensors alone in {path}"
        raise SpikeproofError(expected, _refused(error), mend=_WHOLE) from error
    sets = dict(_sets(found, (), _DEPTH))
    if not sets:
        what = type(found).__name__
        if isinstance(found, Mapping):
            what = f"{what} of {', '.join(map(repr, list(found)[:6])) or 'nothing'}"
        raise SpikeproofError(f"a state dict of tensors alone in {path}", what, mend=_WHOLE)
    return sets


def _refused(error: Exception) -> str:
    """What torch would not read, without its advice to read it all the same."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    if named := re.search(r"(?:Unsupported (?:global|operand|class)|GLOBAL) *:?(?: GLOBAL)? ([\w.]+)", text):
        return f"an object of {named[1]}, which is no tensor"
    if "Weights only load failed" in text or not text:
        return f"what is no file of torch ({type(error).__name__})"
    return text.splitlines()[0]


def _sets(found: Any, names: tuple[str, ...], depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(found, Mapping) or depth < 0:
        return
    if found and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()):
        yield ".".join(names), dict(found)
        return
    for name, value in found.items():
        if isinstance(name, str):
            yield from _sets(value, (*names, name), depth - 1)


_ROUNDING, _NOTHING = 1e-6, 1e-30
"""A float32 rounds by 6e-8 of a value, 16 bits by a thousandth; below the other nothing is a weight."""


def refuse_lost_digits(tensors: Mapping[str, Tensor], network: nn.Module, path: Path) -> None:
    """SpikeproofError for floats that a network in less than single precision would hold as others."""
    for name, held in network.state_dict().items():
        tensor = tensors[name]
        if tensor.is_floating_point() and tensor.dtype != held.dtype:
            cast = tensor.to(held.dtype).to(tensor.dtype)
            if not torch.allclose(cast, tensor, rtol=_ROUNDING, atol=_NOTHING):
                mend = f"the network in {tensor.dtype}, or a file that was saved in {held.dtype}"
                raise SpikeproofError(f"weights in {path} that {held.dtype} holds", f"digits of {name} that it loses",
                                      mend=mend)  # fmt: skip


def fitting(
    found: dict[str, dict[str, Tensor]], network: nn.Module, path: Path, wanted: str = ""
) -> tuple[str, dict[str, Tensor], str]:
    """The set whose names are the network's own, its name, and the prefix that was before all of them.

    wanted: the name of the set, where one was given. Of several that fit and differ none is chosen: SpikeproofError
    with their names. Where none fits, the one that is nearest, for its names to be told.
    """
    if wanted and wanted not in {**found, **_groups(found)}:
        raise SpikeproofError(f"weights under {wanted!r} in {path}", "none", valid=list(found), mend="one of these")
    if wanted or not any(
        _bare(tensors, network)[0].keys() == network.state_dict().keys() for tensors in found.values()
    ):
        found = {**found, **_groups(found)}
    bare = {name: _bare(tensors, network) for name, tensors in found.items() if wanted in ("", name)}
    own = network.state_dict().keys()
    fit = [name for name, (tensors, _) in bare.items() if tensors.keys() == own]
    if not fit:
        name = max(bare, key=lambda one: len(bare[one][0].keys() & own))
        return name, *bare[name]
    first = bare[fit[0]][0]
    if any(not _same(first, bare[other][0]) for other in fit[1:]):
        raise SpikeproofError(
            f"one set of weights for {type(network).__name__} in {path}",
            f"{len(fit)} that fit and differ: {', '.join(map(repr, fit))}",
            mend=f"name the one that is meant: '{path}:{fit[-1]}'",
        )
    return fit[0], *bare[fit[0]]


def _groups(found: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Parts of a set whose names begin with one word, as of a module that holds the network beside others."""
    groups: dict[str, dict[str, Tensor]] = {}
    for path, tensors in found.items():
        for name, tensor in tensors.items():
            word, dot, rest = name.partition(".")
            if dot:
                groups.setdefault(".".join(filter(None, (path, word))), {})[rest] = tensor
    return {name: tensors for name, tensors in groups.items() if name not in found}


def _bare(tensors: dict[str, Tensor], network: nn.Module) -> tuple[dict[str, Tensor], str]:
    """Without the words before every name that are not the network's, as many as make the names its own."""
    own, prefix = network.state_dict().keys(), ""
    best, best_prefix, current = tensors, "", tensors
    while current and (word := _common(current)):
        current = {name.removeprefix(word): tensor for name, tensor in current.items()}
        prefix += word
        if len(current.keys() & own) > len(best.keys() & own):
            best, best_prefix = current, prefix
    return best, best_prefix


def _common(tensors: dict[str, Tensor]) -> str:
    """The first word of all names, with its dot; '' where they have none in common."""
    words = {name.partition(".")[0] for name in tensors}
    (word,) = words if len(words) == 1 else ("",)
    return f"{word}." if word and all(name.startswith(f"{word}.") for name in tensors) else ""


def _same(some: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(tensor.shape == other[name].shape and torch.equal(tensor, other[name]) for name, tensor in some.items())
