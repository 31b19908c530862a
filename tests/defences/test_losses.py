"""The loss of every defence against plain arithmetic, in float64: on a spiking, a linear, and a one-layer network."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from affine import images
from oracles import defences as twin
from oracles import neurons
from small import digits, trained
from subjects import linear
from torch import Tensor, nn

from spikeproof import parts
from spikeproof.attacks.fgsm import FGSM
from spikeproof.attacks.pgd import PGD
from spikeproof.defences.adversarial import Adversarial
from spikeproof.defences.gradient_penalty import GradientPenalty
from spikeproof.defences.mart import MART
from spikeproof.defences.mpd_sgr import MPDSGR, _overlap
from spikeproof.defences.mppd import MPPD
from spikeproof.defences.noise import Noise
from spikeproof.defences.sr import SR
from spikeproof.defences.tgo import TGO
from spikeproof.defences.trades import TRADES
from spikeproof.defences.vanilla import Vanilla
from spikeproof.encoders.direct import Direct
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import cross_entropy
from spikeproof.models._resnet import ResNet
from spikeproof.models._sew_block import SEWBlock
from spikeproof.neurons.dlif import DLIF
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.rules.atan import ATan
from spikeproof.rules.bptr import BPTR
from spikeproof.tensors import exact, image_keys, uniform
from spikeproof.threats.linf import Linf
from spikeproof.training.craft import crafter
from spikeproof.victims.victim import Victim

RULE = ATan()
X, Y, IDS = digits(8)
X = X.double()
KEYS = image_keys(0, IDS)


def never(*_: Any, **__: Any) -> Tensor:
    raise AssertionError("this defence does not attack")


def moved(victim: Victim) -> Tensor:
    """Another image of each, the same in every call."""
    return (X + 0.2 * (uniform(KEYS, X.shape[1:]).double() - 0.5)).clamp(0, 1)


def fixed(victim: Victim) -> Any:
    return lambda x, y, keys, **_: moved(victim)


def spiking() -> Victim:
    return trained().double()


def answers(victim: Victim, x: Tensor) -> list[list[float]]:
    with torch.no_grad():
        return victim(x, exact, KEYS).tolist()  # type: ignore[no-any-return]


def mean(values: Any) -> float:
    found = list(values)
    return math.fsum(found) / len(found)


def loss_of(defence: Any, victim: Victim, craft: Any = never, x: Tensor = X, y: Tensor = Y, rule: Any = RULE) -> Tensor:
    return defence(victim, x, y, rule, KEYS[: len(x)], craft)  # type: ignore[no-any-return]


def number(*given: Any, **named: Any) -> float:
    return float(loss_of(*given, **named).detach())


# --- on answers alone ---


def test_trades_mart_and_adversarial_are_their_formulas() -> None:
    victim = spiking()
    clean, away = answers(victim, X), answers(victim, moved(victim))
    pairs = list(zip(clean, away, Y.tolist(), strict=True))
    expected = {
        Vanilla(): mean(twin.cross_entropy(c, y) for c, _, y in pairs),
        Adversarial(): mean(twin.cross_entropy(a, y) for _, a, y in pairs),
        Adversarial(share=0.3): mean(
            0.3 * twin.cross_entropy(a, y) + 0.7 * twin.cross_entropy(c, y) for c, a, y in pairs
        ),
        TRADES(beta=4.0): mean(twin.cross_entropy(c, y) + 4 * twin.divergence(c, a) for c, a, y in pairs),
        MART(beta=3.0): mean(twin.mart(c, a, y, 3) for c, a, y in pairs),
    }
    for defence, value in expected.items():
        assert number(defence, victim, fixed(victim)) == pytest.approx(value, rel=1e-10), defence
    assert max(twin.divergence(c, a) for c, a, _ in pairs) > 0.01


@pytest.mark.parametrize("defence", [TRADES(beta=4.0), MART(beta=3.0)])
def test_both_answers_train(defence: Any) -> None:
    """The derivative by a weight behind the last spike is that of differences: there everything is smooth."""
    victim, step = spiking(), 1e-6
    craft, weight = fixed(victim), victim.body.fc.weight  # type: ignore[union-attr]
    (gradient,) = torch.autograd.grad(loss_of(defence, victim, craft), weight)
    at = divmod(int(gradient.abs().argmax()), gradient.shape[1])  # type: ignore[union-attr]
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[at] += sign * step  # type: ignore[index,operator]
        values.append(number(defence, victim, craft))
        with torch.no_grad():
            weight[at] -= sign * step  # type: ignore[index,operator]
    assert float(gradient[at]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_trades_raises_the_divergence_to_the_end_of_the_budget() -> None:
    """From the clean image itself the divergence has no slope, and a single step would go nowhere.

    Of two logits (0, s) the divergence from the clean answer grows with the distance of s from the clean s, so a signed
    step of size e along the weights w, whichever way the start lies, moves s by e |w|_1: 0.99 of the budget, less at
    most 0.01 of it for a start on the way back.
    """
    victim, x, eps = linear(), images(8, inside=True), 0.1
    weights = victim.body.w
    seen: list[Tensor] = []
    craft = crafter(victim, FGSM(), Linf(eps), WhiteBox(RULE), cross_entropy)

    def watched(*given: Any, **named: Any) -> Tensor:
        seen.append(craft(*given, **named))
        return seen[-1]

    loss_of(TRADES(), victim, watched, x=x, y=torch.zeros(8, dtype=torch.int64))
    (found,) = seen
    assert (found - x).abs().max() <= eps + 1e-9
    moved_by = ((found - x).flatten(1) @ weights).abs() / weights.abs().sum()
    assert float(moved_by.min()) >= 0.98 * eps - 1e-9


# --- random budgets ---


def test_random_budgets_are_each_image_s_own() -> None:
    victim, (x, y, ids) = trained(), digits(64)
    keys, made = image_keys(1, ids), []
    craft = crafter(victim, FGSM(), Linf(0.08), WhiteBox(RULE), cross_entropy)

    def watched(x: Tensor, *given: Any, **named: Any) -> Tensor:
        made.append((x, craft(x, *given, **named)))
        return made[-1][1]

    def distances(keys: Tensor) -> dict[bytes, float]:
        made.clear()
        Adversarial(eps="random")(victim, x, y, RULE, keys, watched)
        return {
            a.numpy().tobytes(): round(float(d), 5)
            for before, after in made
            for a, d in zip(before, Linf(1.0).distance(after, before), strict=True)
        }

    found = distances(keys)
    assert len(found) == 64
    assert set(found.values()) == {0.02, 0.04, 0.06, 0.08}
    assert found == distances(keys)
    assert found != distances(image_keys(2, ids))


# --- penalties on the input gradient ---


def grey(count: int = 4) -> Tensor:
    """Away from 0 and 1, so that no step is clipped."""
    return 0.5 + 0.3 * (uniform(KEYS[:count], (1, 4, 4)).double() - 0.5)


W = torch.tensor([0.7, -1.2, 0.0, 2.0] * 4, dtype=torch.float64)
LINEAR_Y = torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize("form", ["finite_difference", "double_backprop"])
@pytest.mark.parametrize("norm", ["l1", "l2", "l1_squared", "l2_squared"])
def test_the_margin_of_a_linear_network_has_the_norm_of_its_weights(form: Any, norm: Any) -> None:
    victim, x = linear(W, 0.1), grey()
    size = float(W.abs().sum()) if norm.startswith("l1") else float(W.norm())
    expected = size**2 if norm.endswith("squared") else size
    how = {"scalar": "margin", "norm": norm, "form": form}
    plain = number(Vanilla(), victim, x=x, y=LINEAR_Y)
    found = number(GradientPenalty(weight=0.5, **how), victim, x=x, y=LINEAR_Y)
    assert found == pytest.approx(plain + 0.5 * expected, rel=1e-9)


SCALARS = {
    "ce": lambda z, y, j: twin.cross_entropy(z, y),
    "probability": lambda z, y, j: twin.softmax(z)[y],
    "margin": lambda z, y, j: z[y] - z[j],
    "pair": lambda z, y, j: twin.sigmoid(z[y] - z[j]),
}


@pytest.mark.parametrize("scalar", SCALARS)
@pytest.mark.parametrize("norm", ["l1", "l2_squared"])
def test_a_finite_difference_is_that_of_the_scalar_along_its_gradient(scalar: Any, norm: Any) -> None:
    """The direction from autograd, everything else by hand; the rival is the runner-up at the image in both."""
    victim, h = spiking(), 0.02
    z = victim(x := X.clone().requires_grad_(), RULE, KEYS)
    rivals = [twin.runner_up(row, y) for row, y in zip(z.tolist(), Y.tolist(), strict=True)]
    own, other = z.gather(1, Y[:, None])[:, 0], z.gather(1, torch.tensor(rivals)[:, None])[:, 0]
    value = {"ce": z.logsumexp(1) - own, "probability": z.softmax(1).gather(1, Y[:, None])[:, 0],
             "margin": own - other, "pair": torch.sigmoid(own - other)}[scalar]  # fmt: skip
    (g,) = torch.autograd.grad(value.sum(), x)
    root = 1.0 if norm == "l1" else 8.0  # the square root of 64 pixels
    length = g.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    there = answers(victim, (X + h * (g.sign() if norm == "l1" else root * g / length)).clamp(0, 1))
    slopes = [
        (SCALARS[scalar](b, y, j) - SCALARS[scalar](a, y, j)) / (h * root)
        for a, b, y, j in zip(z.tolist(), there, Y.tolist(), rivals, strict=True)
    ]
    penalty = mean(abs(s) if norm == "l1" else s * s for s in slopes)
    assert penalty > 1e-4
    plain = number(Vanilla(), victim)
    found = number(GradientPenalty(weight=2.0, scalar=scalar, norm=norm, h=h), victim)
    assert found == pytest.approx(plain + 2 * penalty, rel=1e-8)


def test_sr_is_the_member_of_its_name() -> None:
    victim = spiking()
    member = GradientPenalty(weight=0.3, scalar="pair", norm="l1_squared", form="finite_difference", h=0.05)
    assert torch.equal(loss_of(SR(weight=0.3, h=0.05), victim), loss_of(member, victim))


@pytest.mark.parametrize("norm", ["l1", "l2", "l2_squared"])
@pytest.mark.parametrize("scalar", SCALARS)
def test_double_backprop_is_the_norm_and_its_gradient_that_of_differences(scalar: Any, norm: Any) -> None:
    """By a weight behind the last spike, where the surrogate's slopes do not move and the penalty is smooth."""
    victim, rule = spiking(), ATan(fused=False)
    defence = GradientPenalty(weight=1.0, scalar=scalar, norm=norm, form="double_backprop")
    weight, step = victim.body.fc.weight, 1e-6  # type: ignore[union-attr]

    def value() -> Tensor:
        return loss_of(defence, victim, rule=rule) - loss_of(Vanilla(), victim, rule=rule)

    (gradient,) = torch.autograd.grad(value(), weight)
    at = divmod(int(gradient.abs().argmax()), gradient.shape[1])  # type: ignore[union-attr]
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[at] += sign * step  # type: ignore[index,operator]
        values.append(float(value().detach()))
        with torch.no_grad():
            weight[at] -= sign * step  # type: ignore[index,operator]
    assert float(gradient[at]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)


