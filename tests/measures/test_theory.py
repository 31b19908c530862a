"""First-order theory on functions that obey it, its known numbers, and bounds on weight gradients, which must hold."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import synapses
from small import adapted, digits, untouched
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.attacks.pgd import PGD
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.measures.theory import rho, support_bounds, support_rows, theory_rows
from spikeproof.metrics import theory as metric
from spikeproof.metrics.sparsity import l1, l2
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys, normal, signs
from spikeproof.threats.linf import Linf
from spikeproof.victims.batch import Batch

KEY = image_keys(0, torch.arange(1))


def gradient_like(kind: str, d: int) -> Tensor:
    """Gradients whose ratio is known: equal sizes give 3 d, one entry gives 3, Gaussian ones 3 d 2/pi in the mean."""
    if kind == "equal":
        return signs(KEY, (d,)).double()
    if kind == "one":
        return F.one_hot(torch.tensor([d // 2]), d).double()
    return normal(KEY, (d,)).double()


@pytest.mark.parametrize(("kind", "d"), [("equal", 25), ("one", 40), ("normal", 6), ("normal", 40)])
def test_the_ratio_of_a_linear_function_is_the_predicted_one(kind: str, d: int) -> None:
    """The mean of a squared sum of uniforms has a relative error of about 1.1 / sqrt(draws) or less."""
    g, draws, eps = gradient_like(kind, d), 4_000, 0.03
    x = torch.full_like(g, 0.5)
    worst = x + eps * g.sign()
    adv, rand = rho(lambda point: (point * g).sum(1), x, eps, [worst], KEY, draws)
    row = {"l1": l1(g).item(), "l2": l2(g).item(), "l0": int((g != 0).sum()), "rho_adv": adv.item(),
           "rho_rand": rand.item()}  # fmt: skip
    assert adv.item() == pytest.approx(eps**2 * row["l1"] ** 2)
    predicted, measured = metric.ratio_predicted(row), metric.ratio_measured(row)
    assert predicted is not None
    assert measured == pytest.approx(predicted, rel=6 / math.sqrt(draws))
    known = {"equal": 3.0 * d, "one": 3.0}.get(kind, predicted)
    assert predicted == pytest.approx(known)
    bound = metric.ratio_bound(row)
    assert bound is not None
    assert 3 - 1e-9 <= predicted <= bound + 1e-9


def test_the_largest_change_is_no_less_than_any_that_was_seen() -> None:
    """A step function whose gradient is 0: the noise alone finds the step."""
    x = torch.full((1, 2), 0.5)
    adv, rand = rho(lambda point: (point[:, 0] > 0.505).double(), x, 0.01, [x], KEY, 400)
    assert adv.item() == 1.0
    assert rand.item() == pytest.approx(0.25, abs=0.1)


class Linear(nn.Module):
    """Logits that are a linear function of the encoded input."""

    in_channels, classes = 1, 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * normal(KEY, (2, 64))[0])

    def classify(self, z: Tensor, rule: Any) -> Tensor:
        return z.mean(0).flatten(1) @ self.weight.T


def test_a_smooth_network_does_what_first_order_theory_says() -> None:
    from spikeproof.encoders.direct import Direct
    from spikeproof.victims.victim import Victim

    x, _, ids = digits(6)
    y = torch.tensor([0, 1] * 3)
    victim, rule = Victim(Linear(), Direct(), 2).eval(), ATan()
    found = theory_rows(
        victim, Batch.of(victim, x, y, ids, 0), rule=rule, threat=Linf(0.002), eps_text="0.002", attack=PGD(5),
        estimator=WhiteBox(rule), draws=400,
    )  # fmt: skip
    weight = victim.body.weight[0] - victim.body.weight[1]  # type: ignore[index]
    for row in found:
        assert row["l0"] == 64
        assert row["l1"] / row["l2"] == pytest.approx((weight.abs().sum() / weight.norm()).item(), rel=1e-4)
        assert row["rise"] == pytest.approx(metric.rise_predicted(row), rel=0.02)
        predicted = metric.ratio_predicted(row)
        assert metric.ratio_measured(row) == pytest.approx(predicted, rel=0.35)
    summary = metric.summarise(found)
    assert summary is not None
    assert summary["ratio"]["quotient"] == pytest.approx(1.0, rel=0.15)
    assert summary["rise"]["quotient"] == pytest.approx(1.0, rel=0.02)
    assert summary["ratio"]["undefined"] == 0


@pytest.mark.parametrize("encoder", ["direct", "phase", "poisson"])
def test_rows_of_a_spiking_network(encoder: str) -> None:
    victim, rule = adapted(encoder, steps=2), ATan()
    batch = Batch.of(victim, *digits(4), 0)
    options: dict[str, Any] = {
        "rule": rule, "threat": Linf("4/255"), "eps_text": "4/255", "attack": PGD(4), "estimator": WhiteBox(rule),
        "draws": 12,
    }  # fmt: skip
    with untouched(victim):
        found = theory_rows(victim, batch, **options)
    for row in found:
        assert row["rho_adv"] >= row["rho_rand"] >= 0
        assert row["rise"] >= 0
        assert row["l1"] ** 2 <= row["l0"] * row["l2"] ** 2 * (1 + 1e-4)
        assert row["eps_text"] == "4/255"
    alone = [theory_rows(victim, one, **options)[0] for one in batch.split(1)]
    for one, other in zip(found, alone, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-3, abs=1e-9)
            assert other[name] == same, name


# --- the support of a weight's gradient ---

entry = st.sampled_from([0.0, 0.0, 0.0, 1.0, -1.0, 0.5, 2.0])


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Conv2d, Tensor, Tensor]:
    """A convolution, its input and the gradient at its output, each full of zeros."""
    channels, outputs, kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride, padding, steps = draw(st.integers(1, 2)), draw(st.integers(0, 1)), draw(st.integers(1, 3))
    side = draw(st.integers(max(1, kernel - 2 * padding), 4))
    layer = nn.Conv2d(channels, outputs, kernel, stride, padding, bias=False, dtype=torch.float64)

    def tensor(shape: tuple[int, ...]) -> Tensor:
        size = math.prod(shape)
        return torch.tensor(draw(st.lists(entry, min_size=size, max_size=size)), dtype=torch.float64).view(shape)

    entered = tensor((steps, channels, side, side))
    delta = tensor(tuple(layer(entered).shape))
    return layer, entered, delta


def weight_gradient(layer: nn.Module, entered: Tensor, delta: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad((layer(entered) * delta).sum(), [layer.weight])  # type: ignore[list-item]
    return gradient


@given(convolutions())
@settings(max_examples=80)
def test_no_weight_has_a_gradient_outside_the_support(case: tuple[nn.Conv2d, Tensor, Tensor]) -> None:
    layer, entered, delta = case
    bounds = support_bounds(layer, entered, delta)
    met, count = synapses.support(
        entered.tolist(), delta.tolist(), (layer.out_channels, layer.in_channels, layer.kernel_size[0]),
        layer.stride[0], int(layer.padding[0]),
    )  # fmt: skip
    live = {tuple(index) for index in weight_gradient(layer, entered, delta).nonzero().tolist()}
    assert live <= met
    assert (bounds["support"], bounds["count"]) == (len(met), count)
    assert len(live) <= bounds["support"] <= min(bounds["product"], bounds["count"])
    rows = {o for _, o, *_ in delta.nonzero().tolist()}
    assert bounds["product"] <= len(rows) * layer.weight[0].numel()


@given(convolutions())
@settings(max_examples=40)
def test_the_support_is_reached_by_gradients_that_do_not_cancel(case: tuple[nn.Conv2d, Tensor, Tensor]) -> None:
    layer, entered, delta = (case[0], case[1].abs(), case[2].abs())
    live = int((weight_gradient(layer, entered, delta) != 0).sum())
    assert live == support_bounds(layer, entered, delta)["support"]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.data())
@settings(max_examples=40)
def test_the_bounds_of_a_linear_layer(steps: int, inputs: int, outputs: int, data: st.DataObject) -> None:
    def tensor(width: int) -> Tensor:
        size = steps * width
        return torch.tensor(data.draw(st.lists(entry, min_size=size, max_size=size))).view(steps, width)

    layer, entered, delta = nn.Linear(inputs, outputs), tensor(inputs), tensor(outputs)
    bounds = support_bounds(layer, entered, delta)
    met = [(t, o, c) for t in range(steps) for o in range(outputs) for c in range(inputs)
           if delta[t, o] != 0 and entered[t, c] != 0]  # fmt: skip
    assert bounds["count"] == len(met)
    assert bounds["support"] == len({(o, c) for _, o, c in met})
    rows, columns = int((delta != 0).any(0).sum()), int((entered != 0).any(0).sum())
    assert bounds["product"] == rows * columns
    gradient = weight_gradient(layer, entered, delta)
    assert int((gradient != 0).sum()) <= bounds["support"] <= min(bounds["product"], bounds["count"])
    # The rank is that of as many columns as there are steps with both an input and a delta.
    active = int(((delta != 0).any(1) & (entered != 0).any(1)).sum())
    assert int(torch.linalg.matrix_rank(gradient.double())) <= active


def test_the_product_counts_each_group_by_itself() -> None:
    layer = nn.Conv2d(2, 2, 1, groups=2, bias=False)
    entered, delta = torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1)
    entered[0, 0] = 1.0
    assert support_bounds(layer, entered, delta) == {"support": 1, "product": 1, "count": 1}


@pytest.mark.parametrize(("encoder", "pool"), [("direct", "max"), ("phase", "avg")])
def test_the_bounds_hold_on_a_trained_network(encoder: str, pool: str) -> None:
    victim = adapted(encoder, steps=2, pool=pool)
    with untouched(victim):
        found = list(support_rows(victim, Batch.of(victim, *digits(5), 0), rule=ATan()))
    names = [n for n, m in victim.body.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for row in found:
        assert list(row["layers"]) == names
        for layer in row["layers"].values():
            assert 0 <= layer["density"] <= layer["support"] <= min(layer["product"], layer["count"]) <= 1
            assert 0 <= layer["delta"] <= 1
    assert any(layer["support"] < 1 for row in found for layer in row["layers"].values())
    summary = metric.summarise(found)
    assert summary is not None
    assert summary["ratio"] is None
    assert list(summary["weights"]) == names


@pytest.mark.parametrize("through_reset", [False, True])
def test_a_place_whose_spikes_have_no_gradient_from_then_on_passes_none_to_its_current(through_reset: bool) -> None:
    """Lemma 3 of docs/theory.md, for every neuron that is its own place's alone."""
    from spikeproof import parts

    rule = ATan(through_reset=through_reset, fused=False)
    for name in parts.names("neurons"):
        neuron = parts.build("neurons", {"name": name})
        currents = (2 * normal(KEY, (5, 3, 7))[0]).double().requires_grad_()
        spikes = rule(neuron.double(), currents, "here")
        arriving = normal(KEY, tuple(spikes.shape))[0].double()
        arriving[2:, 1] = 0.0  # from step 2 on nothing arrives at place 1
        arriving[:, 2, 3] = 0.0  # and nothing ever at this one
        (g,) = torch.autograd.grad(spikes, currents, arriving)
        assert not g[2:, 1].any()
        assert not g[:, 2, 3].any()
        assert g[:2, 1].any()
