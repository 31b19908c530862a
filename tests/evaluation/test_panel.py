"""The panel: the same in any batch, order and shard, and after any stop; what it counts; and what it refuses."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made import made
from small import digits, trained, untouched
from subjects import Changed, brief, clear, linear
from torch import Tensor, nn

from spikeproof import parts
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.evaluation import panel as panel_file
from spikeproof.evaluation import tiers
from spikeproof.evaluation.examination import Examination
from spikeproof.evaluation.judge import short
from spikeproof.evaluation.panel import Asked, Panel, evaluate
from spikeproof.losses import margin
from spikeproof.metrics.robustness import clopper_pearson, robust
from spikeproof.metrics.verdict import verdict_of
from spikeproof.rows import Row
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys
from spikeproof.threats.linf import Linf
from spikeproof.types import Neuron, Rule
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

X, Y, IDS = digits(12)
X = X.double()  # where the rounding of the kernels, which may depend on the batch, flips no spike
EPS = 0.05


def panel(victim: Victim, index: Any = slice(None), *, tier: str = "smoke", batch_size: int = 64, **more: Any) -> Panel:
    asked = Asked(tier, Linf(EPS), str(EPS), ATan(), batch_size=batch_size, **more)
    return Panel(victim, Batch.of(victim, X[index], Y[index], IDS[index], 0), asked)


def rows_of(*panels: Panel) -> list[Row]:
    return [row for one in panels for piece in one.run() for row in piece]


def attacks(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["kind"] == "attack"]


def fooled(rows: list[Row]) -> set[tuple[str, int, int]]:
    return {(row["attack"], row["image"], row["attacked"]) for row in attacks(rows) if row["fooled"]}


def shorten(monkeypatch: pytest.MonkeyPatch, **few: Any) -> None:
    """Panels with attacks of a few steps, and audits that draw a few times."""

    def short_tier(*given: Any) -> tiers.Tier:
        found = brief(tiers.tier_of(*given), **few)
        return replace(found, effort=replace(found.effort, draws=6))

    monkeypatch.setattr(panel_file, "tier_of", short_tier)


# --- the same numbers however the images come ---


@pytest.mark.parametrize(("encoder", "tier"), [("direct", "quick"), ("phase", "smoke"), ("poisson", "smoke")])
def test_batches_order_and_shards_change_nothing(monkeypatch: pytest.MonkeyPatch, encoder: str, tier: str) -> None:
    """With shorter attacks on few images: one image at a time costs many times more."""
    noisy = encoder == "poisson"
    shorten(monkeypatch, audits=() if noisy else None, steps=8, queries=20, draws=3 if noisy else 10)
    victim = trained(encoder).double()
    count = 6
    with untouched(victim):
        whole = rows_of(panel(victim, slice(count), tier=tier))
        mixed = image_keys(5, IDS[:count]).argsort()
        others = {
            "one at a time": rows_of(panel(victim, slice(count), tier=tier, batch_size=1)),
            "four at a time, in another order": rows_of(panel(victim, mixed, tier=tier, batch_size=4)),
        }
        third = count // 3
        shards = rows_of(*(panel(victim, slice(k, k + third), tier=tier) for k in range(0, count, third)))
    assert 0 < len(fooled(whole)) < len(attacks(whole))
    for name, rows in others.items():
        assert fooled(rows) == fooled(whole), name
        assert robust(rows, "panel", EPS) == robust(whole, "panel", EPS)
        colours = [(row["code"], row["colour"], row["value"]) for row in rows if row["kind"] == "audit"]
        assert colours == [(row["code"], row["colour"], row["value"]) for row in whole if row["kind"] == "audit"], name
    assert fooled(shards) == fooled(whole)


def test_the_same_call_gives_the_same_rows_and_another_seed_others() -> None:
    victim = trained()
    few = X[:4].float(), Y[:4]
    one, again, other = (evaluate(victim, *few, ids=IDS[:4], tier="smoke", eps=EPS, seed=s).rows for s in (0, 0, 1))
    assert one == again
    assert one != other


class Stop(Exception):
    """The plug was pulled."""


@pytest.mark.parametrize("calls", [0, 2])
def test_a_panel_that_fails_midway_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    victim, source, control = trained(), trained("phase"), trained()
    real, left = panel_file.outcomes, calls

    def failing(*given: Any) -> list[Row]:
        nonlocal left
        left -= 1
        if left < 0:
            raise Stop
        return real(*given)

    monkeypatch.setattr(panel_file, "outcomes", failing)
    with untouched(victim, source, control), pytest.raises(Stop):
        evaluate(victim, X.float(), Y, ids=IDS, tier="smoke", eps=EPS, sources={"a": source}, control=control)


def test_sources_and_control_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, audits=("transfer", "control"))
    victim, source, control = trained(), trained("phase"), trained()
    x = X[:4].float()
    with untouched(victim, source, control):
        found = evaluate(victim, x, Y[:4], tier="standard", eps=EPS, sources={"a": source}, control=control)
    assert [row["code"] for row in found.findings if row["colour"] != "not run"] == ["D13", "D14", "D9", "D18"]
    assert "from a" in found.left()


# --- going on ---


def test_a_panel_goes_on_from_any_prefix_of_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches a stage, so that there is a middle to go on from."""
    shorten(monkeypatch)
    victim = trained().double()
    pieces = list(panel(victim, slice(6), batch_size=3).run())
    assert len(pieces) > 10
    assert all(pieces)
    for done in range(len(pieces) + 1):
        written = json.loads(json.dumps(pieces[:done]))
        assert list(panel(victim, slice(6), batch_size=3).run(written)) == pieces[done:]


