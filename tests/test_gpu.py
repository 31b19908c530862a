"""The whole way on a GPU, where there is one: the same numbers as on the CPU up to rounding, the same bytes twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tinycell import numbers, tiny
from tinypanel import panelled

import spikeproof
from spikeproof import native, parts
from spikeproof.encoders.phase import Phase
from spikeproof.models.small_sew_resnet import SmallSEWResNet
from spikeproof.neurons.if_ import IF
from spikeproof.rules.atan import ATan
from spikeproof.store.store import Store
from spikeproof.study.config import cell_from
from spikeproof.study.run import Machine, run_cell
from spikeproof.tensors import exact, image_keys, uniform
from spikeproof.victims.frozen import FrozenVictim, freeze
from spikeproof.victims.victim import Victim

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

GPU = Machine("cuda", progress=False)


@pytest.fixture(autouse=True)
def _full_precision() -> None:
    GPU.settle()


def _victim() -> Victim:
    torch.manual_seed(0)
    victim = Victim(SmallSEWResNet(in_channels=3, classes=10, neuron=IF, width=8), Phase(gradient="straight"), 10)
    for _ in range(5):
        victim(_images(64), exact, image_keys(0, torch.arange(64)))
    return victim.eval()


def _images(count: int) -> torch.Tensor:
    return torch.round(255 * uniform(image_keys(1, torch.arange(count)), (3, 16, 16))) / 255


def test_the_scan_in_triton_is_taken() -> None:
    assert native.usable(torch.zeros(1, device="cuda")) == native.fast()


@pytest.mark.parametrize("twin", [False, True])
def test_logits_and_gradients_are_those_of_the_cpu(twin: bool) -> None:
    """But for images on which a membrane sits on its threshold: few."""
    x, keys, found = _images(64), image_keys(0, torch.arange(64)), []
    for device in ("cpu", "cuda"):
        victim = _victim().to(device)
        point = x.to(device).requires_grad_()
        one = freeze(victim) if twin else victim
        assert isinstance(one, FrozenVictim) == (twin and native.fast())
        logits = one(point, ATan(), keys.to(device))
        (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), point)
        found.append((logits.detach().cpu(), gradient.cpu().flatten(1)))
    (logits, gradient), (other_logits, other) = found
    close = (gradient - other).norm(dim=1) < 1e-3 * gradient.norm(dim=1)
    same = ((logits - other_logits).abs() < 1e-4).all(1) & close
    assert float(same.float().mean()) > 0.9


def test_draws_are_those_of_the_cpu() -> None:
    keys = image_keys(3, torch.arange(100))
    assert torch.equal(uniform(keys.cuda(), (5, 7)).cpu(), uniform(keys, (5, 7)))


def test_a_panel_is_that_of_the_cpu() -> None:
    """But for a membrane on its threshold here and there."""
    found = []
    for device in ("cpu", "cuda"):
        victim, x, keys = _victim().to(device), _images(32).to(device), image_keys(0, torch.arange(32)).to(device)
        y = victim(x, exact, keys).argmax(1)
        found.append(spikeproof.evaluate(victim, x, y, tier="smoke", eps=32 / 255))
    here, there = found
    assert here.verdict.word == there.verdict.word
    assert here.clean.correct == there.clean.correct == 32
    assert abs(here.robust.correct - there.robust.correct) <= 2


def test_a_cell_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_cell(cell_from(panelled()), Store(tmp_path / name), GPU)
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")


@pytest.mark.parametrize("name", sorted(parts.names("defences")))
def test_every_defence_trains(name: str, tmp_path: Path) -> None:
    run_cell(cell_from(tiny(defence={"name": name})), Store(tmp_path), GPU)
