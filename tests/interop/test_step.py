"""What step a function makes, of functions whose step is known because they were made with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikeproof.interop._step import Step, places, step_of

MEMBRANE = torch.linspace(-2.0, 2.0, 24).view(4, 6)


@given(
    level=st.floats(-3, 3).map(lambda v: round(v, 3)),
    strict=st.booleans(),
    low=st.sampled_from([0.0, -1.0]),
    high=st.sampled_from([1.0, 0.5, 3.0]),
    scale=st.sampled_from([1.0, 30.0]),
    where=st.integers(0, 2),
)
@settings(max_examples=40, deadline=None)
def test_a_step_is_found_whatever_it_is(
    level: float, strict: bool, low: float, high: float, scale: float, where: int
) -> None:
    """A constant threshold, and the membrane as any of three arguments; the others are an option and a bystander."""

    def function(*args: Any) -> Tensor:
        v = args[where]
        return torch.where(v > level if strict else v >= level, high, low)

    args: list[Any] = [7.25, torch.ones(4, 6)]
    args.insert(where, scale * MEMBRANE)
    step = step_of(function, tuple(args), [where])
    assert step is not None
    assert (step.membrane, step.source, step.low, step.high) == (where, None, low, high)
    assert step.threshold == pytest.approx(level, abs=2e-5)
    if step.threshold == float(torch.tensor(level)) or level == 0:
        assert step.strict == strict


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_a_threshold_may_be_another_argument(strict: bool, scaled: bool) -> None:
    """One a neuron; and then a spike may be as high as it."""
    level = torch.linspace(0.3, 1.2, 6)

    def function(v: Tensor, threshold: Tensor) -> Tensor:
        fires = v > threshold if strict else v >= threshold
        return fires.float() * (threshold if scaled else 1.0)

    step = step_of(function, (MEMBRANE, level), [0])
    assert step == Step(0, 0.0, 1, strict, 0.0, None if scaled else 1.0)
    assert torch.equal(step.height((MEMBRANE, level)), MEMBRANE - level)
    torch.testing.assert_close(step.spikes(MEMBRANE - level, (MEMBRANE, level)), function(MEMBRANE, level))


def test_an_argument_that_only_looks_like_the_threshold_is_none() -> None:
    """The width of a surrogate is 1, and so is the threshold."""

    def function(v: Tensor, width: float) -> Tensor:
        return (v >= 1.0).float()

    assert step_of(function, (MEMBRANE, 1.0), [0]) == Step(0, 1.0, None, False)
    assert step_of(lambda v, level: (v >= level).float(), (MEMBRANE, 1.0), [0]) == Step(0, 0.0, 1, False)


NONE = {
    "a line": lambda v: v,
    "a ramp": lambda v: v.clamp(0, 1),
    "three levels": lambda v: (v > 0).float() + (v > 1).float(),
    "falls": lambda v: (v < 0.5).float(),
    "a window": lambda v: (v.abs() < 0.5).float(),
    "of its neighbour": lambda v: (v.roll(1, -1) > 0.5).float(),
    "of the mean": lambda v: (v > v.mean()).float(),
    "with a memory": lambda v: (v.cumsum(-1) > 0.5).float(),
    "constant": torch.ones_like,
    "another shape": lambda v: (v.sum(-1) > 0.5).float(),
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_step_is_none(name: str) -> None:
    assert step_of(NONE[name], (MEMBRANE,), [0]) is None


def test_what_a_step_foretells_is_held_but_for_a_rounding() -> None:
    step = Step(0, 0.5, None, True)
    near = torch.tensor([0.5 + 1e-7, 0.2, 0.9])
    assert bool(step.fits((near,), torch.tensor([0.0, 0.0, 1.0])))
    assert bool(step.fits((near,), torch.tensor([0.0, 1e-6, 1.0 - 1e-6])))
    assert not bool(step.fits((near,), torch.tensor([0.0, 1.0, 1.0])))


def test_an_argument_is_counted_behind_the_context() -> None:
    def forward(ctx: Any, x: Tensor, *, alpha: float) -> None: ...

    assert places(forward, "x", after=1) == 0
    assert places(forward, "alpha", after=1) == 1
    assert places(forward, "ctx", after=1) is None
