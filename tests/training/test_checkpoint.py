"""Weights on disk: bit by bit what was written, whole or not at all, and nothing else is ever let in."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small import built
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.files import digest, write_bytes
from spikeproof.training.checkpoint import load_into, read_header, read_tensors, write_tensors
from spikeproof.training.facts import facts_of, took_of

EPOCH = {"epoch": 1, "loss": 0.5, "validation_loss": 0.5, "validation_accuracy": 1.0}


def state() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in built(seed=5).body.state_dict().items()}


def test_what_is_written_is_read_bit_by_bit(tmp_path: Path) -> None:
    odd = {"inf": torch.tensor([float("inf"), -0.0]), "tiny": torch.tensor(1e-45), "count": torch.tensor(2**62)}
    tensors = {**state(), **odd, "turned": torch.arange(6.0).view(2, 3).T, "half": torch.ones(2, dtype=torch.bfloat16)}
    header = {"epoch": 3, "history": [{"loss": 0.1 + 0.2, "share": 1e-17}], "text": 'é "quoted"\n'}
    write_tensors(tmp_path / "a.safetensors", tensors, header)
    found, facts = read_tensors(tmp_path / "a.safetensors")
    assert facts == header
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert found[name].contiguous().view(-1).view(torch.uint8).equal(tensor.contiguous().view(-1).view(torch.uint8))


def test_tensors_that_share_memory_are_written_each(tmp_path: Path) -> None:
    x = torch.arange(4.0)
    write_tensors(tmp_path / "a.safetensors", {"one": x, "other": x, "part": x[1:]}, {})
    found, _ = read_tensors(tmp_path / "a.safetensors")
    assert [found[name].tolist() for name in ("one", "other", "part")] == [x.tolist(), x.tolist(), x[1:].tolist()]


def test_the_same_content_has_the_same_digest(tmp_path: Path) -> None:
    for name in range(12):
        write_tensors(tmp_path / f"{name}", state(), {"epoch": 1, "history": [], "best": 0})
    write_tensors(tmp_path / "other", state(), {"epoch": 2})
    (one,) = {digest(tmp_path / f"{name}") for name in range(12)}
    assert one != digest(tmp_path / "other")
    assert len(one) == 64


# --- what is not let in ---


def truncated(path: Path) -> None:
    write_tensors(path, state(), {})
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_its_header(path: Path) -> None:
    write_tensors(path, state(), {})
    path.write_bytes(path.read_bytes()[:40])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("weights: none\n" * 50, encoding="utf-8")


def pickled_by_torch(path: Path) -> None:
    torch.save(state(), path)


class Exploit:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (f"{os.environ['SPIKEPROOF_TEST_EXPLOIT']}",)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Exploit()}))


def a_folder(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None:
    path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "make", [truncated, cut_in_its_header, empty, text, pickled_by_torch, pickled, a_folder, nothing]
)
def test_what_is_no_whole_safetensors_file_is_refused_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.setenv("SPIKEPROOF_TEST_EXPLOIT", str(tmp_path / "code has run"))
    path = tmp_path / "weights.pt"
    make(path)
    with pytest.raises(SpikeproofError) as error:
        read_tensors(path)
    assert "weights.pt" in str(error.value)
    assert "to mend: give a .safetensors file" in str(error.value)
    assert not (tmp_path / "code has run").exists()


def test_another_program_s_file_has_no_header_and_fits_only_where_its_tensors_do(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "same.safetensors", {"format": "pt", "header": "not json"})
    tensors, header = read_tensors(tmp_path / "same.safetensors")
    assert header == {}
    body = built(seed=1).body
    load_into(body, tensors, "same")
    assert all(torch.equal(body.state_dict()[name], tensor) for name, tensor in state().items())
    save_file({"embedding": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(SpikeproofError, match=r"another architecture.*embedding is not in the model"):
        load_into(body, read_tensors(tmp_path / "other.safetensors")[0], "other")


@pytest.mark.parametrize("said", ["not json", "[1]", "3", "null", "[" * 5000, "{", '"text"'])
def test_a_header_that_is_not_spikeproof_s_is_refused_kindly(tmp_path: Path, said: str) -> None:
    save_file(state(), tmp_path / "a.safetensors", {"spikeproof": said})
    for read in (read_tensors, read_header):
        with pytest.raises(SpikeproofError, match=r"'spikeproof' in the metadata of .*a\.safetensors as JSON"):
            read(tmp_path / "a.safetensors")


def test_the_header_alone_is_that_of_the_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", state(), {"epoch": 3})
    assert read_header(tmp_path / "a.safetensors") == read_tensors(tmp_path / "a.safetensors")[1] == {"epoch": 3}


def missing(tensors: dict[str, Tensor]) -> str:
    name = next(iter(tensors))
    del tensors[name]
    return f"{name} is missing"


def foreign(tensors: dict[str, Tensor]) -> str:
    tensors["extra.weight"] = torch.ones(1)
    return "extra.weight is not in the model"


def reshaped(tensors: dict[str, Tensor]) -> str:
    name = next(iter(tensors))
    tensors[name] = tensors[name][:2]
    return f"{name} is (2, "


def not_a_number(tensors: dict[str, Tensor]) -> str:
    name = next(iter(tensors))
    tensors[name].view(-1)[3] = float("nan")
    return f"NaN or infinity in {name}"


def infinite(tensors: dict[str, Tensor]) -> str:
    name = list(tensors)[-1]
    tensors[name].view(-1)[0] = float("-inf")
    return f"NaN or infinity in {name}"


@pytest.mark.parametrize("spoil", [missing, foreign, reshaped, not_a_number, infinite])
def test_weights_that_do_not_fit_are_refused_by_name_and_change_nothing(
    spoil: Callable[[dict[str, Tensor]], str],
) -> None:
    body = built(seed=1).body
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    tensors = state()
    said = spoil(tensors)
    with pytest.raises(SpikeproofError) as error:
        load_into(body, tensors, "somewhere.safetensors")
    assert said in str(error.value)
    assert "somewhere.safetensors" in str(error.value)
    assert all(torch.equal(body.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("options", [{"width": 8}, {"model": "sew_resnet"}, {"neuron": "plif"}])
def test_another_architecture_is_refused_with_the_mend(options: dict[str, object]) -> None:
    with pytest.raises(SpikeproofError, match=r"another architecture .*to mend: build the model with the options"):
        load_into(built(**options).body, state(), "a file")  # type: ignore[arg-type]


def of_kinds() -> nn.Module:
    """One tensor for each kind of number that a network holds."""
    body = nn.Module()
    for kind in (torch.float16, torch.float32, torch.float64, torch.int8, torch.int64, torch.bool, torch.complex64):
        body.register_buffer(str(kind).removeprefix("torch."), torch.zeros(2, dtype=kind))
    return body


def quantised() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of torch say that it will go
        return torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("float32", torch.tensor([1.0, 1e300], dtype=torch.float64), "infinity in float32, read as torch.float32"),
        ("float32", torch.tensor([1.0, -1e39], dtype=torch.float64), "NaN or infinity in float32"),
        ("float16", torch.tensor([1.0, 65520.0]), "NaN or infinity in float16"),
        ("float16", torch.tensor([1.0, 1e38], dtype=torch.bfloat16), "NaN or infinity in float16"),
        ("complex64", torch.tensor([1.0, 1e300j], dtype=torch.complex128), "NaN or infinity in complex64"),
        ("int64", torch.tensor([1.0, 2.5]), "got torch.float32"),
        ("int64", torch.tensor([1.0, 2.0], dtype=torch.float64), "got torch.float64"),
        ("float32", torch.tensor([1, 2]), "got torch.int64"),
        ("float32", torch.tensor([True, False]), "got torch.bool"),
        ("float32", torch.tensor([1.0, 1.0j]), "got torch.complex64"),
        ("complex64", torch.tensor([1.0, 2.0]), "got torch.float32"),
        ("bool", torch.tensor([1.0, 0.5]), "got torch.float32"),
        ("int8", torch.tensor([1, 300]), "whole numbers that torch.int8 holds at int8"),
        ("int8", torch.tensor([1, 200], dtype=torch.uint8), "whole numbers that torch.int8 holds"),
        ("int64", torch.tensor([1, 2**64 - 1], dtype=torch.uint64), "whole numbers that torch.int64 holds"),
        ("bool", torch.tensor([0, 2]), "whole numbers that torch.bool holds"),
        ("float32", torch.ones(2).to(torch.float8_e4m3fn), "torch.float8_e4m3fn in float32"),
        ("float32", torch.ones(2).to(torch.float8_e5m2), "torch.float8_e5m2 in float32"),
        ("int64", torch.ones(2).to(torch.float8_e5m2), "torch.float8_e5m2 in int64"),
        ("float32", quantised(), "nested, quantised, sparse or without values"),
        ("float32", torch.zeros(2).to_sparse(), "nested, quantised, sparse or without values"),
        ("float32", torch.nested.nested_tensor([torch.zeros(1)] * 2, layout=torch.jagged), "nested, quantised"),
        ("float32", torch.zeros(2, device="meta"), "nested, quantised, sparse or without values"),
    ],
    ids=lambda given: str(given.dtype) if isinstance(given, Tensor) else None,
)  # fmt: skip
def test_values_that_a_model_would_hold_as_others_are_refused_and_change_nothing(
    name: str, values: Tensor, said: str
) -> None:
    body = of_kinds()
    with pytest.raises(SpikeproofError) as error:
        load_into(body, {**body.state_dict(), name: values}, "somewhere.safetensors")
    assert said in str(error.value)
    assert "somewhere.safetensors" in str(error.value)
    assert not any(bool(tensor.any()) for tensor in body.state_dict().values())


@pytest.mark.parametrize(
    ("name", "values", "held"),
    [
        ("float32", torch.tensor([0.1, -3e38], dtype=torch.float64), [0.1, -3e38]),
        ("float64", torch.tensor([0.5, 65504.0], dtype=torch.float16), [0.5, 65504.0]),
        ("float16", torch.tensor([0.1, 1e-9]), [0.1, 0.0]),
        ("int64", torch.tensor([7, -7], dtype=torch.int32), [7, -7]),
        ("int8", torch.tensor([127, -128]), [127, -128]),
        ("int8", torch.tensor([True, False]), [1, 0]),
        ("bool", torch.tensor([1, 0], dtype=torch.uint8), [True, False]),
    ],
)
def test_other_numbers_of_bits_hold_the_same_values(name: str, values: Tensor, held: list[float]) -> None:
    body = of_kinds()
    load_into(body, {**body.state_dict(), name: values}, "a file")
    found = body.state_dict()[name]
    assert found.dtype == of_kinds().state_dict()[name].dtype
    assert found.tolist() == pytest.approx(held, rel=1e-3)


# --- what it says of itself ---


def test_a_header_says_what_it_says_and_nothing_else() -> None:
    said: dict[str, Any] = {"input_shape": [3, 8, 8], "classes": ["a"], "history": [EPOCH, EPOCH], "best_epoch": 2}
    assert facts_of({**said, "train_seconds": 3.0, "trained_on": "a machine"}, Path("a")) == said
    assert facts_of({}, Path("a")) == {}


@pytest.mark.parametrize(
    "said",
    [
        {"history": "abc"}, {"history": [{"epoch": 1}]}, {"history": [[]]}, {"history": {}}, {"best_epoch": "1"},
        {"best_epoch": 3, "history": [EPOCH]}, {"best_epoch": 0}, {"best_epoch": True}, {"best_epoch": 2},
        {"input_shape": "abc"}, {"input_shape": []}, {"input_shape": [-1, 2, 2]}, {"input_shape": [10**9, 8, 8]},
        {"input_shape": [1.5]}, {"classes": 10}, {"classes": [1, 2]}, {"neuron": []}, [], 3, None, "text",
    ],
    ids=str,
)  # fmt: skip
def test_a_header_of_another_s_making_is_refused_kindly(said: Any) -> None:
    with pytest.raises(SpikeproofError, match=r"^expected .*a file.*, got "):
        facts_of(said, Path("a file"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"train_seconds": "x"}', '{"trained_on": 3}', "[" * 9999, "\udcff"])
def test_a_cost_that_is_none_is_refused_kindly(tmp_path: Path, text: str) -> None:
    (tmp_path / "training.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(SpikeproofError, match=r"training\.json.*, got "):
        took_of(tmp_path / "training.json")


# --- whole or not at all ---


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "permissions"),
        (errno.EROFS, "permissions"),
    ],
)
@pytest.mark.parametrize("where", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int, said: str
) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, state(), {"epoch": 1})
    old = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, where, fail)
    with pytest.raises(SpikeproofError, match=rf"a\.safetensors.*{said}"):
        write_tensors(path, state(), {"epoch": 2})
    assert path.read_bytes() == old
    assert names_in(tmp_path) == ["a.safetensors"]


def test_a_stop_in_the_middle_of_a_write_leaves_the_old_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


DISK_OF_20_KB = """
import resource, signal, sys
from pathlib import Path
import torch
from spikeproof.training.checkpoint import write_tensors
from spikeproof.errors import SpikeproofError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
write_tensors(path, {"x": torch.zeros(1000)}, {"epoch": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_tensors(path, {"x": torch.ones(10_000)}, {"epoch": 2})
except SpikeproofError as error:
    print(error)
"""


def test_a_disk_that_refuses_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", DISK_OF_20_KB, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"expected to write {path}, got File too large; to mend: free some space" in done.stdout
    assert names_in(tmp_path) == ["a.safetensors"]
    tensors, header = read_tensors(path)
    assert header == {"epoch": 1}
    assert torch.equal(tensors["x"], torch.zeros(1000))


def test_a_file_where_a_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(SpikeproofError, match=r"to write .*taken"):
        write_bytes(tmp_path / "taken" / "a", b"x")