def test_a_long_panel_goes_on_from_the_middle_of_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, audits=("power", "slack"))
    victim = trained().double()
    pieces = list(panel(victim, slice(6), tier="quick", batch_size=3).run())
    (middle, *_) = (
        at for at, piece in enumerate(pieces) if piece[0].get("attack") == "genetic-4000 of 32 after apgd-50 pdsg"
    )
    written = json.loads(json.dumps(pieces[: middle + 1]))
    assert list(panel(victim, slice(6), tier="quick", batch_size=3).run(written)) == pieces[middle + 1 :]


def test_what_is_written_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = trained().double()
    pieces = list(panel(victim).run())

    def never(*_: Any) -> list[Row]:
        raise Stop

    monkeypatch.setattr(panel_file, "outcomes", never)
    assert list(panel(victim).run(pieces)) == []
    with pytest.raises(Stop):
        list(panel(victim).run(pieces[:3]))


def test_a_victim_found_unfit_is_not_attacked_also_when_the_panel_goes_on() -> None:
    victim = trained().double()
    victim.body = Changed(victim.body, after=_Remembering()).eval()
    pieces = list(panel(victim).run())
    assert [piece[0]["code"] for piece in pieces] == ["D13", "D14"]
    assert list(panel(victim).run(pieces)) == []


class _Remembering:
    def __init__(self) -> None:
        self.last: Tensor | None = None

    def __call__(self, logits: Tensor, rule: Rule) -> Tensor:
        given = logits if self.last is None else logits + 0.3 * self.last
        self.last = logits.detach().mean(0, keepdim=True)
        return given


# --- what the rows say ---


@pytest.fixture(scope="module")
def quick() -> Examination:
    """A quick panel as it is, on a small trained network; not to be changed."""
    return evaluate(trained().double(), X, Y, ids=IDS, tier="quick", eps=EPS, batch_size=5)


@pytest.fixture(scope="module")
def right() -> set[int]:
    """Images that the network of `quick` gets right, by a plain forward."""
    logits = trained().double()(X, exact, image_keys(0, IDS))
    return set(IDS[logits.argmax(1) == Y].tolist())


def by_stage(rows: list[Row]) -> dict[str, dict[int, Row]]:
    stages: dict[str, dict[int, Row]] = {}
    for row in attacks(rows):
        assert row["image"] not in stages.setdefault(row["attack"], {})
        stages[row["attack"]][row["image"]] = row
    return stages