def test_double_backprop_with_a_fused_rule_is_refused_with_the_mend() -> None:
    with pytest.raises(SpikeproofError, match=r"second derivative.*fused=False"):
        loss_of(GradientPenalty(form="double_backprop"), spiking())


def test_a_flat_network_has_no_penalty_and_no_nan() -> None:
    victim, x = linear(torch.zeros(16)), grey()
    victim.body.w = victim.body.w.requires_grad_()  # type: ignore[union-attr,operator]
    for form in ("finite_difference", "double_backprop"):
        for norm in ("l1", "l2"):
            loss = loss_of(GradientPenalty(weight=1.0, norm=norm, form=form), victim, x=x, y=LINEAR_Y)
            (gradient,) = torch.autograd.grad(loss, victim.body.w)  # type: ignore[arg-type]
            assert torch.isfinite(gradient).all()
            assert float(loss.detach()) == pytest.approx(number(Vanilla(), victim, x=x, y=LINEAR_Y))


# --- penalties on membranes ---


class OneLayer(nn.Module):
    """A spiking layer alone: pixels times `scale` in, the rates of the first ten neurons out."""

    in_channels, classes = 1, 10

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron, self.scale = neuron, nn.Parameter(torch.tensor(0.9, dtype=torch.float64))

    def classify(self, z: Tensor, rule: Any) -> Tensor:
        return rule(self.neuron, self.scale * z.flatten(2), "sn").mean(0)[:, :10]  # type: ignore[no-any-return]


