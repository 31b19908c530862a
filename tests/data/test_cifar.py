"""The two CIFARs, on small archives written here: reading, damage, and downloads from a server on the loopback."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from spikeproof.data import _cifar, cifar10, cifar100
from spikeproof.data._cifar import Layout
from spikeproof.errors import SpikeproofError, UsageError

RECORDS = {"train": 20, "test": 10}
DataSet = Callable[..., "cifar10.CIFAR10 | cifar100.CIFAR100"]


def label_of(layout: Layout, split: str, k: int) -> int:
    """The class of image k: every class comes, and train and test differ."""
    return (3 * k + (split == "test")) % layout.classes


def picture(split: str, k: int) -> np.ndarray:
    c, h, w = np.meshgrid(range(3), range(32), range(32), indexing="ij")
    return ((101 * k + 85 * c + 7 * h + w + (split == "test")) % 256).astype(np.uint8)


def record(layout: Layout, split: str, k: int) -> bytes:
    fine = label_of(layout, split, k)
    labels = [fine] if layout.label_bytes == 1 else [(fine + 1) % 20, fine]  # a coarse label that misleads
    return bytes(labels) + picture(split, k).tobytes()


def members(layout: Layout) -> dict[str, bytes]:
    content = {layout.names: "".join(f"class_{k}\n" for k in range(layout.classes)).encode() + b"\n"}
    for split, files in (("train", layout.train), ("test", layout.test)):
        size = RECORDS[split]
        for number, name in enumerate(files):
            content[name] = b"".join(record(layout, split, number * size + k) for k in range(size))
    return content


def packed(layout: Layout, content: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in {"readme.html": b"hello", **content}.items():
            info = tarfile.TarInfo(f"{layout.folder}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@dataclass
class Case:
    """One of the two data sets, made small: its class, its layout as patched, and what its files hold."""

    module: ModuleType
    make: DataSet
    layout: Layout
    content: dict[str, bytes]
    patch: pytest.MonkeyPatch

    def unpack(self, root: Path) -> Path:
        folder = root / self.layout.folder
        folder.mkdir()
        for name, data in self.content.items():
            (folder / name).write_bytes(data)
        return folder

    def archive(self, root: Path, *, expect: bytes | None = None) -> Path:
        """Write the archive; its expected checksum becomes its own, or that of `expect`."""
        data = packed(self.layout, self.content)
        self.expect(data if expect is None else expect)
        path = root / self.layout.archive
        path.write_bytes(data)
        return path

    def expect(self, data: bytes) -> None:
        self.layout = replace(self.layout, md5=hashlib.md5(data).hexdigest())
        self.patch.setattr(self.module, "_LAYOUT", self.layout)


@pytest.fixture(params=["CIFAR10", "CIFAR100"])
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    module, make = {"CIFAR10": (cifar10, cifar10.CIFAR10), "CIFAR100": (cifar100, cifar100.CIFAR100)}[request.param]
    layout = replace(module._LAYOUT, train_records=RECORDS["train"], test_records=RECORDS["test"])
    monkeypatch.setattr(module, "_LAYOUT", layout)
    return Case(module, make, layout, members(layout), monkeypatch)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A dictionary that a server on the loopback serves, in the place of the data sets' own; all else is 404."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            if name not in files:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[name])))
            self.end_headers()
            self.wfile.write(files[name])

        def log_message(self, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        use_base(monkeypatch, server.server_port)
        yield files
        server.shutdown()
        thread.join()


def use_base(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr(_cifar, "URL_BASE", f"http://127.0.0.1:{port}/")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")


def refused(case: Case, root: Path, split: str = "train", *, download: bool = False) -> str:
    with pytest.raises(SpikeproofError) as caught:
        case.make(str(root), download).load(split)
    assert not isinstance(caught.value, UsageError)
    return str(caught.value)


@pytest.mark.parametrize("packed_up", [False, True], ids=["folder", "archive"])
def test_every_byte_lands_in_its_place(case: Case, tmp_path: Path, packed_up: bool) -> None:
    (case.archive if packed_up else case.unpack)(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for split, files, first in (("train", case.layout.train, 0), ("test", case.layout.test, 50_000)):
        images = case.make(str(tmp_path)).load(split)
        count = RECORDS[split] * len(files)
        assert images.ids.tolist() == list(range(first, first + count))
        assert images.labels.tolist() == [label_of(case.layout, split, k) for k in range(count)]
        assert np.array_equal(images.pixels.numpy(), np.stack([picture(split, k) for k in range(count)]))
        assert images.scale == 255
        assert images.name == case.layout.name
        assert images.classes == tuple(f"class_{k}" for k in range(case.layout.classes))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_official_layouts() -> None:
    for layout, classes, bytes_of_a_record in ((cifar10._LAYOUT, 10, 3073), (cifar100._LAYOUT, 100, 3074)):
        assert layout.train_records * len(layout.train) == 50_000
        assert layout.test_records * len(layout.test) == 10_000
        assert layout.label_bytes + 3072 == bytes_of_a_record
        assert layout.classes == classes


def test_a_limit_is_balanced_and_nests(case: Case, tmp_path: Path) -> None:
    case.unpack(tmp_path)
    small, large = (case.make(str(tmp_path)).load("test", limit) for limit in (4, 8))
    assert set(small.ids.tolist()) < set(large.ids.tolist())
    assert small.labels.unique().shape == (4,)
    assert torch.equal(small.pixels[0], torch.from_numpy(picture("test", int(small.ids[0]) - 50_000)))


def test_usage_errors(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="valid: train, test"):
        case.make(str(tmp_path)).load("valid")
    case.unpack(tmp_path)
    with pytest.raises(UsageError, match=r"1\.\.10"):
        case.make(str(tmp_path)).load("test", 11)


def test_missing_data_tell_both_ways_to_get_them(case: Case, tmp_path: Path) -> None:
    message = refused(case, tmp_path)
    assert "--data.download=true" in message
    assert f"https://www.cs.toronto.edu/~kriz/{case.layout.archive}" in message
    assert case.layout.md5 in message
    assert f"put it at {tmp_path / case.layout.archive}" in message


@pytest.mark.parametrize("extra", [-1, 1, -3000])
def test_a_file_of_a_wrong_size_is_refused(case: Case, tmp_path: Path, extra: int) -> None:
    name = case.layout.train[-1]
    whole = case.content[name]
    case.content[name] = whole + b"x" if extra > 0 else whole[:extra]
    expected = f"expected {len(whole)} bytes in {name}, got {len(whole) + extra} bytes"
    case.archive(tmp_path)
    assert expected in refused(case, tmp_path)
    case.unpack(tmp_path)
    assert expected in refused(case, tmp_path)


@pytest.mark.parametrize("of", ["train", "names"])
def test_a_file_that_is_far_too_large_is_refused_unread(case: Case, tmp_path: Path, of: str) -> None:
    name = case.layout.names if of == "names" else case.layout.train[0]
    os.truncate(case.unpack(tmp_path) / name, 10**12)  # a hole, which takes no room on the disk
    assert f"bytes in {name}, got {10**12} bytes" in refused(case, tmp_path)


def test_a_label_out_of_range_is_refused(case: Case, tmp_path: Path) -> None:
    name = case.layout.test[0]
    data = bytearray(case.content[name])
    size = case.layout.label_bytes + 3072
    data[2 * size + case.layout.label_bytes - 1] = case.layout.classes
    case.content[name] = bytes(data)
    case.unpack(tmp_path)
    message = refused(case, tmp_path, "test")
    assert f"in {name}, got {case.layout.classes} in record 2" in message


def test_a_missing_member_is_refused(case: Case, tmp_path: Path) -> None:
    del case.content[case.layout.test[0]]
    archive = case.archive(tmp_path)
    assert f"the file {case.layout.test[0]} in {archive}" in refused(case, tmp_path, "test")
    folder = case.unpack(tmp_path)
    assert f"the file {case.layout.test[0]} in {folder}" in refused(case, tmp_path, "test")
    assert len(case.make(str(tmp_path)).load("train")) == RECORDS["train"] * len(case.layout.train)


def test_a_member_that_is_no_file_is_refused(case: Case, tmp_path: Path) -> None:
    folder = case.unpack(tmp_path)
    (folder / case.layout.names).unlink()
    (folder / case.layout.names).mkdir()
    assert f"the file {case.layout.names}" in refused(case, tmp_path)


def test_wrong_class_names_are_refused(case: Case, tmp_path: Path) -> None:
    case.content[case.layout.names] = b"only\nthree\nclasses\n"
    case.unpack(tmp_path)
    assert f"{case.layout.classes} class names in {case.layout.names}, got 3" in refused(case, tmp_path)


def test_an_archive_with_a_wrong_checksum_is_refused_and_kept(case: Case, tmp_path: Path) -> None:
    archive = case.archive(tmp_path, expect=b"something else")
    found = hashlib.md5(archive.read_bytes()).hexdigest()
    message = refused(case, tmp_path, download=True)
    assert f"md5 {case.layout.md5} of {archive.name}, got {found}" in message
    assert str(archive) in message
    assert archive.is_file()


def test_a_download_is_read_and_kept(case: Case, served: dict[str, bytes], tmp_path: Path) -> None:
    data = packed(case.layout, case.content)
    case.expect(data)
    served[case.layout.archive] = data
    root = tmp_path / "not" / "yet"
    images = case.make(str(root), True).load("train")
    assert [path.name for path in root.iterdir()] == [case.layout.archive]
    assert (root / case.layout.archive).read_bytes() == data
    served.clear()  # from now on the server has nothing
    assert case.make(str(root), True).load("train").digest() == images.digest()
    assert case.make(str(root)).load("train").digest() == images.digest()


def test_a_download_with_a_wrong_checksum_leaves_nothing(case: Case, served: dict[str, bytes], tmp_path: Path) -> None:
    data = packed(case.layout, case.content)
    case.expect(data)
    served[case.layout.archive] = data[:-10]
    message = refused(case, tmp_path, download=True)
    assert f"got {hashlib.md5(data[:-10]).hexdigest()}" in message
    assert case.layout.md5 in message
    assert list(tmp_path.iterdir()) == []


def check_failed_download(case: Case, root: Path, reason: str) -> None:
    """The message gives the reason, and where to get the file, its checksum and where to put it; nothing is left."""
    message = refused(case, root, download=True)
    assert reason in message
    assert f"{_cifar.URL_BASE}{case.layout.archive} (md5 {case.layout.md5})" in message
    assert f"put it at {root / case.layout.archive}" in message
    assert list(root.iterdir()) == []


def test_a_download_that_is_not_there(case: Case, served: dict[str, bytes], tmp_path: Path) -> None:
    assert served == {}
    check_failed_download(case, tmp_path, "404")


def test_a_refused_connection(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    use_base(monkeypatch, port)
    check_failed_download(case, tmp_path, "refused")


def test_a_server_that_never_answers(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_cifar, "_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_base(monkeypatch, silent.getsockname()[1])
        check_failed_download(case, tmp_path, "timed out")


def test_a_root_that_cannot_be_written(case: Case, served: dict[str, bytes], tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_bytes(b"in the way")
    message = refused(case, root, download=True)
    assert "FileExistsError" in message
    assert case.layout.md5 in message