def test_every_stage_has_one_row_for_every_image(quick: Examination, right: set[int]) -> None:
    of = tiers.tier_of("quick", trained(), ATan(), Linf(EPS))
    stages = by_stage(quick.rows)
    assert list(stages) == [stage.name for stage in of.stages]
    for stage in of.stages:
        rows = stages[stage.name]
        assert set(rows) == set(IDS.tolist())
        assert {row["group"] for row in rows.values()} == {stage.group}
        assert {(row["kind"], row["protocol"], row["tier"], row["norm"]) for row in rows.values()} == {
            ("attack", "panel", "quick", "Linf")
        }
        assert {image for image, row in rows.items() if row["predicted"] == row["label"]} == right


def test_a_stage_attacks_what_the_ones_before_left_and_the_first_two_everyone(
    quick: Examination, right: set[int]
) -> None:
    standing, seen = set(right), 0
    for name, rows in by_stage(quick.rows).items():
        attacked = {image for image, row in rows.items() if not row.get("skipped")}
        assert attacked == (right if name in ("fgsm", "pgd-20") else standing)
        standing -= {image for image, row in rows.items() if row["fooled"]}
        seen += len(attacked) < len(right)
    assert seen, "a stage was to pass over some that had fallen"
    assert len(standing) == quick.robust.correct


def test_a_row_of_an_image_that_was_passed_over_says_who_broke_it_and_costs_nothing(
    quick: Examination, right: set[int]
) -> None:
    before: dict[int, Row] = {}
    logits = trained().double()(X, exact, image_keys(0, IDS))
    clean = dict(zip(IDS.tolist(), zip(logits.argmax(1).tolist(), short(-margin(logits, Y)), strict=True), strict=True))
    for rows in by_stage(quick.rows).values():
        for image, row in rows.items():
            if row.get("skipped"):
                assert row["fooled"]
                assert (row["forwards"], row["backwards"], row["distance"]) == (0, 0, 0.0)
                answer = (before[image]["attacked"], before[image]["margin"]) if image in right else clean[image]
                assert (row["attacked"], row["margin"]) == answer
                assert (image in before) or image not in right
        before |= {image: row for image, row in rows.items() if row["fooled"] and not row.get("skipped")}


def test_what_is_left_never_grows_and_ends_at_the_headline(quick: Examination) -> None:
    left = list(quick.left().values())
    assert left == sorted(left, reverse=True)
    assert left[-1] == pytest.approx(quick.robust.share)
    assert left[0] > left[-1]


def test_what_is_left_counts_what_fell_before() -> None:
    """PGD, which is run on everyone, does not raise up what FGSM had broken."""
    rows = [
        made("attack", image=image, attack=attack, fooled=broken)
        for attack, answers in (("fgsm", (True, False, False)), ("pgd", (False, True, False)))
        for image, broken in enumerate(answers)
    ]
    found = Examination("smoke", rows, clopper_pearson(3, 3), verdict_of([]))
    assert found.left() == {"fgsm": pytest.approx(2 / 3), "pgd": pytest.approx(1 / 3)}


def test_the_headline_is_the_worst_case_with_its_interval(quick: Examination, right: set[int]) -> None:
    n = len(X)
    ever = {row["image"] for row in attacks(quick.rows) if row["fooled"]}
    kept = n - len(ever)
    assert quick.robust == clopper_pearson(kept, n) == robust(quick.rows, "panel", EPS)
    assert quick.clean == clopper_pearson(len(right), n)
    assert (quick.asr_all.correct, quick.asr_all.total) == (n - kept, n)
    assert quick.asr_conditional == clopper_pearson(len(right) - kept, len(right))
    assert quick.asr_all.share == pytest.approx(1 - quick.robust.share)
    assert quick.asr_conditional.share == pytest.approx((quick.clean.share - quick.robust.share) / quick.clean.share)


def test_the_stages_that_everyone_meets_say_what_their_gradient_was(quick: Examination) -> None:
    for name, rows in by_stage(quick.rows).items():
        for row in rows.values():
            measured = name in ("fgsm", "pgd-20") and not row.get("skipped")
            assert ("zero_gradient" in row) == measured


