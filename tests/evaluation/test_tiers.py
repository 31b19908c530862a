"""The tiers: which stages a victim and a threat get, in which order, and that every one of them can be run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from small import digits
from subjects import brief, clear, linear
from torch import Tensor

from spikeproof import parts
from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.pgd import PGD
from spikeproof.attacks.random_corners import RandomCorners
from spikeproof.attacks.square import Square
from spikeproof.errors import UsageError
from spikeproof.estimators.eot import EOT
from spikeproof.estimators.smooth_twin import SmoothTwin
from spikeproof.estimators.spsa import SPSA
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation import panel
from spikeproof.evaluation.roles import GROUPS
from spikeproof.evaluation.stages import Stage, plain_case
from spikeproof.evaluation.tiers import TIERS, Tier, tier_of
from spikeproof.losses import cross_entropy, dlr, margin
from spikeproof.rules.atan import ATan
from spikeproof.rules.bptr import BPTR
from spikeproof.rules.triangle import Triangle
from spikeproof.tensors import exact, image_keys
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.types import Rule, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

ENCODERS = parts.names("encoders")
CASCADE = ["first", "dense twin", "white box", "more effort", "random", "transfer", "black box", "search"]
LINF = Linf("8/255")
CODES = {name: parts.find("audits", name).code for name in parts.names("audits")}


@cache
def victim_of(encoder: str = "direct", classes: int = 10) -> Victim:
    """An untrained network in eval mode; not to be changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = parts.build(
            "models",
            {"name": "small_sew_resnet", "width": 4},
            in_channels=1,
            classes=classes,
            neuron=lambda: parts.build("neurons", {"name": "if"}),
        )
    return Victim(body, parts.build("encoders", {"name": encoder}), 2).eval()


def tier(name: str, encoder: str = "direct", threat: Threat = LINF, rule: Rule | None = None, **more: Any) -> Tier:
    return tier_of(name, victim_of(encoder, more.pop("classes", 10)), rule or ATan(), threat, **more)


def names(of: Tier, group: str | None = None) -> list[str]:
    return [stage.name for stage in of.stages if group in (None, stage.group)]


@cache
def every_tier() -> list[Tier]:
    """Every combination of what decides the stages."""
    return list(_every_tier())


def _every_tier() -> Iterator[Tier]:
    threats: list[Threat] = [LINF, L2(0.5), L1(5.0), Linf(0.1, surface="encoded")]
    rules: list[Rule] = [ATan(), Triangle(), BPTR()]
    for name, encoder, threat, rule, classes in itertools.product(TIERS, ENCODERS, threats, rules, (2, 3, 10)):
        yield tier(name, encoder, threat, rule, classes=classes)


# --- what rows call the stages ---


class OneGradient(Victim):
    """A network in which no neuron is known."""

    one_gradient = True


class Asked(Victim):
    """A network without a gradient."""

    differentiable = False

    def supports(self, estimator: object) -> bool:
        return isinstance(estimator, SPSA)


NETWORKS = {"known neurons": Victim, "one gradient": OneGradient, "only asked": Asked}
THREATS = {"Linf": LINF, "L2": L2(0.5), "L1": L1(5.0), "encoded": Linf(0.1, surface="encoded")}
TRAINED = {"atan": ATan(), "triangle 1": Triangle(alpha=1.0), "bptr": BPTR()}
NAMES = [json.loads(line) for line in (Path(__file__).parent / "stage_names.jsonl").read_text("utf-8").splitlines()]
"""Written down once: what rows on disk call the stages must not change by itself."""


@pytest.mark.parametrize("of", NAMES, ids=lambda of: " ".join(str(of[key]) for key in list(of)[:-1]))
def test_stages_are_called_what_rows_call_them(of: dict[str, Any]) -> None:
    known = victim_of(of["encoder"], of["classes"])
    victim = NETWORKS[of["network"]](known.body, known.encoder, known.steps).eval()
    sources = {name: victim_of("phase", of["classes"]) for name in of["sources"]}
    found = tier_of(of["tier"], victim, TRAINED[of["rule"]], THREATS[of["threat"]], sources)
    assert names(found) == of["names"]


