"""Gradient rows against a network written out by hand, finite differences, and brute force over padding."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from oracles import conv_taps
from oracles.sparsity import MEASURES
from small import adapted, built, digits, trained, untouched
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.encoders.direct import Direct
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.measures.gradients import SCALARS, gradient_rows, weight_rows
from spikeproof.rows import BatchNorm
from spikeproof.rules.atan import ATan
from spikeproof.tensors import fold, image_keys, normal
from spikeproof.types import Neuron, Rule
from spikeproof.victims.batch import Batch
from spikeproof.victims.taps import live_taps
from spikeproof.victims.victim import Victim

X, Y, IDS = digits(2)
RULE = ATan()
Place = tuple[str, str]


def double(encoder: str = "direct", **options: Any) -> Victim:
    return adapted(encoder, steps=2, **options).double()


def rows_of(victim: Victim, **options: Any) -> list[dict[str, Any]]:
    x = X.to(next(victim.parameters()).dtype)
    return list(gradient_rows(victim, Batch.of(victim, x, Y, IDS, 0), rule=options.pop("rule", RULE), **options))


def matches(described: dict[str, Any], g: Tensor) -> None:
    """Every measure of a row against its definition; the scale-free ones of an all-zero gradient are None."""
    values = g.flatten().tolist()
    assert set(described) == set(MEASURES)
    for name, measure in MEASURES.items():
        if described[name] is None:
            assert not any(values)
            assert name in ("l1_ratio", "hoyer", "gini", "participation")
        else:
            assert described[name] == pytest.approx(measure(values), rel=2e-5, abs=1e-12), name


def describes(row: dict[str, Any], g: Tensor) -> None:
    """A row against the gradient of its image: (*) where it has no steps, else (T,*)."""
    if "steps" not in row:
        matches(row["summed"], g)
        assert row["size"] == g.numel()
        return
    matches(row["summed"], g.sum(0))
    assert row["size"] == g[0].numel()
    for t, step in enumerate(g):
        matches({name: values[t] for name, values in row["steps"].items()}, step)


def by_hand(victim: Victim, x: Tensor, *, train: bool = False) -> tuple[Tensor, dict[Place, Tensor]]:
    """The small network without its modules: logits, and every layer's own input and output, as copies in the graph."""
    body: Any = victim.body
    places: dict[Place, Tensor] = {}

    def note(site: str, side: str, value: Tensor) -> Tensor:
        places[site, side] = value.clone()  # a copy, so that its gradient is that of this layer alone
        return places[site, side]

    def layer(site: str, value: Tensor, apply: Any) -> Tensor:
        return note(site, "output", apply(note(site, "input", value)))

    def conv(site: str, value: Tensor, stride: int, padding: int) -> Tensor:
        weight = body.get_submodule(site).weight
        return layer(site, value, lambda v: F.conv2d(v, weight, stride=stride, padding=padding))

    def norm(site: str, value: Tensor) -> Tensor:
        m = body.get_submodule(site)
        mean, variance = m.running_mean.clone(), m.running_var.clone()
        return layer(site, value, lambda v: F.batch_norm(v, mean, variance, m.weight, m.bias, training=train))

    def spike(site: str, value: Tensor) -> Tensor:
        def fire(current: Tensor) -> Tensor:
            currents = current.view(victim.steps, -1, *current.shape[1:])
            return RULE(body.get_submodule(site), currents, site).flatten(0, 1)

        return layer(site, value, fire)

    def block(site: str, value: Tensor, stride: int) -> Tensor:
        branch = spike(f"{site}.sn1", norm(f"{site}.bn1", conv(f"{site}.conv1", value, stride, 1)))
        deepest = norm(f"{site}.bn2", conv(f"{site}.conv2", branch, 1, 1))
        if stride != 1:
            value = norm(f"{site}.downsample.1", conv(f"{site}.downsample.0", value, stride, 0))
            value = spike(f"{site}.downsample_sn", value)
        return value + spike(f"{site}.sn2", deepest)

    z = note("encoded", "input", victim.encoder(note("image", "input", x), victim.steps, key_of(IDS[: len(x)])))
    flat = spike("sn1", norm("bn1", conv("conv1", z.flatten(0, 1), 1, 1)))
    pool = F.max_pool2d if isinstance(body.maxpool, nn.MaxPool2d) else F.avg_pool2d
    flat = layer("maxpool", flat, lambda v: pool(v, 3, 2, 1))
    flat = block("layer2.0", block("layer1.0", flat, 1), 2)
    flat = layer("avgpool", flat, lambda v: v.mean((2, 3), keepdim=True)).flatten(1)
    flat = layer("fc", flat, lambda v: F.linear(v, body.fc.weight, body.fc.bias))
    return flat.view(victim.steps, len(x), -1).mean(0), places


