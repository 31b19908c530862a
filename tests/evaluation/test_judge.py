"""The judge's rows: the same in any batch, honest about cost and budget, and consistent with a plain forward."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from small import digits, moves_events, trained, untouched
from torch import Tensor

from spikeproof import parts
from spikeproof.attacks.fgsm import FGSM
from spikeproof.attacks.pgd import PGD
from spikeproof.attacks.rfgsm import RFGSM
from spikeproof.encoders.phase import Phase
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, attack_rows, clean_rows, proposal, short
from spikeproof.losses import cross_entropy, margin
from spikeproof.native import fast
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, fold, image_keys
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.training.craft import crafter
from spikeproof.types import Carry, Loss, Objective, Score, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.scene import COMMON_DRAWS, Cost, Scene
from spikeproof.victims.victim import Victim

X, Y, IDS = digits(64)
ESTIMATOR = WhiteBox(ATan())
CASES = {
    "fgsm": Case(FGSM(), ESTIMATOR, cross_entropy),
    "pgd-3": Case(PGD(steps=3), ESTIMATOR, cross_entropy),
}
THREATS: dict[str, Threat] = {"8/255": Linf("8/255"), "0.1": Linf(0.1)}


def double(encoder: str = "direct") -> Victim:
    """In float64, where the rounding of the kernels, which may depend on the batch, flips no spike."""
    return trained(encoder).double()


def rows_of(
    victim: Victim, index: Any = slice(0, 12), *, threats: Any = THREATS, cases: Any = CASES, seed: int = 0
) -> list[dict[str, Any]]:
    x = X[index].to(next(victim.parameters()).dtype)
    batch = Batch.of(victim, x, Y[index], IDS[index], seed)
    return attack_rows(victim, batch, evaluation="pixels", threats=threats, cases=cases)


def broken(rows: list[dict[str, Any]]) -> set[Any]:
    return {(r["image"], r["attack"], r["eps_text"], r["attacked"]) for r in rows if r["fooled"]}


@pytest.mark.parametrize("encoder", ["direct", "poisson"])
def test_batches_and_order_change_nothing(encoder: str) -> None:
    victim = double(encoder)
    threats = {"0.1": Linf(0.1)} if encoder == "poisson" else THREATS
    count = 10 if encoder == "poisson" else 32
    whole = rows_of(victim, slice(0, count), threats=threats)
    assert len(whole) == count * len(threats) * 2
    expected = broken(whole)
    assert 0 < len(expected) < len(whole)
    shuffled = image_keys(5, IDS[:count]).argsort()
    batches = {
        "1": [slice(i, i + 1) for i in range(0, count, 3)],
        "7": [slice(i, min(i + 7, count)) for i in range(0, count, 7)],
        "shuffled": [shuffled],
    }
    margins = {(r["image"], r["attack"], r["eps_text"]): r["margin"] for r in whole}
    for name, indices in batches.items():
        rows = [row for index in indices for row in rows_of(victim, index, threats=threats)]
        seen = {row["image"] for row in rows}
        assert name == "1" or len(seen) == count
        assert broken(rows) == {found for found in expected if found[0] in seen}
        for row in rows:
            before = margins[row["image"], row["attack"], row["eps_text"]]
            assert row["margin"] == pytest.approx(before, rel=1e-4, abs=1e-9)


def test_the_seed_decides_the_starts_and_nothing_else() -> None:
    victim = double()
    one, again, other = rows_of(victim), rows_of(victim), rows_of(victim, seed=1)
    assert one == again
    for attack, same in (("fgsm", True), ("pgd-3", False)):
        pairs = [(a, b) for a, b in zip(one, other, strict=True) if a["attack"] == attack]
        assert all(a == b for a, b in pairs) == same


def test_a_row_says_what_it_is_about() -> None:
    victim = double()
    rows = rows_of(victim)
    assert [(r["eps_text"], r["attack"], r["image"]) for r in rows] == [
        (eps, attack, int(image)) for eps in THREATS for attack in CASES for image in IDS[:12]
    ]
    logits = victim(X[:12].double(), exact, image_keys(0, IDS[:12]))
    for row, label, predicted in zip(rows, [*Y[:12].tolist()] * 4, [*logits.argmax(1).tolist()] * 4, strict=True):
        fixed = ("kind", "evaluation", "protocol", "surface", "norm")
        assert [row[k] for k in fixed] == ["attack", "pixels", "pixels", "pixels", "Linf"]
        assert row["eps"] == pytest.approx(THREATS[row["eps_text"]].eps, rel=1e-8)
        assert (row["label"], row["predicted"]) == (label, predicted)
        assert row["fooled"] == (row["attacked"] != row["label"])
        assert row["fooled"] == (row["margin"] < 0)
        assert 0 <= row["distance"] <= row["eps"] + 1e-6


def test_a_larger_budget_and_more_steps_break_more() -> None:
    rows = rows_of(double(), slice(0, 64))

    def share(eps: str, attack: str) -> int:
        return sum(r["fooled"] for r in rows if (r["eps_text"], r["attack"]) == (eps, attack))

    clean = sum(r["predicted"] != r["label"] for r in rows if (r["eps_text"], r["attack"]) == ("0.1", "fgsm"))
    assert clean < share("8/255", "pgd-3") < share("0.1", "pgd-3")
    assert share("0.1", "fgsm") > clean


@dataclass(frozen=True)
class Kept:
    """An attack that keeps the points and labels it was asked for."""

    attack: Any
    points: list[tuple[Tensor, Tensor]]

    def __call__(self, f: Objective, x0: Tensor, threat: Threat, estimator: Any, keys: Tensor) -> Tensor:
        x = self.attack(f, x0, threat, estimator, keys)
        self.points.append((x0, x))
        return x  # type: ignore[no-any-return]


@pytest.mark.parametrize("surface", ["pixels", "encoded"])
@pytest.mark.parametrize("encoder", ["direct", "phase"])
def test_a_verdict_is_that_of_a_direct_forward_on_the_proposed_point(encoder: str, surface: Any) -> None:
    victim, points = trained(encoder), []
    case = Case(Kept(FGSM(), points), ESTIMATOR, cross_entropy)
    rows = rows_of(victim, threats={"0.1": Linf(0.1, surface=surface)}, cases={"fgsm": case})
    rows = [r for r in rows if r["predicted"] == r["label"]]
    ((clean, x),) = points
    assert len(x) == len(rows)
    index = torch.tensor([(r["image"] == IDS).nonzero().item() for r in rows])
    if surface == "pixels":
        assert torch.equal(clean, X[index])
        logits = victim(x, exact, image_keys(7, IDS[index]))
    else:
        assert torch.equal(clean, victim.encode(X[index], image_keys(7, IDS[index])).transpose(0, 1))
        assert x.shape[1] == victim.steps
        logits = victim.classify(x.transpose(0, 1), exact)
    assert [r["attacked"] for r in rows] == logits.argmax(1).tolist()
    assert [r["margin"] for r in rows] == short(-margin(logits, Y[index]))
    assert [r["distance"] for r in rows] == short((x - clean).flatten(1).abs().amax(1))
    assert {r["surface"] for r in rows} == {surface}


def test_what_is_wrong_when_clean_is_not_attacked_and_counts_as_fooled() -> None:
    victim, points = trained(), []
    case = Case(Kept(FGSM(), points), ESTIMATOR, cross_entropy)
    rows = rows_of(victim, threats={"0.1": Linf(0.1)}, cases={"fgsm": case})
    logits = victim(X[:12], exact, image_keys(0, IDS[:12]))
    wrong = (logits.argmax(1) != Y[:12]).tolist()
    assert 0 < sum(wrong) < 12
    assert len(points[0][0]) == 12 - sum(wrong)
    for row, bad, value in zip(rows, wrong, short(-margin(logits, Y[:12])), strict=True):
        assert row.get("skipped", False) == bad
        if bad:
            assert row["fooled"]
            assert (row["attacked"], row["margin"], row["distance"]) == (row["predicted"], value, 0.0)
            assert (row["forwards"], row["backwards"]) == (0, 0)
            assert "zero_gradient" not in row


def test_a_batch_with_no_image_to_attack_gives_its_rows() -> None:
    victim = trained()
    logits = victim(X, exact, image_keys(0, IDS))
    (wrong,) = (logits.argmax(1) != Y).nonzero().T
    rows = rows_of(victim, wrong)
    assert len(rows) == 4 * len(wrong)
    assert all(row["skipped"] and row["fooled"] for row in rows)


def test_clean_rows_are_those_of_a_direct_forward() -> None:
    victim = trained("phase")
    with untouched(victim):
        rows = clean_rows(victim, Batch.of(victim, X, Y, IDS, 3), split="test")
    logits = victim(X, exact, image_keys(9, IDS))
    columns = zip(IDS.tolist(), Y.tolist(), logits.argmax(1).tolist(), short(-margin(logits, Y)), strict=True)
    assert rows == [
        {"kind": "clean", "split": "test", "image": image, "label": label, "predicted": predicted, "margin": value}
        for image, label, predicted, value in columns
    ]


class Counted:
    """Noted keys of every encoding, around an encoder."""

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.keys, self.stochastic = encoder, [], encoder.stochastic

    def __deepcopy__(self, memo: Any) -> Counted:
        return self  # the borrowed copy reports to the same list

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        self.keys.append(keys)
        return self.encoder(x, steps, keys)  # type: ignore[no-any-return]


def test_a_stochastic_victim_is_judged_by_twenty_fresh_draws() -> None:
    victim = trained("poisson")
    spy = Counted(victim.encoder)
    victim.encoder = spy  # type: ignore[assignment]
    points: list[tuple[Tensor, Tensor]] = []
    case = Case(Kept(PGD(steps=3), points), ESTIMATOR, cross_entropy)
    rows = rows_of(victim, threats={"0.1": Linf(0.1)}, cases={"pgd-3": case})
    attacked = len(points[0][0])
    # 20 clean draws, one probe of the gradient, 3 steps, the last point on common draws, 20 draws of the verdict, and,
    # where there is a frozen twin, one on which the deployed network and the twin are compared.
    besides = 2 if fast() else 0
    assert [len(keys) for keys in spy.keys] == [12] * 20 + [attacked] * (1 + 3 + COMMON_DRAWS + 20 + besides)
    probe, steps = spy.keys[20], spy.keys[21 : 24 + COMMON_DRAWS]
    judged, compared = spy.keys[24 + COMMON_DRAWS :][:20], spy.keys[44 + COMMON_DRAWS :]
    assert not compared or torch.equal(*compared)  # the same draw for both
    assert torch.equal(probe, steps[0])  # the probe is the gradient at the clean point, no further draw of the attack
    every = torch.cat([*spy.keys[:20], *steps, *judged])
    assert len(every.unique()) == len(every)
    index = torch.tensor([(r["image"] == IDS).nonzero().item() for r in rows if not r.get("skipped")])
    logits = torch.stack([victim.classify(spy.encoder(points[0][1], 3, keys), exact) for keys in judged])
    votes = torch.stack([(logits.argmax(2) == k).sum(0) for k in range(10)], 1)
    assert [r["attacked"] for r in rows if not r.get("skipped")] == votes.argmax(1).tolist()
    mean = torch.stack([-margin(z, Y[index]) for z in logits]).mean(0)
    assert [r["margin"] for r in rows if not r.get("skipped")] == short(mean)


@dataclass(frozen=True)
class Asked:
    """A white box that notes each call."""

    inner: WhiteBox
    calls: list[int]

    def init(self, x: Tensor) -> Carry:
        return self.inner.init(x)

    def of(self, carry: Carry, index: Tensor) -> Carry:
        return self.inner.of(carry, index)

    def __call__(self, f: Objective, x: Tensor, carry: Carry, salt: int) -> tuple[Score, Tensor, Carry]:
        self.calls.append(salt)
        return self.inner(f, x, carry, salt)


BRIEF = {"steps": 6, "queries": 9, "draws": 5, "restarts": 2}
"""Short runs, for attacks that have such options."""


@pytest.mark.parametrize("survivors", [False, True])
@pytest.mark.parametrize("name", [name for name in parts.names("attacks") if not moves_events(name)])
def test_forwards_and_backwards_are_counted(name: str, survivors: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Image by image against what went through the network, and where none is dropped the calls of the estimator.

    One of each is the probe at the clean point; another pass is the verdict, and where there is a frozen twin two more
    compare it with the deployed network.
    """
    besides = 4 if fast() else 2
    signature = inspect.signature(parts.find("attacks", name)).parameters
    attack = parts.build("attacks", {"name": name, **{k: v for k, v in BRIEF.items() if k in signature}})
    gradients: list[int] = []
    passes: list[tuple[int, bool]] = []
    logits = Scene.logits

    def counted(scene: Scene, point: Tensor, rule: Any, keys: Tensor) -> Tensor:
        passes.append((len(point), point.requires_grad))
        return logits(scene, point, rule, keys)

    monkeypatch.setattr(Scene, "logits", counted)
    case = Case(attack, Asked(ESTIMATOR, gradients), cross_entropy, survivors=survivors)
    rows = [
        r for r in rows_of(trained(), threats={"0.1": Linf(0.1)}, cases={name: case}) if r["predicted"] == r["label"]
    ]
    assert rows
    assert sum(r["forwards"] + besides for r in rows) == sum(images for images, _ in passes)
    assert sum(r["backwards"] + 1 for r in rows) == sum(images for images, backward in passes if backward)
    if not survivors:
        each = sum(images for images, _ in passes) / len(rows)  # alike for all: a search has several points in a pass
        assert {r["forwards"] for r in rows} == {each - besides}
        assert {r["backwards"] for r in rows} == {len(gradients) - 1}