def test_an_audit_s_row_says_which_evaluation_it_is_about(quick: Examination) -> None:
    assert [row["code"] for row in quick.findings[:2]] == ["D13", "D14"]
    for row in quick.findings:
        assert (row["evaluation"], row["eps_text"], row["tier"]) == ("panel", str(EPS), "quick")
        assert row["colour"] in ("red", "green", "not run")
        assert all(row[text] for text in ("says", "means", "mend"))
    assert json.loads(json.dumps(quick.rows)) == quick.rows


def test_audits_that_the_tier_leaves_out_are_said_not_to_be_run(quick: Examination) -> None:
    """A verdict rests on those that were run: which they were is beside it."""
    of = tiers.tier_of("quick", trained(), ATan(), Linf(EPS))
    codes = {name: parts.find("audits", name).code for name in parts.names("audits")}
    assert [row["code"] for row in quick.findings[: len(of.audits)]] == [codes[name] for name in of.audits]
    rest = quick.findings[len(of.audits) :]
    assert {row["code"] for row in rest} == {code for name, code in codes.items() if name not in of.audits}
    assert {(row["colour"], row["says"]) for row in rest} == {("not run", "not in the tier 'quick'")}
    assert set(quick.verdict.absent) == {row["code"] for row in quick.findings if row["colour"] == "not run"}


def test_the_text_names_every_stage_and_every_audit(quick: Examination) -> None:
    said = str(quick)
    assert all(f"after {name} " in said for name in quick.left())
    assert all(f"{row['code']:4s} {row['colour']:8s} {row['name']}: {row['says']}" in said for row in quick.findings)
    assert quick.verdict.word in said


@dataclass
class Tally:
    """How often a body was run, and how often with a way back; shared by its copies."""

    forwards: int = 0
    backwards: int = 0

    def __deepcopy__(self, memo: Any) -> Tally:
        return self

    def __call__(self, z: Tensor) -> Tensor:
        self.forwards += 1
        self.backwards += int(z.requires_grad)
        return z


@pytest.mark.parametrize("encoder", ["direct", "phase", "poisson"])
def test_every_pass_of_every_stage_is_counted(monkeypatch: pytest.MonkeyPatch, encoder: str) -> None:
    """Against a body that counts: beside the attack there are the verdict and, for everyone, one probe more."""
    shorten(monkeypatch, audits=())
    victim, tally = trained(encoder), Tally()
    victim.body = Changed(victim.body, before=tally).eval()
    verdicts, draws = (20, 3) if encoder == "poisson" else (1, 1)
    before, met = copy.copy(tally), set()
    x = X[:4].float()
    y = victim(x, exact, image_keys(0, IDS[:4])).argmax(1)
    of = Panel(victim, Batch.of(victim, x, y, IDS[:4], 0), Asked("standard", Linf(1e-4), "1e-4", ATan(), batch_size=8))
    for piece in of.run():
        spent = (tally.forwards - before.forwards, tally.backwards - before.backwards)
        before = Tally(tally.forwards, tally.backwards)
        row = piece[0]
        if row["kind"] == "attack" and not row.get("skipped"):
            probe = draws if "zero_gradient" in row else 0
            if met:  # before the very first one came the look for probabilities and the preflight
                # The passes of a batch are those of the image that stood longest.
                forwards, backwards = (max(row[what] for row in piece) for what in ("forwards", "backwards"))
                assert spent[1] == backwards + probe, row["attack"]
                # A search asks for several points of an image in one pass.
                several = row["group"] == "search"
                assert spent[0] <= forwards + verdicts + probe if several else spent[0] == forwards + verdicts + probe
            met.add(row["attack"])
    assert met == {stage.name for stage in of.tier.stages}


# --- a number that may not be told ---


def test_where_the_victim_is_unfit_there_is_no_number() -> None:
    victim = trained()
    victim.body = Changed(victim.body, after=_Remembering()).eval()
    found = evaluate(victim, X.float(), Y, tier="quick", eps=EPS)
    assert (found.verdict.word, found.attacked, found.left()) == ("not evaluated", False, {})
    assert "D13" in found.verdict.red
    assert "no number" in str(found)
    for number in (lambda: found.robust, lambda: found.asr_conditional, lambda: found.asr_all):
        with pytest.raises(SpikeproofError, match=r"an evaluation that holds, got not evaluated.*D13"):
            number()


