"""D21: networks with an adversarial example by construction, which sound attacks find and blind ones do not."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small import trained, untouched
from subjects import brief, row, subject
from torch import Tensor, nn

import spikeproof
from spikeproof import asking, parts
from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.block_search import BlockSearch
from spikeproof.attacks.fab import FAB
from spikeproof.attacks.pgd import PGD
from spikeproof.encoders.direct import Direct
from spikeproof.encoders.poisson import Poisson
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation import panel
from spikeproof.evaluation.audits import AuditResult, Effort, Subject
from spikeproof.evaluation.audits._binarised import fitted, plant
from spikeproof.evaluation.judge import Case
from spikeproof.layers.over_time import over_time
from spikeproof.losses import cross_entropy, margin
from spikeproof.neurons.if_ import IF
from spikeproof.rules.atan import ATan
from spikeproof.study import masks
from spikeproof.tensors import exact, graft, image_keys, signs, uniform
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.types import Encoder, Rule, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

SIDE, HIDDEN = 8, 64
WIDE, SHARP = ATan(alpha=2.0), ATan(alpha=500.0)


def weights(layer: nn.Linear, seed: int, scale: float) -> nn.Linear:
    """From numpy's stream, so that every machine has the same."""
    drawn = np.random.default_rng(seed).normal(0.0, scale, (layer.out_features, layer.in_features))
    layer.weight.data, layer.bias.data = torch.from_numpy(drawn), torch.zeros(layer.out_features).double()
    return layer