T = 4


def one_layer(neuron: nn.Module | None = None) -> Victim:
    return Victim(OneLayer(LIF(tau=2.0) if neuron is None else neuron).double(), Direct(), T).eval()


def heights(x: Tensor, scale: float = 0.9) -> list[list[list[float]]]:
    """Per image and neuron the heights at each step, by the scalar loop."""
    physics = neurons.Physics(tau=2.0)
    return [
        [[u - 1 for u in neurons.forward(physics, [scale * p] * T).charged] for p in image]
        for image in x.flatten(1).tolist()
    ]


def guarded(x: Tensor, delta: float, scale: float = 0.9) -> float:
    return twin.guarded([h for image in heights(x, scale) for unit in image for h in unit], delta)


def overlap(x: Tensor, gamma: float, scale: float = 0.9) -> float:
    """Every neuron of a layer without maps is a channel; mean and spread are over the images."""
    found, omegas = heights(x, scale), []
    for unit in range(64):
        for t in range(T):
            column = [image[unit][t] for image in found]
            middle = mean(column)
            spread = math.sqrt(mean((c - middle) ** 2 for c in column))
            omegas.append(twin.gaussian_overlap(middle, max(spread, 1e-3), gamma))
    return mean(omegas)


def test_tgo_is_its_formula_on_the_membranes_of_the_scalar_loop() -> None:
    victim = one_layer()
    plain = number(Vanilla(), victim)
    found = number(TGO(weight=0.7, delta=0.6), victim)
    assert found == pytest.approx(plain + 0.7 * guarded(X, 0.6), rel=1e-12)
    assert guarded(X, 0.6) > 0.01


