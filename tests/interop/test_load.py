"""`load` on files as trainings, servers and downloads leave them: the weights that are meant, or one plain refusal."""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import spikeproof
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.interop.load import factory, made, weighted


def network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))


def weights(seed: int = 0) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return {name: torch.rand(t.shape, generator=drawn) if t.is_floating_point() else t + 7
            for name, t in network().state_dict().items()}  # fmt: skip


def before(prefix: str, of: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in of.items()}


def same(model: nn.Module, of: dict[str, Tensor]) -> bool:
    found = model.state_dict()
    return found.keys() == of.keys() and all(torch.equal(found[name], of[name]) for name in of)


@given(words=st.lists(st.sampled_from(["module", "model", "_orig_mod", "net", "backbone"]), max_size=3))
def test_any_prefix_before_all_names_is_left_out(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    prefix = "".join(f"{word}." for word in words)
    path = tmp_path_factory.mktemp("load") / "a.pth"
    torch.save({"state_dict": before(prefix, weights()), "epoch": 3}, path)
    assert same(spikeproof.load(network(), path), weights())


def test_a_prefix_that_is_the_networks_own_stays(tmp_path: Path) -> None:
    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

    torch.save(before("model.", weights()), tmp_path / "a.pth")
    assert same(spikeproof.load(Holds(), tmp_path / "a.pth"), before("model.", weights()))
    save_file(before("module.model.", weights()), tmp_path / "b.safetensors")
    assert same(spikeproof.load(Holds(), tmp_path / "b.safetensors"), before("model.", weights()))


TWO: dict[str, Callable[[], Any]] = {
    "under two names": lambda: {"model": weights(1), "model_ema": weights(2)},
    "deeper": lambda: {"state": {"net": weights(1)}, "ema": {"shadow": weights(2)}, "epoch": 1},
    "under two prefixes": lambda: {**before("student.", weights(1)), **before("teacher.", weights(2))},
}


@pytest.mark.parametrize("case", TWO)
def test_of_two_sets_of_weights_none_is_taken_unless_it_is_named(case: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(TWO[case](), path)
    with pytest.raises(SpikeproofError, match=r"one set of weights.*2 that fit and differ") as refused:
        spikeproof.load(network(), path)
    name = refused.value.mend.rpartition(":")[2].strip("'")
    assert same(spikeproof.load(network(), f"{path}:{name}"), weights(2))
    with pytest.raises(SpikeproofError, match="weights under 'other'"):
        spikeproof.load(network(), f"{path}:other")


def test_two_sets_that_are_equal_are_one(tmp_path: Path) -> None:
    torch.save({"model": weights(), "model_ema": weights()}, tmp_path / "a.pth")
    assert same(spikeproof.load(network(), tmp_path / "a.pth"), weights())


def test_a_set_beside_others_that_do_not_fit_is_taken_and_said(tmp_path: Path) -> None:
    torch.save({"network": weights(), "optimizer": {"step": torch.ones(1)}, "best": 0.9}, tmp_path / "a.pth")
    assert "those under 'network'" in weighted(network(), tmp_path / "a.pth")


NO_CHECKPOINT: dict[str, tuple[bytes, str]] = {
    "a page": (b"\n<!DOCTYPE html><html><body>Sign in</body>", "a web page"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "pointer of Git LFS"),
    "nothing": (b"", "an empty file"),
    "a message": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML message"),
    "packed": (gzip.compress(b"weights"), "a gzip archive"),
    "JSON": (b'{"epoch": 3}', "JSON"),
    "text": (b"hello there, no weights here", "no file of torch|safetensors"),
}


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("case", NO_CHECKPOINT)
def test_what_is_no_checkpoint_is_called_what_it_is(case: str, name: str, tmp_path: Path) -> None:
    content, says = NO_CHECKPOINT[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpikeproofError, match=says) as refused:
        spikeproof.load(network(), tmp_path / name)
    assert "weights_only=False" not in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_an_object_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    torch.save({"model": weights(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "a.pth")
    with pytest.raises(SpikeproofError, match=r"argparse\.Namespace") as refused:
        spikeproof.load(network(), tmp_path / "a.pth")
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("said", ["v0.1 export", "[1, 2]", "{", "null"])
def test_metadata_of_others_are_ignored(said: str, tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "a.safetensors", metadata={"spikeproof": said, "format": "pt"})
    assert same(spikeproof.load(network(), tmp_path / "a.safetensors"), weights())


def test_safetensors_are_known_by_their_bytes_and_torch_too(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "a.bin")
    torch.save(weights(), tmp_path / "b.safetensors")
    for name in ("a.bin", "b.safetensors"):
        assert same(spikeproof.load(network(), tmp_path / name), weights())


VALUES: dict[str, tuple[Callable[[], nn.Module], Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "overflow": (network, lambda w: {**w, "1.bias": torch.tensor([1e39] * 6, dtype=torch.float64)}, "finite weights"),
    "half": (lambda: network().half(), lambda w: w, "digits of .* loses"),
    "to nothing": (lambda: network().half(), lambda w: {n: (t * 1e-9 if t.is_floating_point() else t)
                                                        for n, t in w.items()}, "digits of"),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES)
def test_values_that_the_network_cannot_hold_are_refused(case: str, tmp_path: Path) -> None:
    make, change, says = VALUES[case]
    torch.save(change(weights()), tmp_path / "a.pth")
    model = make()
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(SpikeproofError, match=says):
        spikeproof.load(model, tmp_path / "a.pth")
    assert same(model, kept)


def test_doubles_are_rounded_to_singles(tmp_path: Path) -> None:
    torch.save({name: t.double() / 3 if t.is_floating_point() else t for name, t in weights().items()},
               tmp_path / "a.pth")  # fmt: skip
    found = spikeproof.load(network(), tmp_path / "a.pth")
    torch.testing.assert_close(found[1].weight.detach(), weights()["1.weight"] / 3)


def test_a_folder_and_nothing_are_refused(tmp_path: Path) -> None:
    for path, says in ((tmp_path, "a folder"), (tmp_path / "none.pth", "no such file")):
        with pytest.raises(SpikeproofError, match=says):
            spikeproof.load(network(), path)
    with pytest.raises(SpikeproofError, match="the path of a file"):
        spikeproof.load(network(), weights())  # type: ignore[arg-type]


def test_a_module_that_exits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaves_when_imported.py").write_text("import sys\nsys.exit(2)\n")
    (tmp_path / "leaves_when_called.py").write_text("import sys\ndef make():\n    sys.exit('no')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"exits when it is imported, 2.*__main__"):
        factory("leaves_when_imported:make")
    with pytest.raises(SpikeproofError, match=r"an exit, 'no'.*no command line"):
        made(factory("leaves_when_called:make"), "leaves_when_called:make")
