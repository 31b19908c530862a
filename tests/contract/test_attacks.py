"""Every attack: inside the budget, the same for an image in any company, and nothing left behind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from small import digits, trained, untouched
from torch import Tensor

from spikeproof import parts, tensors
from spikeproof.asking import at_once
from spikeproof.errors import UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import cross_entropy
from spikeproof.rules.atan import ATan
from spikeproof.tensors import fold, image_keys, normal, uniform
from spikeproof.threats.delete import Delete
from spikeproof.threats.flips import Flips
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.threats.retime_b1 import RetimeB1
from spikeproof.types import EventThreat, Objective, RetimeThreat, Rule, Score
from spikeproof.victims.scene import Scene
from spikeproof.victims.victim import Victim

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "pgd": [{}, {"random_start": False}, {"restarts": 2, "keep": "last"}],
    "code_search": [{"p": 0.05}, {"p": 0.05, "restarts": 2}],  # with p = 1 it is done before its draws tell
    "apgd": [{}, {"targets": 2, "restarts": 2}],
    "fab": [{}, {"targets": 3, "restarts": 2}],
    "gumbel": [{"draws": 1}],
    "retiming": [{"over": 0.5}],  # in few steps the usual weight does little but bring the soft grid into the budget
}
"""Options worth an examination of their own; every other attack is examined with its defaults."""

CONVERGES = {"gumbel", "sparse_dynamic"}
"""What draws, and may end at the best point whatever is drawn, or draws for what has no gradient alone."""

BRIEF = {"steps": 8, "queries": 40, "draws": 10, "rounds": 2, "first": 3, "levels": 51}
"""Shorter than the defaults, or coarser, for an attack with such an option: what is examined does not depend on it."""

BRIEFER = {**BRIEF, "steps": 5, "draws": 3}
"""Through a network, every line of an attack is run that in more steps would be."""

EVEN = {"fab": 3}
"""Attacks whose every step is like the one before, with the number of them that tells all, here and through a network:
what FAB does in a step, a gradient for each class, is the dearest of all."""

ESTIMATOR = WhiteBox(ATan())
B = 8
KEYS = image_keys(4, torch.arange(B))
SLOPE = normal(KEYS[:1], (1, 6, 6)).double()[0]
X0 = (1.4 * uniform(KEYS, (1, 6, 6)).double() - 0.2).clamp(0, 1)  # many pixels at the ends of the range


class Stop(Exception):
    """Raised inside an objective."""


class Curved:
    """A bent objective in float64, so that points along the way differ; pixels are their own code, in one time step."""

    classes = 4

    def __init__(self, keys: Tensor = KEYS, above: float = 1.0, *, final: bool = False) -> None:
        self.keys, self.above, self.final = keys, above, final

    def __call__(self, x: Tensor, rule: Rule, salt: int) -> Score:
        loss = ((x * SLOPE).flatten(1).sum(1)).tanh() + (SLOPE * (x - 0.3).square()).flatten(1).sum(1)
        return Score(loss - self.above, loss.detach() > self.above)

    def of(self, index: Tensor) -> Objective:
        return Curved(self.keys[index], self.above, final=self.final)

    def aimed(self, rank: int) -> Objective:
        """Every class is met on the same way, the likelier the sooner."""
        return Curved(self.keys, self.above + 0.1 * (rank - 1), final=self.final)

    difference = aimed

    def encode(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1)

    def encoded(self) -> Objective:
        return Behind(self, self.keys, self.above)


class Behind(Curved):
    """The same behind the code; counts for its front."""

    def __init__(self, front: Curved, keys: Tensor, above: float) -> None:
        super().__init__(keys, above, final=front.final)
        self.front = front

    def __call__(self, z: Tensor, rule: Rule, salt: int) -> Score:
        return self.front(z.squeeze(1), rule, salt)


class Stopping(Curved):
    """Refuses its first call."""

    def __call__(self, x: Tensor, rule: Rule, salt: int) -> Score:
        raise Stop

    def of(self, index: Tensor) -> Objective:
        return self

    def aimed(self, rank: int) -> Objective:
        return self

    difference = aimed


def attack(spec: dict[str, Any], lengths: Mapping[str, int] = BRIEF) -> Any:
    target = parts.find("attacks", spec["name"])
    brief = {k: v for k, v in lengths.items() if k in inspect.signature(target).parameters}
    if spec["name"] in EVEN:
        brief["steps"] = EVEN[spec["name"]]
    return parts.build("attacks", {**brief, **spec})


def clean(threat: Any) -> Tensor:
    """The clean points: of threats of whole events, ones and zeros, and where they move in time six steps of them."""
    if isinstance(threat, RetimeThreat):
        return (X0[:, 0] > 0.5).to(X0)
    return (X0 > 0.5).to(X0) if isinstance(threat, EventThreat) else X0


def takes(spec: dict[str, Any], threat: Any) -> bool:
    """Whether the attack knows this norm; one that does not must say so before it asks anything."""

    try:
        attack(spec)(Stopping(), clean(threat), threat, ESTIMATOR, KEYS)
    except Stop:
        return True
    except UsageError as error:
        assert threat.norm in str(error)  # noqa: PT017 - any other refusal is a defect, and fails the collection
        return False
    raise AssertionError(f"{spec} returned without asking the objective")


SPECS = [{"name": name, **options} for name in parts.names("attacks") for options in VARIANTS.get(name, [{}])]
BALLS = [Linf(0.1), L2(0.8), L1(2.0)]
PAIRS: list[tuple[dict[str, Any], Any]] = [(spec, ball) for spec in SPECS for ball in BALLS if takes(spec, ball)]
STEPPING = {spec["name"] for spec, _ in PAIRS}
"""Attacks in balls: they need not know that there are events, and are examined in balls alone."""
PAIRS += [
    (spec, moves)
    for spec in SPECS
    for moves in (Flips(5), Delete(3), RetimeB1(6))
    if spec["name"] not in STEPPING and takes(spec, moves)
]
each_attack = pytest.mark.parametrize(("spec", "threat"), PAIRS, ids=str)


def run(spec: dict[str, Any], threat: Any, *, index: Any = slice(None), keys: Tensor = KEYS) -> Any:
    return attack(spec)(Curved(keys[index]), clean(threat)[index], threat, ESTIMATOR, keys[index])


FOUND: dict[str, Tensor] = {}


def found(spec: dict[str, Any], threat: Any) -> Tensor:
    """What a run of all images finds; made once for the tests that only look at it."""
    which = f"{spec} {threat}"
    if which not in FOUND:
        FOUND[which] = run(spec, threat)
    return FOUND[which]


@pytest.mark.parametrize("name", parts.names("attacks"))
def test_every_attack_knows_a_norm(name: str) -> None:
    assert [threat.norm for spec, threat in PAIRS if spec["name"] == name]


@each_attack
def test_it_stays_in_the_ball_and_the_box(spec: dict[str, Any], threat: Any) -> None:
    x = found(spec, threat)
    assert x.shape == clean(threat).shape
    assert x.dtype == X0.dtype
    assert threat.distance(x, clean(threat)).max() <= threat.eps + 1e-12
    assert x.min() >= 0
    assert x.max() <= 1
    assert not x.requires_grad


@each_attack
def test_it_moves_and_raises_the_loss(spec: dict[str, Any], threat: Any) -> None:
    """On average: a single random step may lose on one image."""
    x = found(spec, threat)
    assert (threat.distance(x, clean(threat)) > 0).all()
    assert Curved()(x, ATan(), 0).loss.mean() > Curved()(clean(threat), ATan(), 0).loss.mean()


@each_attack
def test_without_a_budget_it_returns_the_clean_image(spec: dict[str, Any], threat: Any) -> None:
    assert torch.equal(run(spec, replace(threat, eps=0.0)), clean(threat))


@each_attack
def test_an_image_is_attacked_the_same_alone_and_in_any_order(spec: dict[str, Any], threat: Any) -> None:
    """In the same company in another order, in a smaller one, and three alone."""
    whole, order = found(spec, threat), torch.tensor([6, 2, 7, 0, 5, 1, 3, 4])
    torch.testing.assert_close(run(spec, threat, index=order), whole[order], rtol=0, atol=1e-14)
    for some in torch.arange(B).split([1, 1, 1, 5]):
        torch.testing.assert_close(run(spec, threat, index=some), whole[some], rtol=0, atol=1e-14)


@each_attack
def test_of_no_images_it_returns_none(spec: dict[str, Any], threat: Any) -> None:
    assert run(spec, threat, index=slice(0, 0)).shape == clean(threat)[:0].shape


def test_no_images_are_asked_in_passes_of_one_however_large_they_are() -> None:
    assert at_once(torch.zeros(0, 3, 512, 512)) == 1


@each_attack
def test_the_same_keys_give_the_same_result(spec: dict[str, Any], threat: Any) -> None:
    assert torch.equal(found(spec, threat), run(spec, threat))


class Level(Curved):
    """Fooled from a height on that some images reach early, some late and some never; every call is noted."""

    def __init__(self, keys: Tensor = KEYS, above: float = 0.7, *, final: bool = False, at: Any = None) -> None:
        super().__init__(keys, above, final=final)
        self.at = torch.arange(B) if at is None else at
        self.calls = torch.zeros(B, dtype=torch.int64)

    def __call__(self, x: Tensor, rule: Rule, salt: int) -> Score:
        assert len(x) == len(self.at) > 0
        self.calls += torch.bincount(self.at, minlength=B)  # an image may stand in a pass several times
        return super().__call__(x, rule, salt)

    def of(self, index: Tensor) -> Objective:
        return self._like(self.keys[index], self.above, self.at[index])

    def aimed(self, rank: int) -> Objective:
        return self._like(self.keys, self.above + 0.1 * (rank - 1), self.at)

    difference = aimed

    def encoded(self) -> Objective:
        return Behind(self, self.keys, self.above)

    def _like(self, keys: Tensor, above: float, at: Tensor) -> Level:
        other = Level(keys, above, final=self.final, at=at)
        other.calls = self.calls
        return other


@each_attack
@pytest.mark.parametrize("above", [-1e9, -0.3, 0.1, 0.7, 1.5])
def test_dropping_what_is_fooled_changes_no_verdict(spec: dict[str, Any], threat: Any, above: float) -> None:
    """And no point of an image that is never fooled; nothing costs more, and what fell early less."""
    every, few = Level(above=above), Level(above=above, final=True)
    whole, narrowed = (attack(spec)(f, clean(threat), threat, ESTIMATOR, KEYS) for f in (every, few))
    fooled, same = (Curved(above=above)(x, ATan(), 0).fooled for x in (whole, narrowed))
    assert torch.equal(fooled, same)
    keeps = spec.get("keep") != "last"
    stands = ~fooled if keeps else torch.ones(B, dtype=torch.bool)
    torch.testing.assert_close(narrowed[stands], whole[stands], rtol=0, atol=1e-14)
    assert (few.calls <= every.calls).all()
    assert torch.equal(few.calls[~fooled], every.calls[~fooled])
    assert threat.distance(narrowed, clean(threat)).max() <= threat.eps + 1e-12


def test_every_attack_of_many_points_spares_what_it_has_fooled() -> None:
    """Where all are fooled at the first point, a run, or a step, is enough."""
    for name, options in (
        ("pgd", {"restarts": 3}), ("sa_pgd", {"restarts": 3}), ("mi_fgsm", {}), ("apgd", {"restarts": 3}),
        ("apgd", {"targets": 3}), ("random_corners", {}), ("square", {}),
    ):  # fmt: skip
        f = Level(above=-1e9, final=True)
        attack({"name": name, **options})(f, X0, Linf(0.1), ESTIMATOR, KEYS)
        assert f.calls.tolist() == [1] * B, name
    for name, once in (("fab", {"targets": 1}), ("code_search", {"restarts": 1})):
        least, f = Level(above=-1e9, final=True), Level(above=-1e9, final=True)
        attack({"name": name, **once})(least, X0, Linf(0.1), ESTIMATOR, KEYS)
        attack({"name": name, **{option: 3 for option in once}})(f, X0, Linf(0.1), ESTIMATOR, KEYS)
        assert torch.equal(f.calls, least.calls)


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every draw of keyed noise, whether its bits are made by torch or in C."""
    made: list[int] = []

    def counting(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def counted(keys: Tensor, *how: Any) -> Tensor:
            made.append(len(keys))
            return draw(keys, *how)

        return counted

    for name in ("_bits", "draws"):
        monkeypatch.setattr(tensors, name, counting(getattr(tensors, name)))
    return made


@each_attack
def test_other_keys_give_another_result_exactly_where_it_draws(
    spec: dict[str, Any], threat: Any, draws: list[int]
) -> None:
    other = run(spec, threat, keys=image_keys(5, torch.arange(B)))
    random = bool(draws)
    if spec["name"] not in CONVERGES:
        assert random == (not torch.equal(other, found(spec, threat)))


@pytest.mark.parametrize(
    ("spec", "random"),
    [({"name": "fgsm"}, False), ({"name": "rfgsm"}, True), ({"name": "pgd"}, True),
     ({"name": "pgd", "random_start": False}, False)],
)  # fmt: skip
def test_which_of_the_classics_are_random(spec: dict[str, Any], random: bool, draws: list[int]) -> None:
    """And with that, that the counter of draws counts."""
    run(spec, Linf(0.1))
    assert bool(draws) == random


class Interrupted:
    """`f`, and every objective made from it: notes the points of each call, and raises in the given one, from 1 on."""

    def __init__(self, f: Objective, stop_at: int | None, calls: list[Tensor]) -> None:
        self._f, self._stop_at, self._calls = f, stop_at, calls
        self.keys, self.classes, self.encode, self.final = f.keys, f.classes, f.encode, f.final

    def __call__(self, x: Tensor, rule: Rule, salt: int) -> Score:
        self._calls.append(x.detach().clone())
        if len(self._calls) == self._stop_at:
            raise Stop
        return self._f(x, rule, salt)

    def of(self, index: Tensor) -> Objective:
        return Interrupted(self._f.of(index), self._stop_at, self._calls)

    def aimed(self, rank: int) -> Objective:
        return Interrupted(self._f.aimed(rank), self._stop_at, self._calls)

    def difference(self, rank: int) -> Objective:
        return Interrupted(self._f.difference(rank), self._stop_at, self._calls)

    def encoded(self) -> Objective:
        return Interrupted(self._f.encoded(), self._stop_at, self._calls)


@pytest.fixture(scope="module")
def victim() -> Victim:
    """One for all, as an attack leaves it as it is."""
    return trained()


@each_attack
@pytest.mark.parametrize("grad_mode", [False, True])
@pytest.mark.parametrize("stop_at", [None, 1, 2])
def test_nothing_is_left_behind(
    spec: dict[str, Any], threat: Any, grad_mode: bool, stop_at: int | None, victim: Victim
) -> None:
    """Weights, gradients, flags, buffers, modes, hooks, grad mode and random stream, also after an exception."""
    x, y, ids = digits(3)
    x = (x > 0.5).to(x) if isinstance(threat, EventThreat) else x
    keys = image_keys(0, ids)
    scene = Scene(victim, x, y, keys, threat.surface)
    pixels, image, calls = x.clone(), keys.clone(), []  # type: ignore[var-annotated]
    f = Interrupted(scene.objective(cross_entropy), stop_at, calls)
    with torch.set_grad_enabled(grad_mode), untouched(victim), suppress(Stop):
        attack(spec, BRIEFER)(f, scene.start, threat, ESTIMATOR, keys)
    assert calls
    assert stop_at is None or len(calls) <= stop_at
    assert torch.equal(x, pixels)
    assert torch.equal(scene.start, pixels)
    assert not scene.start.requires_grad
    assert torch.equal(keys, image)


BEGUN = Linf(0.1).project(X0 + 0.09 * normal(KEYS, (1, 6, 6)).sign(), X0)
"""Points that another attack might have found."""


@each_attack
def test_it_begins_at_a_given_start_brought_into_its_ball(spec: dict[str, Any], threat: Any) -> None:
    x0 = clean(threat)
    for start in (BEGUN.view_as(x0), x0 + 3 * SLOPE):
        calls: list[Tensor] = []
        x = attack(spec)(Interrupted(Curved(), None, calls), x0, threat, ESTIMATOR, KEYS, start=start)
        assert torch.equal(calls[0].view_as(x0), threat.project(start, x0))
        assert threat.distance(x, x0).max() <= threat.eps + 1e-12


@cache
def good(threat: Any) -> Tensor:
    """Points of a high loss, found by an attack that is strong in this threat."""
    strong = {"name": "top_events" if isinstance(threat, EventThreat) else "apgd", "steps": 20}
    return attack(strong)(Curved(above=9.0), clean(threat), threat, ESTIMATOR, KEYS)  # type: ignore[no-any-return]


@each_attack
@pytest.mark.parametrize("final", [False, True])
def test_it_returns_nothing_worse_than_its_start(spec: dict[str, Any], threat: Any, final: bool) -> None:
    """Where it keeps its best; the start is a good one, well inside the ball, and with `final` half of them succeed."""
    if spec["name"] in ("fgsm", "rfgsm") or spec.get("keep") == "last":
        return
    x0 = clean(threat)
    start = good(threat) if isinstance(threat, EventThreat) else x0 + 0.9 * (good(threat) - x0)
    reached = Curved(above=0.0)(start, ATan(), 0).loss
    above = float(reached.median()) if final else 9.0
    f = Curved(above=above, final=final)
    found = f(attack(spec)(f, x0, threat, ESTIMATOR, KEYS, start=start), ATan(), 0)
    begun = f(start, ATan(), 0)
    if final:
        assert 0 < begun.fooled.sum() < B
        assert (found.fooled | ~begun.fooled).all()
    else:
        assert (found.loss >= begun.loss - 1e-9).all()


@pytest.mark.parametrize("name", ["pgd", "sa_pgd", "mi_fgsm", "fgsm", "fab", "code_search"])
def test_given_its_own_start_an_attack_is_itself(name: str) -> None:
    """And its further restarts are those that they were."""
    own = Linf(0.1).sample(X0, fold(KEYS, "start 0")) if name in ("pgd", "sa_pgd") else X0
    more = {"restarts": 2} if name not in ("mi_fgsm", "fgsm") else {}
    kept, given = (
        attack({"name": name, **more})(Curved(), X0, Linf(0.1), ESTIMATOR, KEYS, start=start) for start in (None, own)
    )
    assert torch.equal(kept, given)


LABELS = {
    "apgd": ("apgd-100", True),
    "code_search": ("code-search-25", True),
    "fab": ("fab-100", True),
    "fgsm": ("fgsm", True),
    "mi_fgsm": ("mi-fgsm-10", True),
    "pgd": ("pgd-20", True),
    "random_corners": ("corners-100", False),
    "rfgsm": ("rfgsm", True),
    "sa_pgd": ("sa-pgd-100", True),
    "square": ("square-500", False),
    "random_events": ("random-100", False),
    "random_swaps": ("random-swaps-1000", False),
    "swap_search": ("swaps-1000", True),
    "gumbel": ("gumbel-20", True),
    "retiming": ("retiming-20", True),
    "sparse_dynamic": ("sda-10", True),
    "spike_fool": ("spikefool-4", True),
    "spike_gradient": ("g2s-20", True),
    "top_events": ("top-20", True),
}


@pytest.mark.parametrize("name", parts.names("attacks"))
def test_an_attack_says_what_it_is_called_and_whether_it_asks_for_a_gradient(name: str) -> None:
    attack = parts.build("attacks", {"name": name})
    assert (attack.label, attack.asks_gradient) == LABELS.get(name, (attack.label, attack.asks_gradient))
    assert attack.label


@pytest.mark.parametrize(
    ("name", "label"),
    [("apgd", "apgd-t-100"), ("fab", "fab-t-100"), ("gumbel", "gumbel-t-20"),
     ("retiming", "retiming-t-20"), ("spike_gradient", "g2s-t-20"), ("top_events", "top-t-20")],
)  # fmt: skip
def test_a_targeted_attack_says_so(name: str, label: str) -> None:
    assert parts.build("attacks", {"name": name, "targets": 9}).label == label