def test_where_an_audit_says_so_the_attacks_numbers_are_not_told_either() -> None:
    """A network that nothing breaks, not even an attack without a limit."""
    constant = linear(after=lambda logits, rule: 0.0 * logits + torch.tensor([3.0, 0.0]).double())
    found = evaluate(constant, clear(6), torch.zeros(6, dtype=torch.int64), tier="quick", eps=EPS)
    assert found.attacked
    assert found.verdict.word == "not evaluated"
    assert {"D3", "D6"} <= set(found.verdict.red)
    with pytest.raises(SpikeproofError, match="D3"):
        _ = found.robust
    assert "  after " not in str(found)
    assert "To mend: " in str(found)


def test_limits_are_an_argument() -> None:
    wide = {"along_gradient": {"limit": 0.0, "beaten": 1.0}, "random_search": {"limit": 1.0}}
    found = evaluate(linear(), clear(4), torch.zeros(4, dtype=torch.int64), tier="quick", eps=EPS, limits=wide)
    limits = {row["code"]: row["limit"] for row in found.findings}
    assert (limits["D5"], limits["D10"]) == (0.0, 1.0)


def test_images_that_are_all_wrong_when_clean_are_not_attacked_and_nothing_is_said() -> None:
    victim = trained()
    wrong = (victim(X.float(), exact, image_keys(0, IDS)).argmax(1) + 1) % 10
    found = evaluate(victim, X.float(), wrong, tier="quick", eps=EPS)
    assert all(row["skipped"] and row["fooled"] for row in attacks(found.rows))
    assert found.clean.share == 0.0
    assert (found.verdict.word, found.verdict.red, found.verdict.green) == ("not evaluated", (), ())


# --- what is refused: what was expected, what came, the mend ---