@pytest.mark.parametrize(
    ("attack", "forwards", "backwards"),
    [
        (FGSM(), 1, 1),
        (RFGSM(), 1, 1),
        (PGD(steps=4), 5, 4),
        (PGD(steps=4, restarts=3), 15, 12),
        (PGD(steps=4, keep="last"), 4, 4),
    ],
    ids=repr,
)
def test_what_the_classics_cost(attack: Any, forwards: int, backwards: int) -> None:
    cases = {"it": Case(attack, ESTIMATOR, cross_entropy, survivors=False)}
    rows = rows_of(trained(), threats={"0.1": Linf(0.1), "0.2": Linf(0.2)}, cases=cases)
    costs = {(r["forwards"], r["backwards"]) for r in rows if r["predicted"] == r["label"]}
    assert costs == {(forwards, backwards)}


def test_an_all_zero_gradient_is_counted_and_no_error() -> None:
    """A last layer of zeros: the class with the largest bias everywhere, and no way back to the pixels."""
    victim = trained()
    with torch.no_grad():
        victim.body.fc.weight.zero_()  # type: ignore[union-attr]
        victim.body.fc.bias[3] = 9.0  # type: ignore[union-attr, index]
    rows = rows_of(victim, slice(0, 30))
    attacked = [r for r in rows if r["label"] == 3]
    assert attacked
    for row in rows:
        assert row["predicted"] == 3
        assert row["fooled"] == (row["label"] != 3)
    for row in attacked:
        assert (row["zero_gradient"], row["zero_share"], row["gradient_l1"]) == (True, 1.0, 0.0)


