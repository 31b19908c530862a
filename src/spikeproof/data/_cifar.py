"""The official binary archives of CIFAR: found or downloaded, checked, and read without unpacking them to disk."""

from __future__ import annotations

import hashlib
import os
import tarfile
import urllib.request
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from spikeproof.data._images import Images, Split, check_split
from spikeproof.errors import SpikeproofError

__all__ = ["URL_BASE", "Layout", "load"]

URL_BASE = "https://www.cs.toronto.edu/~kriz/"
_TIMEOUT = 30.0  # seconds without a byte before a download counts as blocked
_BLOCK = 1 << 18  # bytes
_SIDE = 32
_IMAGE = 3 * _SIDE * _SIDE  # bytes of a record's image, channel by channel, row by row
_FIRST_TEST_ID = 50_000  # train owns 0..49999


@dataclass(frozen=True)
class Layout:
    """What distinguishes one archive from the other.

    archive, md5: the archive's file name and checksum; folder: what it unpacks to.
    train, test: the record files of a split, in order; train_records, test_records: records in *each* such file.
    label_bytes: label bytes ahead of each image, of which the last is the class.
    names: the file of the class names, one a line; classes: how many.
    """

    name: str
    archive: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    train_records: int
    test_records: int
    label_bytes: int
    names: str
    classes: int


def load(layout: Layout, root: str, download: bool, split: Split, limit: int | None) -> Images:
    """The images of `split`, (N,3,32,32) with scale 255; with a limit, a class-balanced subset of it.

    Raises UsageError for an unknown split, or a limit outside 1..N; SpikeproofError for data that are missing,
    damaged, or cannot be downloaded.
    """
    check_split(split)
    train = split == "train"
    members, records = (layout.train, layout.train_records) if train else (layout.test, layout.test_records)
    content = _read(layout, Path(root).expanduser(), download, (*members, layout.names))
    parts = [_records(layout, name, content[name], records) for name in members]
    labels = torch.from_numpy(np.concatenate([labels for labels, _ in parts]))
    pixels = torch.from_numpy(np.concatenate([pixels for _, pixels in parts]))
    ids = torch.arange(len(labels)) + (0 if train else _FIRST_TEST_ID)
    images = Images(pixels, 255, labels, ids, _class_names(layout, content[layout.names]), layout.name)
    return images.limited(limit, purpose=split)


def _records(layout: Layout, name: str, content: bytes, records: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """One record file -> labels (records,), pixels (records,3,32,32)."""
    expected = records * (layout.label_bytes + _IMAGE)
    if len(content) != expected:
        mend = f"delete {layout.folder} and get {layout.archive} again"
        raise SpikeproofError(f"{expected} bytes in {name}", f"{len(content)} bytes", mend=mend)
    table = np.frombuffer(content, dtype=np.uint8).reshape(records, -1)
    labels = table[:, layout.label_bytes - 1].astype(np.int64)
    if labels.max() >= layout.classes:
        first = int((labels >= layout.classes).argmax())
        expected_label = f"labels in 0..{layout.classes - 1} in {name}"
        raise SpikeproofError(expected_label, f"{labels[first]} in record {first}")
    return labels, table[:, layout.label_bytes :].reshape(records, 3, _SIDE, _SIDE)


def _class_names(layout: Layout, content: bytes) -> tuple[str, ...]:
    names = tuple(content.decode("utf-8", errors="replace").split())
    if len(names) != layout.classes:
        raise SpikeproofError(f"{layout.classes} class names in {layout.names}", len(names))
    return names


def _read(layout: Layout, root: Path, download: bool, names: Iterable[str]) -> dict[str, bytes]:
    """The content of the named files: from the unpacked folder, else from the archive, else from the download."""
    folder, archive = root / layout.folder, root / layout.archive
    if folder.is_dir():
        found = {name: _content(layout, folder / name) for name in names if (folder / name).is_file()}
        return _complete(found, names, folder)
    if archive.is_file():
        with archive.open("rb") as file:
            _check_md5(layout, file, archive)
    elif download:
        _download(layout, archive)
    else:
        mend = f"set --data.download=true, or {_by_hand(layout, archive)}"
        raise SpikeproofError(f"{layout.name} at {folder} or {archive}", "neither", mend=mend)
    return _complete(_unpack(archive, {f"{layout.folder}/{name}": name for name in names}), names, archive)


def _content(layout: Layout, path: Path) -> bytes:
    """The bytes of an unpacked file; none is read of one that is larger than any of the archive's."""
    most = max(layout.train_records, layout.test_records) * (layout.label_bytes + _IMAGE)
    if (size := path.stat().st_size) > most:
        mend = f"delete {layout.folder} and get {layout.archive} again"
        at_most = "at most " if path.name == layout.names else ""
        raise SpikeproofError(f"{at_most}{most} bytes in {path.name}", f"{size} bytes", mend=mend)
    return path.read_bytes()


def _complete(found: dict[str, bytes], names: Iterable[str], place: Path) -> dict[str, bytes]:
    missing = [name for name in names if name not in found]
    if missing:
        mend = f"delete {place} and get it again"
        raise SpikeproofError(f"the file {missing[0]} in {place}", "none", mend=mend)
    return found


def _unpack(archive: Path, wanted: dict[str, str]) -> dict[str, bytes]:
    """Member path -> short name in; short name -> content out. One pass, in memory."""
    found: dict[str, bytes] = {}
    with tarfile.open(archive, "r|gz") as tar:  # a stream: seeking back in a gzip would decompress it twice
        for member in tar:
            file = tar.extractfile(member) if member.name in wanted else None
            if file is not None:
                found[wanted[member.name]] = file.read()
    return found


def _by_hand(layout: Layout, archive: Path) -> str:
    return f"get {URL_BASE}{layout.archive} (md5 {layout.md5}) by hand and put it at {archive}"


def _check_md5(layout: Layout, file: IO[bytes], place: Path) -> None:
    found = hashlib.md5(usedforsecurity=False)  # what the data set's authors publish
    while block := file.read(_BLOCK):
        found.update(block)
    if found.hexdigest() != layout.md5:
        mend = f"delete {place} if it is there, and {_by_hand(layout, place)}"
        raise SpikeproofError(f"md5 {layout.md5} of {place.name}", found.hexdigest(), mend=mend)


def _download(layout: Layout, archive: Path) -> None:
    """Fetch the archive under a temporary name beside its own; it gets its own name only when it is whole."""
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        partial = archive.with_name(f".{archive.name}.{uuid.uuid4().hex}")  # two downloads at once do not meet
        try:
            with partial.open("x+b") as file:
                _fetch(URL_BASE + layout.archive, file)
                file.seek(0)
                _check_md5(layout, file, archive)
            os.replace(partial, archive)
        finally:
            partial.unlink(missing_ok=True)  # gone already where it was renamed
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the response too, and holds its connection
        got, mend = f"{type(error).__name__}: {error}", _by_hand(layout, archive)
        raise SpikeproofError(f"a download of {layout.archive}", got, mend=mend) from error


def _fetch(url: str, file: IO[bytes]) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        label = url.rpartition("/")[2]
        with tqdm(total=total, unit="B", unit_scale=True, desc=label, disable=None) as bar:  # None: only on a terminal
            while block := response.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
    file.flush()
    os.fsync(file.fileno())