class Cut(nn.Identity):
    """A layer that lets no gradient through."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


@dataclass(frozen=True)
class Detached:
    """An encoder that lets no gradient through."""

    stochastic: bool = False

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        return x.detach().expand(steps, *x.shape)


@dataclass(frozen=True)
class Poisoned:
    """A rule whose gradient is NaN."""

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        spikes = ATan()(neuron, currents, site)
        if spikes.requires_grad:
            spikes.register_hook(lambda g: g * float("nan"))
        return spikes


def of_body(change: Callable[[Any], Any]) -> Victim:
    """A trained victim with its body changed in place."""
    victim = trained()
    with torch.no_grad():
        change(victim.body)
    return victim


def cut(body: Any) -> None:
    body.bn1 = nn.Sequential(body.bn1, Cut()).eval()


def softmaxed() -> Victim:
    victim = trained()
    victim.body = Changed(victim.body, after=lambda logits, rule: logits.softmax(1)).eval()
    return victim


def encoded_by(encoder: Any) -> Victim:
    victim = trained()
    victim.encoder = encoder
    return victim


GOOD: dict[str, Any] = {"images": X.float(), "labels": Y, "tier": "smoke", "eps": EPS}


@pytest.mark.parametrize(
    ("victim", "changes", "said"),
    [
        (softmaxed, {}, "expected logits, got probabilities.*take the softmax out"),
        (lambda: of_body(cut), {}, r"a cut graph.*the graph is cut at the layer 'bn1\.1'"),
        (lambda: encoded_by(Detached()), {}, r"a cut graph.*the graph is cut at the encoder Detached\("),
        (lambda: of_body(lambda b: b.conv1.weight.mul_(float("nan"))), {}, "expected finite.*got.*NaN.*mend"),
        (lambda: of_body(lambda b: b.fc.weight.mul_(float("nan"))), {}, "expected finite logits, got NaN.*mend"),
        (trained, {"rule": Poisoned()}, "expected finite gradients, got NaN.*mend"),
        (trained, {"images": X.float() * float("nan")}, "pixels in .0,1., got values from nan"),
        (trained, {"images": 255 * X.float()}, "pixels in .0,1., got values from 0 to 255; to mend: divide by 255"),
        (trained, {"images": X.float().expand(-1, 3, -1, -1)}, r"images of shape \(B,1,H,W\), got shape \(12, 3, 8"),
        (trained, {"images": (255 * X).byte()}, "floating-point pixels.*got torch.uint8; to mend"),
        (trained, {"labels": Y + 5}, "labels in 0..9, got labels from 5 to 14; to mend"),
        (trained, {"labels": Y - 1}, "labels in 0..9, got labels from -1"),
        (trained, {"labels": Y[:5]}, r"12 integer labels, got torch.int64 of shape \(5,\)"),
        (trained, {"labels": Y.float()}, "12 integer labels, got torch.float32"),
        (lambda: trained().train(), {}, r"eval mode, got a victim in train mode; to mend: call victim.eval\(\)"),
        (trained, {"images": X[:0].float(), "labels": Y[:0]}, "one image or more, got 128, 0 images"),
    ],
    ids=["softmax", "cut layer", "cut encoder", "NaN weights", "NaN readout", "NaN gradient", "NaN pixels", "0..255",
         "colours", "bytes", "labels above", "labels below", "few labels", "real labels", "train mode", "no images"],
)  # fmt: skip
def test_a_user_s_mistake_is_refused(victim: Callable[[], Victim], changes: dict[str, Any], said: str) -> None:
    wrong = victim()
    with pytest.raises(SpikeproofError, match=said):
        evaluate(wrong, **{**GOOD, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tier": "thorough"}, "a tier, got 'thorough'; valid: smoke, quick, standard, audit"),
        ({"eps": "eight"}, "eps as a number >= 0.*got 'eight'"),
        ({"eps": -0.1}, "eps as a number >= 0.*got -0.1"),
        ({"eps": float("nan")}, "eps as a number >= 0.*got nan"),
        ({"norm": "L7"}, "a part of threats, got 'l7'; valid: counts, .* l1, l2, linf, polarity"),
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"limits": {"two_steps": {}}}, "a part of audits, got 'two_steps'; valid: accounting, "),
        ({"limits": {"one_step": {"most": 0.1}}}, "an option of audits 'one_step', got 'most'; valid: limit=0.01"),
        ({"ids": IDS[:5]}, "12 different ids, one for each image, got 5"),
        ({"ids": torch.zeros_like(IDS)}, "12 different ids, one for each image, got 12, 1 of them different"),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_argument_is_a_usage_error(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        evaluate(trained(), **{**GOOD, **changes})


def test_the_arguments_of_others_are_not_changed() -> None:
    x, y, ids = X[:4].float(), Y[:4].clone(), IDS[:4].clone()
    evaluate(trained(), x, y, ids=ids, tier="smoke", eps=EPS)
    assert torch.equal(x, X[:4].float())
    assert torch.equal(y, Y[:4])
    assert torch.equal(ids, IDS[:4])


def test_dropping_what_is_fooled_changes_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stage for stage the same images fall, at a lower price."""
    shorten(monkeypatch, audits=(), steps=8, queries=20, draws=10)
    every, few = (rows_of(panel(trained().double(), tier="quick", survivors=s)) for s in (False, True))
    assert [(r["attack"], r["image"], r["fooled"]) for r in attacks(every)] == [
        (r["attack"], r["image"], r["fooled"]) for r in attacks(few)
    ]
    assert any(r["fooled"] for r in attacks(few))
    costs = [sum(r["forwards"] for r in attacks(rows)) for rows in (every, few)]
    assert costs[1] < costs[0]


@pytest.mark.parametrize(("precision", "told"), [("tf32", 1), ("ieee", 0), ("none", 0)])
def test_tf32_is_named_and_full_precision_is_quiet(monkeypatch: pytest.MonkeyPatch, precision: str, told: int) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "conv", SimpleNamespace(fp32_precision=precision))
    for device, count in (("cuda", told), ("cpu", 0)):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            panel_file._warn_of_rounding(torch.device(device))
        assert [str(one.message)[:24] for one in said] == ["convolutions run in TF32"] * count
