"""The small helpers of a script: weights, sparsity and the report in one call each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small import digits, trained, untouched
from torch import nn
from torch.nn import functional as F

import spikeproof
from spikeproof.errors import SpikeproofError
from spikeproof.metrics.sparsity import measures
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.tensors import exact, image_keys

X, Y, IDS = digits(6)


def test_sparsity_is_the_mean_of_the_measures_of_the_gradient() -> None:
    """Held against a backward pass written out here."""
    victim, rule = trained("direct"), Sigmoid()
    with untouched(victim):
        found = spikeproof.sparsity(victim, X, Y, rule=rule, ids=IDS)
    x = X.clone().requires_grad_()
    loss = F.cross_entropy(victim(x, rule, image_keys(0, IDS)), Y, reduction="sum")
    expected = measures(torch.autograd.grad(loss, x)[0])
    assert found["image"].keys() == expected.keys()
    for name, value in expected.items():
        assert found["image"][name] == pytest.approx(float(value.mean()), rel=1e-3, abs=1e-6)
    assert found["encoded"]["zero_share"] is not None


def test_a_measure_that_does_not_exist_is_none_and_said_so() -> None:
    class Flat(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.arange(10.0) + 0.0 * x.flatten(1)[:, :10]

    victim = spikeproof.wrap(Flat().eval(), X)
    sparse = spikeproof.sparsity(victim, X, Y)
    assert sparse["image"]["zero_share"] == 1.0
    assert sparse["image"]["gini"] is None
    own = trained("direct")
    text = spikeproof.report_of(spikeproof.evaluate(own, X, Y, tier="smoke", eps=0.05), sparse)
    assert text.startswith("tier smoke: ")
    assert "input gradient at the image: zero_share 1, " in text
    assert "gini undefined" in text


def test_a_network_that_can_only_be_asked_has_no_sparsity() -> None:
    body = trained("direct").body
    victim = spikeproof.wrap(lambda x: body.classify(x[None], exact), X)  # type: ignore[operator]
    with pytest.raises(SpikeproofError, match="a gradient, got one that can only be asked; to mend: wrap"):
        spikeproof.sparsity(victim, X, Y)


class Held(nn.Module):
    """A network whose own names begin as those of a wrapper do."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(3, 2)


@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 2), Held], ids=["plain", "names of its own"])
@pytest.mark.parametrize("words", ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_load_takes_the_words_of_wrappers_off_and_no_others(tmp_path: Path, make: Any, words: str) -> None:
    model = make()
    given = {name: torch.full_like(tensor, 3.0) for name, tensor in model.state_dict().items()}
    save_file({f"{words}{name}": tensor for name, tensor in given.items()}, tmp_path / "w.safetensors")
    spikeproof.load(model, tmp_path / "w.safetensors")
    assert all(torch.equal(tensor, given[name]) for name, tensor in model.state_dict().items())


def test_load_into_a_wrapper_itself(tmp_path: Path) -> None:
    """nn.DataParallel's own names have the word in front, and so has its file."""
    parallel = nn.DataParallel(nn.Linear(3, 2))
    save_file({"module.weight": torch.ones(2, 3), "module.bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    spikeproof.load(parallel, tmp_path / "w.safetensors")
    assert torch.equal(parallel.module.weight, torch.ones(2, 3))


def test_load_is_strict_and_returns_the_network(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    save_file({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    assert spikeproof.load(model, tmp_path / "w.safetensors") is model
    assert torch.equal(model.weight, torch.ones(2, 3))
    save_file({"weight": torch.ones(2, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(SpikeproofError, match="bias is missing"):
        spikeproof.load(model, str(tmp_path / "part.safetensors"))
