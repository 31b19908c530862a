"""Files of inputs: what a number in them means, and what is no file of numbers."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from spikeproof.board.inputs import as_bytes, read_inputs, values, write_inputs
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf

BYTES = st.lists(st.integers(0, 255), min_size=6, max_size=6)


@given(
    clean=BYTES, moves=st.lists(st.floats(-1, 1), min_size=6, max_size=6), eps=st.sampled_from([0.01, 0.05, 8 / 255])
)
def test_bytes_never_leave_the_ball(clean: list[int], moves: list[float], eps: float) -> None:
    """Of an image of bytes, in each of the three norms, whatever the point of the ball; and no byte is a level off."""
    x0 = values(torch.tensor([clean], dtype=torch.uint8), False)
    for threat in (Linf(eps), L2(eps), L1(eps)):
        x = threat.project(x0 + torch.tensor([moves]), x0)
        found = values(as_bytes(x, x0, False, threat.eps if threat.norm == "Linf" else 0.0), False)
        assert float(threat.distance(found, x0)) <= eps + 1e-6
        assert float((found - x).abs().max()) < 1 / 255 + 1e-6


@given(cells=st.lists(st.booleans(), min_size=30, max_size=30))
def test_bits_come_back(tmp_path_factory: pytest.TempPathFactory, cells: list[bool]) -> None:
    path = tmp_path_factory.mktemp("bits") / "one.safetensors"
    data = torch.tensor(cells, dtype=torch.uint8).view(2, 3, 5)
    write_inputs(path, data, torch.tensor([7, 3]), bits=True)
    found = read_inputs(path, True)
    assert torch.equal(found.inputs, data.float())
    assert found.ids is not None
    assert found.ids.tolist() == [7, 3]


def test_the_three_formats_say_the_same(tmp_path: Path) -> None:
    data, ids = torch.tensor([[[0, 51, 255]]], dtype=torch.uint8), torch.tensor([4])
    np.savez_compressed(tmp_path / "a.npz", inputs=data.numpy(), ids=ids.numpy().astype(">i4"))
    np.save(tmp_path / "a.npy", np.asfortranarray(data.numpy() / np.float64(255)).astype(">f8"))
    save_file({"inputs": data, "ids": ids}, tmp_path / "a.safetensors")
    for name in ("a.npz", "a.npy", "a.safetensors"):
        found = read_inputs(tmp_path / name, False)
        assert found.inputs.dtype == torch.float32
        torch.testing.assert_close(found.inputs, torch.tensor([[[0.0, 0.2, 1.0]]]))
        assert (found.ids is None) == (name == "a.npy")
    assert torch.equal(read_inputs(tmp_path / "a.npz", True).inputs, data.float()), "an event is one, and not 1 / 255"


class Harmful:
    def __reduce__(self) -> object:
        return exec, ("raise AssertionError('it was run')",)


def zipped(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as whole:
        whole.writestr(name, data)
    return file.getvalue()


def claiming(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": kind})
    return file.getvalue()


OBJECTS = io.BytesIO()
np.save(OBJECTS, np.array([Harmful()], dtype=object), allow_pickle=True)

FILES = {
    "empty.npz": b"", "text.npy": b"hello", "pickle.npy": pickle.dumps(Harmful()), "objects.npy": OBJECTS.getvalue(),
    "objects.npz": zipped("inputs.npy", OBJECTS.getvalue()), "short.npy": claiming((3,)) + b"1234",
    "huge.npy": claiming((10**9, 10**9)), "negative.npy": claiming((-1, 4)) + b"1234", "text.npz": b"PK\3\4, no more",
    "words.npy": claiming((1,), "<U4") + b"0" * 16, "other.npz": zipped("pixels.npy", claiming((1,)) + b"1234"),
    "none.safetensors": b"0" * 9,
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_what_holds_no_numbers_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    with pytest.raises(SpikeproofError, match=name):
        read_inputs(tmp_path / name, False)


def test_a_pickle_by_its_name_is_not_opened(tmp_path: Path) -> None:
    torch.save(torch.zeros(1), tmp_path / "a.pt")
    with pytest.raises(UsageError, match=r"\.npz"):
        read_inputs(tmp_path / "a.pt", False)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"inputs": torch.zeros(2, 3), "ids": torch.zeros(3, dtype=torch.int64)}, "as ids"),
        ({"inputs": torch.zeros(2, 3), "ids": torch.zeros(2)}, "as ids"),
        ({"inputs": torch.zeros(2, 3, dtype=torch.int64)}, "as bytes"),
        ({"inputs": torch.zeros(2, 3, dtype=torch.uint8), "shape": torch.tensor([5, 5])}, "packed bits"),
        ({"inputs": torch.zeros(2, 3, dtype=torch.uint8), "shape": torch.tensor([-4, -5])}, "packed bits"),
        ({"other": torch.zeros(2)}, "array 'inputs'"),
    ],
    ids=range(6),
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, Tensor], says: str) -> None:
    save_file(arrays, tmp_path / "a.safetensors")
    with pytest.raises(SpikeproofError, match=says):
        read_inputs(tmp_path / "a.safetensors", False)