def test_a_stage_is_called_by_its_attack_its_estimator_and_its_variant() -> None:
    case = plain_case(victim_of(), ATan(), LINF)
    assert Stage("white box", case, "pgd-20").name == "pgd-20"
    assert Stage("white box", case, "pgd-20", "assg", "margin").name == "pgd-20 assg margin"
    assert Stage("white box", case, "pgd-20", variant="secant").name == "pgd-20 secant"


def test_only_the_first_step_and_the_plain_attack_see_everyone() -> None:
    case = plain_case(victim_of(), ATan(), LINF)
    seen = {role: (stage.group, stage.everyone) for role in GROUPS if (stage := Stage(role, case, "it"))}
    assert seen == {
        "one step": ("first", True),
        "plain": ("first", True),
        "long": ("first", False),
        "dense twin": ("dense twin", False),
        "white box": ("white box", False),
        "more effort": ("more effort", False),
        "random": ("random", False),
        "transfer": ("transfer", False),
        "black box": ("black box", False),
        "search": ("search", False),
    }


AUDITS = {
    "smoke": "D13 D14 D1 D3 D5 D6 D10 D16 D17 D19 D22",
    "quick": "D13 D14 D1 D3 D5 D6 D6d D6t D8 D10 D15 D16 D17 D19 D21 D22",
    "standard": "D13 D14 D1 D3 D4 D5 D6 D6d D6t D8 D10 D11 D12 D15 D16 D17 D18 D19 D20 D21 D22",
    "audit": "D13 D14 D1 D2 D3 D4 D5 D6 D6d D6t D7 D8 D9 D10 D11 D12 D15 D16 D17 D18 D19 D20 D21 D22",
}


@pytest.mark.parametrize("name", TIERS)
def test_the_audits_of_a_tier_run_by_their_codes_and_what_something_was_given_for_comes_last(name: str) -> None:
    def codes(**given: Any) -> list[str]:
        return [CODES[audit] for audit in tier(name, **given).audits]

    own = AUDITS[name].split()
    assert codes() == own
    added = [code for code in ("D9", "D18") if code not in own]
    assert codes(sources={"a": victim_of()}, control=victim_of()) == [*own, *added]


def test_audits_of_a_gradient_are_unfit_for_a_network_that_can_only_be_asked() -> None:
    known = victim_of()
    asked, one = (kind(known.body, known.encoder, known.steps).eval() for kind in (Asked, OneGradient))
    of = tier_of("quick", asked, ATan(), LINF)
    assert [CODES[audit] for audit in of.audits] == ["D13", "D14", "D19", "D22"]
    assert {CODES[audit] for audit in of.unfit} == set(AUDITS["quick"].split()) - {"D13", "D14", "D19", "D22"}
    assert set(of.unfit.values()) == {"the network can only be asked"}
    assert dict(tier_of("smoke", one, ATan(), LINF).unfit) == {
        "surrogates": "every rule gives this network's own gradient"
    }


def test_an_unknown_tier_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"expected a tier, got 'thorough'; valid: smoke, quick, standard, audit"):
        tier("thorough")


def test_stages_have_names_of_their_own_and_the_order_of_the_cascade() -> None:
    for of in every_tier():
        assert len(set(names(of))) == len(of.stages)
        groups = [stage.group for stage in of.stages]
        assert groups == sorted(groups, key=CASCADE.index)


def test_the_one_step_and_the_plain_pgd_come_first_and_see_everyone() -> None:
    for of in every_tier():
        first, second = of.stages[:2]
        assert first.name == "fgsm"
        assert second.name.startswith("pgd-")
        assert [stage for stage in of.stages if stage.everyone] == [first, second]


def test_audits_exist_and_the_preflight_comes_first() -> None:
    for name in TIERS:
        audits = tier(name).audits
        assert audits[:2] == ("determinism", "same_model")
        assert len(set(audits)) == len(audits)
        assert set(audits) <= set(parts.names("audits"))
    assert set(tier("audit").audits) == set(parts.names("audits"))