def test_the_gradient_of_a_row_is_that_of_its_own_image() -> None:
    victim = double()
    rows = [r for r in rows_of(victim) if r["predicted"] == r["label"] and r["attack"] == "fgsm"]
    for row in rows:
        (index,) = (row["image"] == IDS).nonzero()
        x = X[index].double().requires_grad_()
        (g,) = torch.autograd.grad(cross_entropy(victim(x, ATan(), IDS[index]), Y[index]).sum(), x)
        assert row["gradient_l1"] == pytest.approx(g.abs().sum().item(), rel=1e-5)
        assert row["zero_share"] == pytest.approx((g == 0).double().mean().item())
        assert not row["zero_gradient"]


def test_the_attackers_encoder_changes_the_gradient_and_not_the_judge() -> None:
    victim = double("phase")
    points: dict[str, list[tuple[Tensor, Tensor]]] = {"own": [], "straight": []}
    cases = {
        "own": Case(Kept(FGSM(), points["own"]), ESTIMATOR, cross_entropy),
        "straight": Case(Kept(FGSM(), points["straight"]), ESTIMATOR, cross_entropy, Phase(gradient="straight")),
    }
    rows = rows_of(victim, threats={"0.1": Linf(0.1)}, cases=cases)
    assert not torch.equal(points["own"][0][1], points["straight"][0][1])
    l1 = {name: [r["gradient_l1"] for r in rows if r["attack"] == name and "gradient_l1" in r] for name in cases}
    assert l1["own"] != l1["straight"]
    for name in cases:
        attacked = [r["attacked"] for r in rows if r["attack"] == name and not r.get("skipped")]
        assert attacked == victim(points[name][0][1], exact, IDS[: len(attacked)]).argmax(1).tolist()


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), Linf(0.1, surface="encoded")], ids=repr)
def test_every_threat_and_surface_gives_rows_within_it(threat: Any) -> None:
    rows = rows_of(trained("phase"), threats={"it": threat})
    assert {(r["norm"], r["surface"]) for r in rows} == {(threat.norm, threat.surface)}
    assert 0 < max(r["distance"] for r in rows) <= threat.eps + 1e-6