def test_mpd_sgr_is_its_formula_on_the_membranes_of_the_scalar_loop() -> None:
    victim = one_layer()
    plain = number(Vanilla(), victim)
    found = number(MPDSGR(weight=0.7, gamma=0.5), victim)
    assert found == pytest.approx(plain + 0.7 * overlap(X, 0.5), rel=1e-9)
    assert 0.01 < overlap(X, 0.5) < 0.99


@pytest.mark.parametrize(("defence", "by_hand"), [(TGO(weight=1.0, delta=0.6), guarded), (MPDSGR(gamma=0.5), overlap)])
def test_the_gradient_of_a_membrane_penalty_is_that_of_differences(defence: Any, by_hand: Any) -> None:
    """Between two spikes' flips the membranes are smooth in the scale of the currents."""
    victim, step = one_layer(), 1e-7
    width = defence.delta if isinstance(defence, TGO) else defence.gamma
    loss = loss_of(replace(defence, weight=1.0), victim) - loss_of(Vanilla(), victim)
    (gradient,) = torch.autograd.grad(loss, victim.body.scale)  # type: ignore[arg-type]
    slope = (by_hand(X, width, 0.9 + step) - by_hand(X, width, 0.9 - step)) / (2 * step)
    assert float(gradient) == pytest.approx(slope, rel=1e-4)
    assert abs(slope) > 1e-3


@pytest.mark.parametrize(
    ("middle", "spread", "mass"),
    [(0, 1, 0.6827), (0, 0.5, 0.9545), (0, 2, 0.3829), (1, 1, 0.4772), (-1, 1, 0.4772), (-2, 1, 0.1573)],
)
def test_known_overlaps(middle: float, spread: float, mass: float) -> None:
    """Two images at one spread on either side of the mean have exactly that mean and that spread."""
    found = _overlap(torch.tensor([[[middle - spread], [middle + spread]]], dtype=torch.float64), 1.0)
    assert float(found) == pytest.approx(mass, abs=5e-5)
    assert twin.gaussian_overlap(middle, spread, 1.0) == pytest.approx(mass, abs=5e-5)


def test_channels_of_a_map_share_their_positions() -> None:
    maps = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat = maps.movedim(2, -1).flatten(1, 3)  # (T, B H W, C)
    torch.testing.assert_close(_overlap(maps, 0.7), _overlap(flat, 0.7), rtol=1e-12, atol=0)


def test_membranes_that_do_not_move_have_no_nan() -> None:
    """A dead channel has a spread of 0."""
    flat = torch.full((2, 3, 4), -0.5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(_overlap(flat, 1.0), flat)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["tgo", "mpd_sgr"])