@pytest.mark.parametrize("name", TIERS)
def test_what_a_tier_runs_is_audited(name: str) -> None:
    """A tier with stages of a group has the audit that reads what they alone broke."""
    readers = {"random": "random_search", "black box": "black_box", "dense twin": "dense_twin",
               "more effort": "more_effort", "white box": "surrogates"}  # fmt: skip
    for threat in (LINF, L2(1.0), L1(10.0)):
        of = tier(name, threat=threat)
        assert {readers[group] for group in readers if names(of, group)} <= set(of.audits)
        assert (name == "audit") == bool(names(of, "black box"))
        assert (name != "smoke") == bool(names(of, "search"))


def test_a_higher_tier_does_more() -> None:
    ladder = [tier(name) for name in TIERS]
    for low, high in itertools.pairwise(ladder):
        assert set(low.audits) <= set(high.audits)
        assert len(low.stages) < len(high.stages)
        assert (low.effort.images, low.effort.steps) <= (high.effort.images, high.effort.steps)
        assert low.effort.draws <= high.effort.draws


def test_the_smoke_tier_is_a_step_a_short_pgd_and_noise() -> None:
    assert names(tier("smoke")) == ["fgsm", "pgd-10", "corners-20"]
    basic = {"determinism", "same_model", "one_step", "unbounded", "zero_gradients", "saturation"}
    assert basic <= set(tier("smoke").audits)


def test_the_quick_tier_goes_on_by_queries_from_where_a_gradient_led() -> None:
    (last,) = (stage for stage in tier("quick").stages if stage.role == "search")
    assert last is not None
    assert last == tier("quick").stages[-1]
    assert last.case.after is not None
    assert isinstance(last.case.after.attack, APGD)
    assert (last.case.after.loss, last.case.after.pooling) == (margin, "tie_spread")
    assert not last.asks_gradient


def test_a_search_starts_from_a_black_box_where_there_is_no_gradient() -> None:
    asked = Asked(victim_of().body, victim_of().encoder, 2).eval()
    for threat, start in ((LINF, Square), (L2(0.5), RandomCorners)):
        (search,) = (stage for stage in tier_of("quick", asked, ATan(), threat).stages if stage.role == "search")
        assert search.case.after is not None
        assert isinstance(search.case.after.attack, start)


def test_what_a_stage_is_compared_with_differs_in_what_its_role_is_about_alone() -> None:
    """The dense twin in the backward pass, another rule in the estimator, chance in the attack: nothing else."""
    compared = tier("standard").compared
    assert compared == {"pgd-20 dense twin", "apgd-100 pdsg margin", "corners-50"}
    stages = {stage.name: stage for stage in tier("standard").stages}
    dense, plain = stages["pgd-20 dense twin"], stages["pgd-20"]
    assert dense.compares_with(plain)
    assert not replace(dense, case=replace(dense.case, loss=margin)).compares_with(plain)
    assert not replace(dense, case=replace(dense.case, attack=PGD(steps=21))).compares_with(plain)
    assert not stages["genetic-8000 of 64 after apgd-50 dense twin"].compares_with(plain)
    assert "from a" in tier("quick", sources={"a": victim_of()}).compared


def test_no_attack_is_run_twice_and_no_two_have_one_name() -> None:
    known = victim_of()
    others = [kind(known.body, known.encoder, known.steps).eval() for kind in (OneGradient, Asked)]
    more = [tier_of(name, o, ATan(), threat) for name in TIERS for o in others for threat in THREATS.values()]
    for of in [*every_tier(), *more]:
        cases = [stage.case for stage in of.stages]
        assert not any(a == b for a, b in itertools.combinations(cases, 2))
        assert len(set(names(of))) == len(of.stages)


def test_what_is_compared_begins_at_the_same_points() -> None:
    for of in (tier("audit"), tier("quick", sources={"a": victim_of()})):
        stages = {stage.name: stage for stage in of.stages}
        pairs = [(a, b) for a, b in itertools.permutations(of.stages, 2) if a.compares_with(b)]
        kept = [(a, b) for a, b in pairs if a.role in ("dense twin", "white box", "transfer")]
        assert len(kept) >= 2 or "from a" in stages
        assert all(a.key == b.key for a, b in kept)


