"""Attack losses against plain Python, by hand, and under the changes they must not notice."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import losses as twin

from spikeproof import losses
from spikeproof.errors import SpikeproofError

PLAIN = ["cross_entropy", "margin", "dlr"]


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[float]], list[int], list[int]]:
    """Logits on a grid of eighths, so that ties are common, with labels and other classes as targets."""
    classes, images = draw(st.integers(4, 7)), draw(st.integers(1, 4))
    row = st.lists(st.integers(-24, 24), min_size=classes, max_size=classes)
    logits = [[value / 8 for value in draw(row)] for _ in range(images)]
    labels = [draw(st.integers(0, classes - 1)) for _ in range(images)]
    targets = [(label + draw(st.integers(1, classes - 1))) % classes for label in labels]
    return logits, labels, targets


@given(batches())
def test_losses_are_their_plain_twins(batch: tuple[list[list[float]], list[int], list[int]]) -> None:
    logits, labels, targets = batch
    z, y, t = torch.tensor(logits, dtype=torch.float64), torch.tensor(labels), torch.tensor(targets)
    for name in PLAIN:
        expected = [getattr(twin, name)(row, label) for row, label in zip(logits, labels, strict=True)]
        assert getattr(losses, name)(z, y).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    expected = [twin.dlr_targeted(row, *classes) for row, *classes in zip(logits, labels, targets, strict=True)]
    assert losses.dlr_targeted(z, y, t).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(batches())
def test_gradients_are_finite_at_ties_too(batch: tuple[list[list[float]], list[int], list[int]]) -> None:
    logits, labels, targets = batch
    z = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    y, t = torch.tensor(labels), torch.tensor(targets)
    for loss in [*(getattr(losses, name)(z, y) for name in PLAIN), losses.dlr_targeted(z, y, t)]:
        (gradient,) = torch.autograd.grad(loss.sum(), z)
        # Logits that differ do so by an eighth at least: an honest slope stays far below what a 1e-12 would make of it.
        assert gradient.abs().max() < 1e4


def test_known_values() -> None:
    z = torch.tensor([[2.0, 1.0, 0.5, -1.0]] * 2, dtype=torch.float64)
    y = torch.tensor([0, 1])
    assert losses.dlr(z, y).tolist() == pytest.approx([-2 / 3, 2 / 3], abs=1e-9)
    assert losses.dlr_targeted(z[:1], y[:1], torch.tensor([2])).item() == pytest.approx(-2 / 3, abs=1e-9)
    assert losses.margin(z, y).tolist() == [-1.0, 1.0]


def test_the_margin_of_negative_logits() -> None:
    """A mask by multiplication would see a 0 that is not there."""
    z = torch.tensor([[-5.0, -3.0, -9.0]])
    assert losses.margin(z, torch.tensor([0])).item() == 2.0
    assert losses.margin(z, torch.tensor([1])).item() == -2.0


@pytest.mark.parametrize("tied", [[1.0, 1.0, 1.0, 0.0], [3.0, 3.0, 3.0, 3.0], [0.0, 2.0, 2.0, 2.0]])
def test_dlr_at_a_tie_is_the_margin_with_its_gradient(tied: list[float]) -> None:
    z = torch.tensor([tied], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0])
    ratio, plain = losses.dlr(z, y), losses.margin(z, y)
    assert ratio.item() == plain.item()
    assert torch.equal(torch.autograd.grad(ratio.sum(), z)[0], torch.autograd.grad(plain.sum(), z)[0])


@pytest.mark.parametrize("name", PLAIN)
def test_a_shift_of_all_logits_changes_nothing_and_dlr_ignores_scale(name: str) -> None:
    z = torch.tensor([[0.5, -1.25, 3.0, 0.75]], dtype=torch.float64)
    y, loss = torch.tensor([1]), getattr(losses, name)
    assert loss(z + 7, y).item() == pytest.approx(loss(z, y).item(), rel=1e-9)
    assert (loss(100 * z, y).item() == pytest.approx(loss(z, y).item(), rel=1e-9)) == (name == "dlr")


@pytest.mark.parametrize("name", PLAIN)
def test_larger_is_more_adversarial(name: str) -> None:
    """Taking logit from the right class to the best wrong one never lowers the loss, and raises it in the end."""
    step = torch.tensor([-0.5, 0.5, 0.0, 0.0], dtype=torch.float64)
    z = torch.tensor([3.0, 1.0, 0.5, -1.0], dtype=torch.float64) + torch.arange(8.0)[:, None] * step
    rises = getattr(losses, name)(z, torch.zeros(8, dtype=torch.int64)).diff()
    assert (rises >= -1e-9).all()
    assert rises.sum() > 0.5


def test_cross_entropy_of_huge_logits_is_finite() -> None:
    z = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    assert losses.cross_entropy(z, torch.tensor([0, 0])).tolist() == [0.0, 1e4]


def test_too_few_classes_are_refused() -> None:
    y = torch.tensor([0])
    with pytest.raises(SpikeproofError, match="3 classes"):
        losses.dlr(torch.zeros(1, 2), y)
    with pytest.raises(SpikeproofError, match="4 classes"):
        losses.dlr_targeted(torch.zeros(1, 3), y, torch.tensor([1]))