def test_a_rule_that_hides_the_membranes_is_refused(name: str) -> None:
    with pytest.raises(SpikeproofError, match=r"membranes in the graph.*BPTR.*atan"):
        loss_of(parts.build("defences", {"name": name}), spiking(), rule=BPTR())


# --- MPPD ---


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("neuron", ["dlif", "lif", "if"])
def test_mppd_is_a_leaky_filter_of_the_difference_of_currents(neuron: str, power: Any) -> None:
    """Of the currents as they come: DLIF's weights, which are not 1 here, have no part in it."""
    dlif = DLIF(leak=0.8, steps=T)
    with torch.no_grad():
        dlif.pace.copy_(torch.tensor(PACE))
    part = {"dlif": dlif, "lif": LIF(tau=4.0, v_reset=-0.5), "if": IF()}[neuron]
    leak, weights = {"dlif": (0.8, [1.0] * T), "lif": (0.75, [0.25] * T), "if": (1.0, [1.0] * T)}[neuron]
    victim = one_layer(part)
    away = moved(victim)
    difference = (0.9 * (away - X)).flatten().tolist()
    size = mean(abs(e) ** power for d in difference for e in twin.leaky_filter([d] * T, leak, weights))
    halves = mean(
        (twin.cross_entropy(c, y) + twin.cross_entropy(a, y)) / 2
        for c, a, y in zip(answers(victim, X), answers(victim, away), Y.tolist(), strict=True)
    )
    found = number(MPPD(weight=3.0, power=power), victim, fixed(victim))
    assert found == pytest.approx(halves + 3 * size, rel=1e-6)
    assert size > 1e-4


@pytest.mark.parametrize("bottleneck", [False, True])
def test_mppd_looks_at_the_deepest_layer_of_a_block_with_a_projection(bottleneck: bool) -> None:
    """Not at its shortcut's, which has other currents; and the released loss, not the membrane's, at weights off 1."""
    victim = paced_blocks(bottleneck)
    away, site = moved(victim), "layer1.0.sn3" if bottleneck else "layer2.0.sn2"
    assert isinstance(victim.body.get_submodule(f"{site[:8]}.downsample_sn"), DLIF)  # type: ignore[union-attr]
    clean, attacked = currents_at(victim, X, site), currents_at(victim, away, site)
    columns = (attacked - clean).flatten(1).T.tolist()
    size = mean(e * e for column in columns for e in twin.leaky_filter(column, 0.8, [1.0] * T))
    weighted = mean(e * e for column in columns for e in twin.leaky_filter(column, 0.8, PACE))
    assert abs(weighted - size) > 1e-3 * size > 1e-6
    plain = number(MPPD(weight=0.0), victim, fixed(victim))
    assert number(MPPD(weight=3.0), victim, fixed(victim)) == pytest.approx(plain + 3 * size, rel=1e-6)


PACE = [1.0, 1.5, 0.7, 1.1]