def test_the_highest_tier_has_what_each_reported_number_needs() -> None:
    said = names(tier("audit"))
    for wanted in ("apgd-100", "apgd-100 dlr", "apgd-t-100", "fab-t-100", "square-2000", "corners-200",
                   "pgd-20 smooth twin", "mi-fgsm-20 mdse", "apgd-100 rga margin", "apgd-100 pdsg margin",
                   "apgd-100 bptr margin", "apgd-100 hart 0.5 margin", "apgd-100 hart 1 margin",
                   "apgd-100 hart 2 margin", "genetic-5000 of 32 after apgd-100 dense twin, to the end"):  # fmt: skip
        assert wanted in said
    assert sum("assg" in name for name in said) >= 4
    more = names(tier("audit"), "more effort")
    assert more == ["sa-pgd-200 assg margin", "pgd-40 restarts 10"]
    assert "spsa" in names(tier("audit"), "black box")


@pytest.mark.parametrize(("name", "budget"), [("quick", 400), ("standard", 2000), ("audit", 20_000)])
def test_a_tier_has_a_budget(name: str, budget: int) -> None:
    """Of an image that nothing breaks, on a network where a search gains nothing over the gradient."""
    victim, x = linear(), clear(1)
    batch = Batch.of(victim, x, torch.zeros(1, dtype=torch.int64), torch.arange(1), 0)
    of = panel.Panel(victim, batch, panel.Asked(name, Linf(0.005), "0.005", ATan()))
    of.tier = replace(of.tier, audits=())
    rows = [row for piece in of.run() for row in piece if row["kind"] == "attack"]
    assert not any(row["fooled"] for row in rows)
    assert budget / 2 < sum(row["forwards"] + row["backwards"] for row in rows) <= budget


# --- what the encoder decides ---


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", TIERS)
def test_only_stochastic_victims_get_eot(name: str, encoder: str) -> None:
    stages = tier(name, encoder).stages
    kinds = {type(stage.case.estimator) for stage in stages}
    assert (EOT in kinds) == (encoder == "poisson")
    assert (WhiteBox in kinds) == (encoder != "poisson")


def test_behind_the_encoder_nothing_is_random_and_no_code_is_searched() -> None:
    for encoder in ENCODERS:
        stages = tier("audit", encoder, Linf(0.1, surface="encoded")).stages
        assert EOT not in {type(stage.case.estimator) for stage in stages}
        assert {stage.case.encoder for stage in stages} == {None}
        assert not [s.name for s in stages if s.name.startswith(("square", "code-search"))]


def test_codes_of_pixels_are_searched_and_secants_reach_as_far_as_the_budget() -> None:
    for encoder, searched, secant in (("direct", 0, 0), ("poisson", 0, 0), ("latency", 1, 0), ("phase", 1, 1)):
        said = names(tier("audit", encoder))
        assert sum(name.startswith("code-search") for name in said) == searched
        assert sum(name.endswith(" secant margin") for name in said) == secant
    for encoder in ("phase", "latency"):
        for eps, reach in (("8/255", 8), (0.4 / 255, 1), (1.0, 255)):
            case = plain_case(victim_of(encoder), ATan(), Linf(eps))
            assert case.encoder is not None
            assert case.encoder.reach == reach  # type: ignore[attr-defined]
    assert plain_case(victim_of("direct"), ATan(), LINF).encoder is None


def test_the_plain_case_is_pgd_on_the_cross_entropy_under_the_rule_of_training() -> None:
    case = plain_case(victim_of(), Triangle(), LINF, steps=7)
    assert (case.attack, case.estimator) == (parts.build("attacks", {"name": "pgd", "steps": 7}), WhiteBox(Triangle()))
    assert (case.loss, case.encoder, case.pooling, case.source) == (cross_entropy, None, None, None)


# --- what the threat and the number of classes decide ---