def test_a_training_attack_is_made_on_fresh_keys_of_the_step() -> None:
    """`crafter` gives what the attack gives on the eval-mode network, image by image."""
    victim = trained().train()
    loss: Loss = cross_entropy
    keys = fold(image_keys(0, IDS[:6]), "step 1")
    craft = crafter(victim, PGD(steps=2), Linf(0.1), ESTIMATOR, loss)
    x = craft(X[:6], Y[:6], keys)
    assert victim.training
    assert Linf(0.1).distance(x, X[:6]).max() <= 0.1 + 1e-6
    torch.testing.assert_close(craft(X[2:3], Y[2:3], keys[2:3]), x[2:3])
    assert not torch.equal(craft(X[:6], Y[:6], fold(keys, "step 2")), x)


@dataclass(frozen=True)
class Stays:
    """Proposes what it is given, and asks nothing."""

    def __call__(
        self, f: Objective, x0: Tensor, threat: Threat, estimator: Any, keys: Tensor, *, start: Tensor | None = None
    ) -> Tensor:
        return x0 if start is None else start


@pytest.mark.parametrize("surface", ["pixels", "encoded"])
def test_a_case_after_another_begins_with_its_points_and_pays_for_them(surface: str) -> None:
    victim, threat = trained("direct"), Linf(0.1, surface=surface)
    batch = Batch.of(victim, X[:8], Y[:8], IDS[:8], 0)

    def proposed(case: Case) -> tuple[Tensor, list[Any]]:
        cost = Cost(len(batch))
        _, point = proposal(victim, batch, "it", case, threat, cost)
        return point, cost.rows()

    first = Case(PGD(steps=3), ESTIMATOR, margin, pooling="tie_spread")
    point, cost = proposed(first)
    assert not torch.equal(point, proposed(Case(Stays(), ESTIMATOR, margin))[0])
    once = Case(Stays(), ESTIMATOR, cross_entropy, after=first)
    for case in (once, Case(Stays(), ESTIMATOR, margin, after=once)):
        found, paid = proposed(case)
        assert torch.equal(found, point)
        assert paid == cost
    _, more = proposed(Case(PGD(steps=2), ESTIMATOR, margin, after=first, survivors=False))
    _, own = proposed(Case(PGD(steps=2), ESTIMATOR, margin, survivors=False))
    assert [row["forwards"] for row in more] == [a["forwards"] + b["forwards"] for a, b in zip(own, cost, strict=True)]