def key_of(ids: Tensor) -> Tensor:
    return fold(image_keys(0, ids), "measure")


def scalar(name: str, logits: Tensor, y: Tensor) -> Tensor:
    """From the definitions, one image after another."""
    values = []
    for z, label in zip(logits, y.tolist(), strict=True):
        others = torch.cat([z[:label], z[label + 1 :]])
        likely = z[label].exp() / z.exp().sum()
        values.append({"ce": -likely.log(), "probability": likely, "margin": z[label] - others.max()}[name])
    return torch.stack(values)


CASES = [
    ("direct", "max", "eval"), ("direct", "avg", "eval"), ("direct", "max", "train"), ("phase", "max", "eval"),
    ("poisson", "avg", "eval"),
]  # fmt: skip


@pytest.mark.parametrize(("encoder", "pool", "mode"), CASES)
def test_every_layers_gradient_is_that_of_a_computation_by_hand(encoder: str, pool: str, mode: Any) -> None:
    victim = double(encoder, pool=pool)
    rows = rows_of(victim, scalars=("ce",), batchnorm=mode)
    logits, places = by_hand(victim, X.double().requires_grad_(), train=mode == "train")
    found = torch.autograd.grad(scalar("ce", logits, Y).sum(), list(places.values()))
    gradients = dict(zip(places, found, strict=True))
    assert [(r["site"], r["side"]) for r in rows[::2]] == list(places)
    assert {(r["scalar"], r["batchnorm"]) for r in rows} == {("ce", mode)}
    for number, row in enumerate(rows):
        image = number % 2
        assert (row["image"], row["label"], row["order"]) == (int(IDS[image]), int(Y[image]), number // 2)
        g = gradients[row["site"], row["side"]]
        if row["site"] not in ("image", "encoded"):
            g = g.reshape(victim.steps, 2, -1)
        assert ("steps" in row) == (row["site"] != "image")
        describes(row, g[image] if row["site"] == "image" else g[:, image])


@pytest.mark.parametrize("encoder", ["direct", "phase", "poisson", "latency"])
def test_image_and_encoded_input_equal_autograd_for_every_scalar(encoder: str) -> None:
    victim = double(encoder)
    rows = rows_of(victim, layers=False)
    assert [(r["scalar"], r["site"]) for r in rows[::2]] == list(itertools.product(SCALARS, ("image", "encoded")))
    for row in rows:
        image = IDS.tolist().index(row["image"])
        x = X[image : image + 1].double().requires_grad_()
        z = victim.encoder(x, victim.steps, key_of(IDS[image : image + 1]))
        value = scalar(row["scalar"], victim.classify(z, RULE), Y[image : image + 1]).sum()
        found = torch.autograd.grad(value, [x, z])
        describes(row, found[0][0] if row["site"] == "image" else found[1][:, 0])


def test_layers_are_measured_for_the_first_scalar_only() -> None:
    rows = rows_of(trained(), scalars=("margin", "ce"))
    assert {r["scalar"] for r in rows if r["site"] not in ("image", "encoded")} == {"margin"}
    without = rows_of(trained(), scalars=("margin", "ce"), layers=False)
    assert without == [r for r in rows if r["site"] in ("image", "encoded")]


def test_the_sum_over_time_is_not_the_sum_of_its_parts() -> None:
    """Steps of both signs cancel: |sum| < sum of |.| somewhere, and never the other way round."""
    rows = [r for r in rows_of(double(), scalars=("ce",)) if "steps" in r]
    assert all(r["summed"]["l1"] <= sum(r["steps"]["l1"]) * (1 + 1e-5) for r in rows)
    assert any(r["summed"]["l1"] < 0.99 * sum(r["steps"]["l1"]) for r in rows)
    assert all(len(values) == 2 for r in rows for values in r["steps"].values())


class Smooth(nn.Module):
    """A body without a spike, so that a difference is a derivative: two linear maps around a tanh, mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels, self.classes = 1, 4
        keys = image_keys(1, torch.arange(2))
        self.first = nn.Parameter(normal(keys[:1], (64, 6))[0].double() / 4)
        self.last = nn.Parameter(normal(keys[1:], (6, 4))[0].double())

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        return ((z.flatten(2) @ self.first).tanh() @ self.last).mean(0)


@pytest.mark.parametrize("name", SCALARS)
def test_scalars_are_those_of_finite_differences(name: str) -> None:
    victim = Victim(Smooth(), Direct(), 2).eval()
    x = 0.1 + 0.8 * X.double()
    y = torch.tensor([2, 0])
    rows = list(gradient_rows(victim, Batch.of(victim, x, y, IDS, 0), rule=RULE, scalars=(name,), layers=False))
    for image, row in enumerate(r for r in rows if r["site"] == "image"):
        slopes = []
        for pixel in range(64):
            step = torch.zeros(64, dtype=torch.float64)
            step[pixel] = 1e-5
            ends = torch.stack([x[image] + step.view(1, 8, 8), x[image] - step.view(1, 8, 8)])
            up, down = scalar(name, victim(ends, RULE, IDS), y[image : image + 1].expand(2)).tolist()
            slopes.append((up - down) / 2e-5)
        for measure in ("l1", "l2", "gini", "participation"):
            assert row["summed"][measure] == pytest.approx(MEASURES[measure](slopes), rel=1e-5)


def test_another_scalar_is_refused() -> None:
    with pytest.raises(UsageError, match="ce, probability, margin"):
        rows_of(trained(), scalars=("entropy",))


def test_an_all_zero_gradient_is_rows_of_zeros() -> None:
    victim = trained()
    with torch.no_grad():
        victim.body.fc.weight.zero_()  # type: ignore[union-attr]
    for row in rows_of(victim, scalars=("ce",)):
        if row["site"] != "fc" or row["side"] != "output":
            assert (row["summed"]["zero_share"], row["summed"]["l1"]) == (1.0, 0.0)
            assert row["summed"]["gini"] is None


def test_an_image_in_eval_mode_does_not_know_of_its_company() -> None:
    """In train mode it does: that is why the paper's gradients belong to a batch."""
    victim = double()
    modes: dict[BatchNorm, bool] = {"eval": True, "train": False}
    for mode, alone in modes.items():
        together = rows_of(victim, scalars=("ce",), batchnorm=mode)
        one = Batch.of(victim, X[:1].double(), Y[:1], IDS[:1], 0)
        first = list(gradient_rows(victim, one, rule=RULE, scalars=("ce",), batchnorm=mode))
        # At 5 digits: another size of batch may sum in another order.
        l1 = [(row["summed"]["l1"], other["summed"]["l1"]) for row, other in zip(together[::2], first, strict=True)]
        assert all(math.isclose(a, b, rel_tol=1e-5) for a, b in l1) == alone


class Bang(Exception):
    """Raised inside a forward."""


def bang(neuron: Neuron, currents: Tensor, site: str) -> Tensor:
    if site == "layer2.0.sn1":
        raise Bang
    return RULE(neuron, currents, site)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("grad_mode", [False, True])
def test_the_victim_is_left_as_it_was(mode: Any, grad_mode: bool) -> None:
    """Its hooks, weights, flags, statistics, modes: after a measurement, an abandoned one, and one that fails."""
    victim, x = trained(), X.clone()
    with torch.set_grad_enabled(grad_mode), untouched(victim):
        rows_of(victim, batchnorm=mode)
        batch = Batch.of(victim, X, Y, IDS, 0)
        list(weight_rows(victim, batch, rule=RULE, batchnorm=mode))
        unfinished = gradient_rows(victim, batch, rule=RULE, batchnorm=mode)
        next(unfinished)
        unfinished.close()  # type: ignore[attr-defined]
        with pytest.raises(Bang):
            rows_of(victim, batchnorm=mode, rule=bang)
        with pytest.raises(Bang):
            list(weight_rows(victim, batch, rule=bang, batchnorm=mode))
    assert torch.equal(X, x)
    assert not X.requires_grad


def test_batch_statistics_are_for_victims_in_either_mode_and_deployed_ones_for_eval() -> None:
    victim = trained().train()
    assert rows_of(victim, batchnorm="train") == rows_of(trained(), batchnorm="train")
    for measure in (gradient_rows, weight_rows):
        with pytest.raises(SpikeproofError, match="train mode"):
            list(measure(victim, Batch.of(victim, X, Y, IDS, 0), rule=RULE))


SHAPES = [
    (kernel, stride, padding, size)
    for kernel, stride, padding in itertools.product((1, 2, 3, 5, 7), (1, 2, 3), (0, 1, 2, 3))
    for size in (1, 2, 3, 4, 8)
    if size + 2 * padding >= kernel
]


def test_live_taps_by_brute_force() -> None:
    for kernel, stride, padding, size in SHAPES:
        layer = nn.Conv2d(1, 1, kernel, stride, padding)
        found = {(int(i), int(j)) for i, j in live_taps(layer, size, size).nonzero()}
        assert found == conv_taps.live_taps(size, kernel, stride, padding), (kernel, stride, padding, size)


@pytest.mark.parametrize(
    ("layer", "height", "width"),
    [
        (nn.Conv2d(2, 3, (3, 5), (2, 1), (1, 2), bias=False), 2, 3),
        (nn.Conv2d(2, 3, 3, 1, 2, dilation=2, bias=False), 2, 4),
        (nn.Conv2d(2, 3, 3, 2, 1, bias=False), 1, 1),
    ],
    ids=repr,
)
def test_live_taps_are_those_that_a_gradient_can_reach(layer: nn.Conv2d, height: int, width: int) -> None:
    """Of ones through ones: the gradient counts how often a tap meets a pixel."""
    nn.init.ones_(layer.weight)
    (reached,) = torch.autograd.grad(layer(torch.ones(1, 2, height, width)).sum(), layer.weight)
    assert torch.equal(live_taps(layer, height, width).expand_as(reached), reached != 0)
    assert (reached == 0).any()


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_weight_rows_are_those_of_autograd_by_hand(mode: Any) -> None:
    """On 4x4 images, where the last convolutions work on single pixels and most of their taps see padding alone."""
    victim, x = double(), X[:, :, 2:6, 2:6].double()
    rows = list(weight_rows(victim, Batch.of(victim, x, Y, IDS, 0), rule=RULE, batchnorm=mode))
    twin = copy.deepcopy(victim).train(mode == "train")
    modules = {n: m for n, m in twin.body.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    sizes = {"layer2.0.conv1": (2, 2), "layer2.0.conv2": (1, 1)}
    ce = scalar("ce", twin(x, RULE, key_of(IDS)), Y)
    per_image = [torch.autograd.grad(ce[i], [m.weight for m in modules.values()], retain_graph=True) for i in range(2)]
    assert [r["site"] for r in rows] == 2 * ["weights", *(f"weight:{name}" for name in modules)]
    total = sum(p.numel() for p in twin.parameters())
    for number, row in enumerate(rows):
        image, order = divmod(number, len(modules) + 1)
        assert (row["image"], row["order"], row["side"], row["batchnorm"]) == (int(IDS[image]), order, "weight", mode)
        live, dead = [], 0
        for (name, m), g in zip(modules.items(), per_image[image], strict=True):
            if row["site"] not in ("weights", f"weight:{name}"):
                continue
            taps = conv_taps.live_taps(sizes[name][0], 3, m.stride[0], 1) if name in sizes else None
            mask = torch.ones_like(g, dtype=torch.bool)
            if taps is not None:
                mask = torch.zeros_like(mask)
                for i, j in taps:
                    mask[:, :, i, j] = True
                assert not g[~mask].any()
            live.append(g[mask])
            dead += int((~mask).sum())
        g = torch.cat(live)
        share = dead / (total if row["site"] == "weights" else dead + g.numel())
        assert row["masked_share"] == pytest.approx(share, rel=1e-5)
        assert row["size"] == g.numel()
        # What batch statistics cancel may be 0 or a rounding error, by the order of the sums.
        for measure in ("l1", "l2", "participation", "hoyer", *(("zero_share",) if mode == "eval" else ())):
            assert row["summed"][measure] == pytest.approx(MEASURES[measure](g.tolist()), rel=2e-5)
    assert {r["masked_share"] > 0 for r in rows} == {False, True}


def test_nothing_is_masked_where_every_tap_sees_a_pixel() -> None:
    rows = list(weight_rows(trained(), Batch.of(trained(), X, Y, IDS, 0), rule=RULE))
    assert {r["masked_share"] for r in rows} == {0.0}


def test_an_untrained_networks_max_pool_makes_zeros_that_no_pixel_keeps() -> None:
    """The trap that the package is about: where a gradient is read decides how sparse it looks."""
    shares = {}
    for pool in ("max", "avg"):
        victim = built(pool=pool).eval()
        for row in rows_of(victim, scalars=("ce",), batchnorm="train"):
            shares.setdefault((pool, row["site"], row["side"]), []).append(row["summed"]["zero_share"])
    assert min(shares["max", "maxpool", "input"]) > 0.2
    assert max(shares["avg", "maxpool", "input"]) == 0.0
    assert max(shares["max", "image", "input"]) == max(shares["avg", "image", "input"]) == 0.0