@pytest.mark.parametrize("threat", [L2(0.5), L1(5.0)], ids=repr)
@pytest.mark.parametrize("name", TIERS)
def test_attacks_of_one_norm_alone_are_left_out_of_the_others(name: str, threat: Threat) -> None:
    said = names(tier(name, "phase", threat))
    assert not [one for one in said if one.startswith(("square", "sa-pgd", "code-search"))]
    assert len(said) >= len(names(tier(name, "phase"))) - 2


def test_losses_that_need_more_classes_give_way_to_the_margin() -> None:
    for classes in (2, 3, 4):
        stages = tier("audit", classes=classes).stages
        losses = {stage.name: stage.case.loss for stage in stages}
        aimed = {loss for one, loss in losses.items() if one.startswith("apgd-t")}
        plain = {loss for one, loss in losses.items() if not one.startswith("apgd-t")}
        assert (dlr in plain) == (classes >= 3)
        assert aimed == {dlr if classes >= 4 else margin}


def test_a_rule_that_is_no_surrogate_has_no_twin_and_no_sharpness_to_adapt() -> None:
    stages = tier("audit", rule=BPTR()).stages
    assert SmoothTwin not in {type(stage.case.estimator) for stage in stages}


def test_other_networks_that_are_given_are_sources_of_every_tier() -> None:
    sources = {"a": victim_of(), "b": victim_of("phase")}
    for name in TIERS:
        of = tier(name, sources=sources)
        added = [stage for stage in of.stages if stage.case.source is not None]
        assert [stage.name for stage in added] == ["from a", "from b"]
        assert of.audits.count("transfer") == 1
        assert all(stage.group == "transfer" and not stage.everyone for stage in added)


# --- every stage can be run ---


def shorten(monkeypatch: pytest.MonkeyPatch, audits: Sequence[str] | None = ("budget_kept", "accounting")) -> None:
    """Panels with attacks of a few steps, and no audit that attacks for itself where nothing else is said."""
    monkeypatch.setattr(panel, "tier_of", lambda *given: brief(tier_of(*given), audits))


def run(victim: Victim, x: Tensor, name: str, threat: Threat, **more: Any) -> None:
    """On images that are all right when clean, under a budget so small that nearly all of them meet every stage."""
    ids = torch.arange(len(x))
    y = victim(x, exact, image_keys(0, ids)).argmax(1)
    found = panel.evaluate(victim, x, y, tier=name, norm=threat.norm, eps=threat.eps, **more)
    of = tier_of(name, victim, ATan(), threat, more.get("sources"))
    ran = [row for row in found.rows if row["kind"] == "attack" and not row.get("skipped")]
    assert {row["attack"] for row in ran} == set(names(of))
    assert sorted(row["code"] for row in found.findings) == sorted(CODES.values())


@pytest.mark.parametrize(("encoder", "classes"), [("direct", 3), ("phase", 2), ("latency", 10), ("poisson", 2)])
def test_every_stage_runs_on_every_encoder(monkeypatch: pytest.MonkeyPatch, encoder: str, classes: int) -> None:
    shorten(monkeypatch)
    run(victim_of(encoder, classes), digits(2)[0], "standard" if encoder == "poisson" else "audit", Linf(1e-3))


@pytest.mark.parametrize("threat", [L2(0.01), L1(0.02)], ids=repr)
def test_every_stage_runs_in_every_norm(monkeypatch: pytest.MonkeyPatch, threat: Threat) -> None:
    shorten(monkeypatch)
    run(linear(), clear(4, spread=0.1), "audit", threat)


@pytest.mark.parametrize("threat", [Linf(1e-3), L2(0.01), L1(0.02)], ids=repr)
def test_the_quick_tier_runs_to_the_end_on_two_classes(threat: Threat) -> None:
    """As it is, nothing made shorter."""
    run(linear(), clear(4, spread=0.1), "quick", threat)


def test_the_highest_tier_runs_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every audit."""
    shorten(monkeypatch, None)
    run(linear(), clear(4, spread=0.1), "audit", Linf(1e-3), sources={"twin": linear(b=-0.2)}, control=linear())