class Net(nn.Module):
    """Images (B,1,8,8), float64: linear layers, with spikes after all but the last or without; ten classes.

    before: done to its input; after: to the logits of every step, (T,B,10).
    """

    in_channels, classes = 1, 10

    def __init__(
        self,
        *,
        spiking: bool = True,
        depth: int = 3,
        before: Callable[[Tensor], Tensor] = lambda z: z,
        after: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> None:
        super().__init__()
        first, *more = (nn.Linear(SIDE**2 if k == 0 else HIDDEN, HIDDEN) for k in range(depth))
        hidden = [weights(first, 0, 0.5), *(weights(layer, k, 0.3) for k, layer in enumerate(more, start=1))]
        self.hidden = nn.ModuleList(hidden)
        self.neurons = nn.ModuleList(IF() for _ in self.hidden) if spiking else None
        self.last = weights(nn.Linear(HIDDEN, 10), depth, 0.2)
        self.before, self.after = before, after

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        z = self.before(z).flatten(2)
        for k, layer in enumerate(self.hidden):
            z = over_time(z, layer)
            z = z if self.neurons is None else rule(self.neurons[k], z, f"neuron {k}")  # type: ignore[arg-type]
        return self.after(over_time(z, self.last)).mean(0)


def net(encoder: Encoder | None = None, steps: int = 10, **options: Any) -> Victim:
    return Victim(Net(**options), encoder or Direct(), steps).eval()


def images(count: int) -> Tensor:
    return 0.2 + 0.6 * uniform(image_keys(7, torch.arange(count)), (1, SIDE, SIDE)).double()


def case(rule: Rule, **more: Any) -> Case:
    return Case(more.pop("attack", PGD(steps=20)), WhiteBox(rule), margin, **more)


def before(victim: Victim, cases: dict[str, Case], count: int = 16, **more: Any) -> Subject:
    """The cases as a tier's stages, the first of which is the plain one."""
    more = {"threat": Linf(0.05), "effort": Effort(2 * count, 32, 10), **more}
    of = subject(victim, images(count), **more)
    return replace(of, cases=cases, roles={name: "white box" if k else "plain" for k, name in enumerate(cases)})


def found(of: Subject) -> AuditResult:
    result: AuditResult = parts.build("audits", {"name": "power"})(of)
    return result


# --- what must be found ---


@pytest.mark.parametrize("threat", [Linf(0.05), L2(0.3), L1(1.0), Linf(0.05, surface="encoded")], ids=repr)
def test_on_a_linear_network_the_plain_attack_finds_every_planted_example(threat: Threat) -> None:
    """Its steps reach the best point of the ball, which is as good as the planted one at least."""
    steps = 3 if threat.surface == "encoded" else 1
    of = found(before(net(spiking=False, steps=steps), {"plain": case(WIDE, attack=PGD(steps=40))}, threat=threat))
    assert (of.code, of.colour, of.value, of.detail["plain"]) == ("D21", "green", 1.0, 1.0)
    assert of.n + of.detail["undecided"] == 16
    assert of.n >= 12


def test_the_same_spiking_network_passes_under_a_wide_surrogate_and_fails_under_a_sharp_one() -> None:
    """The gradient of the sharp one is nowhere zero, and blind; chance finds next to none with as many queries."""
    victim = net()
    wide, sharp = (found(before(victim, {"plain": case(rule)})) for rule in (WIDE, SHARP))
    assert wide.n == sharp.n >= 14
    assert (wide.colour, sharp.colour) == ("green", "red")
    assert wide.value is not None
    assert sharp.value is not None
    assert wide.value >= 0.85
    assert sharp.value <= 0.4
    assert sharp.detail["random"] <= 0.4


def test_the_tier_finds_what_the_plain_attack_does_not_and_each_attack_gets_what_is_left() -> None:
    of = found(before(net(), {"plain": case(SHARP), "other": case(WIDE), "last": case(WIDE)}))
    assert of.colour == "green"
    assert of.value is not None
    assert of.detail["plain"] <= 0.4 < 0.85 <= of.value
    assert sum(of.detail["by"].values()) == round(of.value * of.n)
    assert f"{of.detail['by']['plain']} by the plain attack" in of.says


def hashed(z: Tensor) -> Tensor:
    """The same values; every pixel's gradient has a sign of its own, whatever the point."""
    return graft(z, z * signs(image_keys(5, torch.arange(1)), z.shape[2:]).to(z))


@pytest.mark.parametrize("mask", [hashed, lambda z: graft(z, 0 * z), lambda z: graft(z, -z)], ids=["hash", "0", "-"])
def test_a_gradient_that_is_hidden_finds_nothing(mask: Callable[[Tensor], Tensor]) -> None:
    """Also where the network is linear, and falls to the gradient's right sign at once."""
    of = found(before(net(spiking=False, steps=1, before=mask), {"plain": case(WIDE)}))
    assert (of.colour, of.n >= 12) == ("red", True)
    assert of.value is not None
    assert of.value <= 0.4


def test_the_loss_of_the_case_and_targets_do_not_matter() -> None:
    """DLR needs three classes, and there are two; an attack that aims at nine classes aims at the only other."""
    cases = {"plain": replace(case(WIDE), loss=cross_entropy), "aimed": case(WIDE, attack=APGD(20, targets=9))}
    cases["fab"] = case(WIDE, attack=FAB(steps=10, targets=9))
    assert found(before(net(), cases)).value == pytest.approx(1.0, abs=0.13)


# --- what is counted ---


def test_images_whose_read_out_cannot_tell_the_example_are_counted_apart() -> None:
    """A network that does not see the darker half of the images: their features are all the same."""
    x = images(12)
    x[:5] *= 0.1

    def seen(z: Tensor) -> Tensor:
        return z * (z.mean((2, 3, 4), keepdim=True) > 0.3)

    of = replace(before(net(spiking=False, steps=1, before=seen), {"plain": case(WIDE)}, 12))
    of = replace(of, batch=replace(of.batch, x=x))
    result = found(of)
    assert (result.detail["undecided"], result.n, result.value) == (5, 7, 1.0)
    assert "; 5 undecided" in result.says
    blind = found(replace(of, batch=of.batch.take(torch.arange(5))))
    assert (blind.colour, blind.n) == ("not run", 0)
    assert "undecided" in blind.says


def test_the_counts_do_not_depend_on_the_batches_and_nothing_is_touched() -> None:
    victim = net()
    cases = {"plain": case(WIDE), "other": case(SHARP)}
    with untouched(victim):
        at_once, few = (found(before(victim, cases, 7, batch_size=size, effort=Effort(14, 8, 10))) for size in (64, 3))
    assert at_once == few


@pytest.mark.parametrize(
    ("count", "missed", "colour"), [(100, 5, "green"), (100, 6, "red"), (16, 2, "green"), (16, 3, "red")]
)
def test_the_limit_is_a_share_of_the_decided_and_two_images_are_no_evidence(
    monkeypatch: pytest.MonkeyPatch, count: int, missed: int, colour: str
) -> None:
    def hits(self: Any, name: str, case: Case, index: Tensor, cost: Any) -> Tensor:
        return torch.arange(len(index)) >= missed

    monkeypatch.setattr("spikeproof.evaluation.audits.power._Sought._found", hits)
    effort = Effort(2 * count, 16, 10)
    of = found(before(net(spiking=False, steps=1), {"plain": case(WIDE)}, count, effort=effort, batch_size=100))
    assert (of.n, of.colour, of.limit) == (count, colour, 0.95)


def test_without_an_attack_that_follows_a_gradient_there_is_no_power() -> None:
    of = before(net(), {"it": case(WIDE)})
    for left in (replace(of, roles={"it": "black box"}), replace(of, cases={})):
        assert found(left).colour == "not run"


def test_a_panel_puts_the_gradient_attacks_of_its_tier_to_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the cascade, the plain one first, until all is found; one step and chance are not among them."""
    victim, x = net(depth=2), images(6)
    y = victim(x, exact, image_keys(0, torch.arange(6))).argmax(1)
    whole = panel.tier_of
    monkeypatch.setattr(panel, "tier_of", lambda *asked: brief(whole(*asked), ["power"]))
    examined = spikeproof.evaluate(victim, x, y, tier="standard", eps=0.05, rule=SHARP)
    (power,) = [row for row in examined.findings if row["code"] == "D21"]
    tried = list(power["detail"]["by"])
    assert tried[0] == "pgd-20"
    assert not {"fgsm", "corners-50"} & set(tried)
    assert sum(power["detail"]["by"].values()) == round(power["value"] * power["n"])


def test_a_search_finds_behind_a_blind_gradient_and_is_told_apart() -> None:
    """It goes on from where the blind attack led, and pays for that."""
    blind = case(SHARP)
    search = replace(blind, attack=BlockSearch(400), loss=margin, after=blind)
    of = before(net(), {"plain": blind, "blocks": search})
    both = found(replace(of, roles={"plain": "plain", "blocks": "search"}))
    alone = found(replace(of, roles={"plain": "plain"}, cases={"plain": blind}))
    assert both.value is not None
    assert alone.value is not None
    assert both.value > alone.value
    assert both.detail["search"] == pytest.approx(both.value - alone.value)
    assert f"{round(both.detail['search'] * both.n)} by the searches alone" in both.says


def test_where_no_image_stands_there_is_nothing_to_miss() -> None:
    of = before(net(), {"plain": case(SHARP)})
    assert found(of).colour == "red"
    fell = [row("pgd-20", "first", image, True) for image in range(3)]
    assert found(replace(of, rows=fell)).colour == "green"
    assert found(replace(of, rows=[*fell, row("pgd-20", "first", 3, False)])).colour == "red"


# --- networks that it does not fit ---


def test_a_network_without_a_linear_read_out_is_not_tested() -> None:
    for after, why in (
        (torch.tanh, "something else"),
        (lambda logits: logits @ torch.ones(10, 10).double(), "runs without"),
    ):
        of = found(before(net(after=after), {"plain": case(WIDE)}))
        assert (of.colour, of.n) == ("not run", 0)
        assert why in of.says
    audit = parts.build("audits", {"name": "power"})
    assert audit.unfit(net()) == ""
    assert audit.unfit(Victim(nn.Conv2d(1, 1, 1), Direct(), 1)) == "no linear layer that could be fitted anew"


def test_a_network_with_another_way_for_its_gradient_is_not_tested() -> None:
    """Its read-out is fitted anew, that of the network whose gradient it shows is not."""
    of = found(before(masks.gradient_of(net(), net()), {"plain": case(WIDE)}))
    assert (of.colour, of.n) == ("not run", 0)
    assert "runs without" in of.says


def test_sums_and_scales_over_time_are_linear_read_outs() -> None:
    """What comes out without the layer is then the sum of the features, or a multiple of them."""
    for after in (lambda logits: 5 * logits, lambda logits: logits + logits.mean(0)):
        assert found(before(net(after=after), {"plain": case(WIDE)})).n >= 14


def test_noise_is_averaged_and_the_verdict_is_the_majoritys() -> None:
    noisy = before(net(Poisson(), steps=20, spiking=False), {"plain": case(WIDE)}, 4, threat=Linf(0.3))
    noisy = replace(noisy, effort=Effort(8, 8, 10))
    of, again = found(noisy), found(noisy)
    assert of == again
    assert of.n + of.detail["undecided"] == 4
    assert of.n >= 2


def test_a_network_of_ours_is_planted_on_its_features_and_left_alone() -> None:
    """Without the last layer the network says what goes into it, averaged over time; the read-outs agree with the
    verdicts that are asked for, image by image, in any order."""
    victim = trained("direct", width=16)
    x = images(8).float()
    batch = Batch.of(victim, x, torch.zeros(8, dtype=torch.int64), torch.arange(8), 0)
    with untouched(victim):
        planted = plant(copy.deepcopy(victim), batch, Linf(0.1), 64)
    features = planted.victim(x, exact, batch.keys)
    whole = victim(x, exact, batch.keys)
    torch.testing.assert_close(victim.body.fc(features), whole)  # type: ignore[operator]
    index = torch.tensor([3, 0, 6])
    part, some = planted.scene(torch.arange(8), "it").of(index), planted.scene(index, "it")
    hidden = planted.hidden[index]
    logits = some.logits(hidden, exact, some.keys)
    assert torch.equal(part.logits(hidden, exact, part.keys), logits)
    assert ((logits[:, 1] > 0) >= planted.decided[index]).all()
    assert (planted.scene(index, "it").logits(x[index], exact, some.keys)[:, 1] < 0)[planted.decided[index]].all()


def test_passes_of_any_size_plant_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    victim, x = trained("direct").double(), images(4)
    batch = Batch.of(victim, x, torch.zeros(4, dtype=torch.int64), torch.arange(4), 0)
    planted = []
    for points in (512, 10, 1):  # all at once; two of each image; one of each, as ever
        monkeypatch.setattr(asking, "_POINTS", points)
        planted.append(plant(victim, batch, Linf(0.1), 33))
    for other in planted[1:]:
        assert torch.equal(other.hidden, planted[0].hidden)
        assert torch.equal(other.decided, planted[0].decided)
        torch.testing.assert_close(other.readout.weight, planted[0].readout.weight, rtol=1e-8, atol=1e-8)


# --- the fit ---


@pytest.mark.parametrize(("points", "size"), [(5, 12), (30, 12)])
def test_the_direction_is_fishers(points: int, size: int) -> None:
    """w = (S + r)^-1 d, solved by numpy in the space of the features; the logits at the mean, the nearest and the other
    are those that the docstring says."""
    stream = np.random.default_rng(2)
    own, other = stream.normal(size=(points, 1, size)), stream.normal(size=(1, size)) + 6
    readout, separable = fitted(torch.from_numpy(other), torch.from_numpy(own))
    centre = own[:, 0].mean(0)
    spread = own[:, 0] - centre
    scatter = spread.T @ spread
    w = np.linalg.solve(scatter + np.trace(scatter) / size * np.eye(size), other[0] - centre)
    w /= w @ (other[0] - centre)
    assert separable.tolist() == [True]
    np.testing.assert_allclose(readout.weight[0].numpy(), w, rtol=1e-8)
    nearest = (spread @ w).max()
    boundary = nearest + 0.25 * (1 - nearest)
    at = [readout(torch.from_numpy(f))[0].tolist() for f in (centre[None], other)]
    np.testing.assert_allclose(at, [[0.0, -boundary], [0.0, 1 - boundary]], rtol=1e-8)


def test_a_point_among_the_others_cannot_be_told_from_them() -> None:
    corners = torch.tensor([[[1.0, 1.0]], [[1.0, -1.0]], [[-1.0, 1.0]], [[-1.0, -1.0]]]).double()
    for point, apart in (([0.5, 0.5], False), ([0.0, 0.0], False), ([1.0, 1.0], False), ([1.5, 1.5], True)):
        assert fitted(torch.tensor([point]).double(), corners)[1].tolist() == [apart]
    same = torch.ones(3, 1, 2).double()
    assert fitted(same[0], same)[1].tolist() == [False]


def test_many_points_are_fitted_on_several_threads_too() -> None:
    """In a process of its own: where MKL's LU solved these, it did not come back."""
    code = (
        "import torch; from spikeproof.evaluation.audits._binarised import fitted; torch.set_num_threads(2); "
        "own = torch.randn(200, 64, 300, generator=torch.Generator().manual_seed(0)); "
        "print(int(fitted(own[0] + 3, own)[1].sum()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "64\n"