def paced_blocks(bottleneck: bool) -> Victim:
    """A SEW network of DLIF neurons of these weights, whose last block has a projection."""
    kind: Any = partial(SEWBlock, connect="ADD", bottleneck=bottleneck)
    stages = (1,) if bottleneck else (1, 1)
    make = {"neuron": lambda: DLIF(leak=0.8, steps=T), "pool": "max", "stem": "cifar", "width": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = ResNet(kind, stages, in_channels=1, classes=10, **make)  # type: ignore[arg-type]
    with torch.no_grad():
        for neuron in (m for m in body.modules() if isinstance(m, DLIF)):
            neuron.pace.copy_(torch.tensor(PACE))
    return Victim(body.double(), Direct(), T).eval()


def currents_at(victim: Victim, x: Tensor, site: str) -> Tensor:
    """(T,B,*) of the layer of that name."""
    found: dict[str, Tensor] = {}

    def rule(neuron: Any, currents: Tensor, name: str) -> Tensor:
        found[name] = currents
        return exact(neuron, currents, name)

    with torch.no_grad():
        victim(x, rule, KEYS)
    return found[site]


def test_mppd_trains_through_the_attacked_currents_alone() -> None:
    """e is linear in the scale of the currents, but the clean ones are constants: 2 mean e x', both filtered."""
    victim = one_layer(IF())
    away = moved(victim)
    loss = loss_of(MPPD(weight=1.0), victim, fixed(victim)) - loss_of(MPPD(weight=0.0), victim, fixed(victim))
    (gradient,) = torch.autograd.grad(loss, victim.body.scale)  # type: ignore[arg-type]
    steps = torch.arange(1, T + 1).double()
    expected = (2 * 0.9 * (away - X)[..., None] * away[..., None] * steps.square()).mean()
    torch.testing.assert_close(gradient, expected)


# --- noise, and what stands on what ---


def test_noise_is_keyed_and_in_range() -> None:
    class Seeing:
        def __init__(self) -> None:
            self.seen: list[Tensor] = []

        def __call__(self, x: Tensor, rule: Any, keys: Tensor) -> Tensor:
            self.seen.append(x)
            return torch.zeros(len(x), 10)

    victim, (x, y, ids) = Seeing(), digits(64)
    for keys in (image_keys(0, ids), image_keys(0, ids), image_keys(1, ids)):
        Noise(sigma=0.1)(victim, x, y, RULE, keys, never)  # type: ignore[arg-type]
    one, again, other = victim.seen
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.min() >= 0
    assert one.max() <= 1
    inside = (x > 0.4) & (x < 0.6)
    assert float((one - x)[inside].std()) == pytest.approx(0.1, rel=0.1)


ADDED = ["sr", "gradient_penalty", "tgo", "mpd_sgr", "rat", "dsd"]


@pytest.mark.parametrize("name", ADDED)
def test_on_adversarial_training_a_defence_looks_at_the_attacked_images(name: str) -> None:
    victim = spiking()
    on = parts.build("defences", {"name": name, "base": {"name": "adversarial"}})
    alone = parts.build("defences", {"name": name})
    assert torch.equal(loss_of(on, victim, fixed(victim)), loss_of(alone, victim, x=moved(victim)))


def test_penalties_add_up() -> None:
    victim = spiking()
    plain = loss_of(Vanilla(), victim)
    both = loss_of(TGO(base=SR(weight=0.2)), victim) - loss_of(SR(weight=0.2), victim)
    alone = loss_of(TGO(), victim) - plain
    assert both > 0
    # SR's second forward has membranes of its own, so that the sum is of two forwards' mean.
    assert float(both.detach()) == pytest.approx(float(alone.detach()), rel=0.2)
    nested = loss_of(SR(weight=0.2, base=GradientPenalty(weight=0.0)), victim)
    assert torch.isfinite(nested)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "adversarial", "share": 0.0},
        {"name": "adversarial", "eps": "some"},
        {"name": "adversarial", "levels": 0},
        {"name": "adversarial", "base": {"name": "vanilla"}},
        {"name": "trades", "beta": -1.0},
        {"name": "trades", "beta": float("nan")},
        {"name": "mart", "beta": float("inf")},
        {"name": "sr", "weight": -1.0},
        {"name": "sr", "h": 0.0},
        {"name": "sr", "base": {"name": "nowhere"}},
        {"name": "sr", "base": {"name": "trades", "beta": "much"}},
        {"name": "sr", "base": "adversarial"},
        {"name": "gradient_penalty", "scalar": "loss"},
        {"name": "gradient_penalty", "norm": "l0"},
        {"name": "gradient_penalty", "form": "guess"},
        {"name": "gradient_penalty", "weight": float("nan")},
        {"name": "gradient_penalty", "h": 1.0},
        {"name": "tgo", "delta": 0.0},
        {"name": "tgo", "weight": -0.1},
        {"name": "mpd_sgr", "gamma": 0.0},
        {"name": "mpd_sgr", "weight": float("inf")},
        {"name": "mppd", "power": 3},
        {"name": "mppd", "weight": -1.0},
        {"name": "rat", "strength": -1.0},
        {"name": "dsd", "share": 1.1},
        {"name": "noise", "sigma": -0.1},
    ],
    ids=str,
)
def test_a_knob_out_of_range_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^expected .*, got "):
        parts.build("defences", spec)


def test_pgd_s_images_train_too() -> None:
    """Through the real crafter: the training attack with several steps."""
    victim = spiking()
    craft = crafter(victim, PGD(steps=2), Linf(0.1), WhiteBox(RULE), cross_entropy)
    assert loss_of(Adversarial(), victim, craft) > loss_of(Vanilla(), victim)
