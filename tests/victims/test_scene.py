"""One batch under attack: what a point is worth, what is counted, what the judge says, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import digits, trained, untouched
from torch import Tensor

from spikeproof.errors import SpikeproofError
from spikeproof.losses import cross_entropy, margin
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, fold, image_keys
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.victims.scene import COMMON_DRAWS, STOCHASTIC_DRAWS, Cost, Scene, verdict

X, Y, IDS = digits(6)
KEYS = image_keys(0, IDS)


def scene(encoder: str = "direct", surface: str = "pixels") -> Scene:
    return Scene(trained(encoder), X, Y, KEYS, surface)


@pytest.mark.parametrize("encoder", ["direct", "phase", "poisson"])
def test_it_starts_at_the_clean_point_of_its_surface(encoder: str) -> None:
    assert torch.equal(scene(encoder).start, X)
    encoded = scene(encoder, "encoded")
    assert encoded.start.shape == (6, 3, 1, 8, 8)
    assert torch.equal(encoded.start, encoded.victim.encode(X, KEYS).transpose(0, 1))
    assert torch.equal(encoded.logits(encoded.start, exact, KEYS), encoded.victim(X, exact, KEYS))


def test_only_pixels_before_a_random_encoder_are_stochastic() -> None:
    assert scene("poisson").stochastic
    assert not scene("poisson", "encoded").stochastic
    assert not scene("phase").stochastic


@pytest.mark.parametrize("surface", ["pixels", "encoded"])
def test_the_score_is_that_of_the_logits(surface: str) -> None:
    one = scene("phase", surface)
    score = one.objective(cross_entropy)(one.start, exact, 0)
    logits = one.victim(X, exact, KEYS)
    assert torch.equal(score.loss, cross_entropy(logits, Y))
    assert torch.equal(score.fooled, logits.argmax(1) != Y)
    assert score.fooled.any()
    assert not score.fooled.all()


def test_a_lucky_draw_of_a_stochastic_encoder_is_no_success() -> None:
    one = scene("poisson")
    score = one.objective(cross_entropy)(one.start, exact, 0)
    assert (one.logits(one.start, exact, fold(KEYS, 0)).argmax(1) != Y).any()
    assert not score.fooled.any()
    behind = scene("poisson", "encoded")
    assert behind.objective(cross_entropy)(behind.start, exact, 0).fooled.any()


def test_the_salt_freshens_the_noise_and_nothing_else() -> None:
    f = scene("poisson").objective(cross_entropy)
    assert torch.equal(f(X, ATan(), 3).loss, f(X, ATan(), 3).loss)
    assert not torch.equal(f(X, ATan(), 3).loss, f(X, ATan(), 4).loss)
    f = scene("direct").objective(cross_entropy)
    assert torch.equal(f(X, exact, 3).loss, f(X, exact, 4).loss)


def test_queries_of_a_stochastic_victim_are_answered_under_the_same_few_draws() -> None:
    """Else the best of many queries is the luckiest draw. The answer is the mean loss; every draw is paid for."""
    one, cost = scene("poisson"), Cost(6)
    f = one.objective(cross_entropy, cost)
    first = f(X, exact, 3)
    assert torch.equal(first.loss, f(X, exact, 4).loss)
    assert not first.fooled.any()
    keys = [fold(KEYS, f"common {draw}") for draw in range(COMMON_DRAWS)]
    mean = torch.stack([cross_entropy(one.victim(X, exact, k), Y) for k in keys]).mean(0)
    torch.testing.assert_close(first.loss, mean)
    assert cost.rows() == 6 * [{"forwards": 2 * COMMON_DRAWS, "backwards": 0}]


def test_an_ascent_counts_nothing_as_fooled() -> None:
    one = scene()
    found = one.ascent(cross_entropy)
    plain = one.objective(cross_entropy)(X, exact, 0)
    assert plain.fooled.any()
    for f, index in ((found, slice(None)), (found.of(torch.tensor([4, 1])), [4, 1])):
        assert not f(X[index], exact, 0).fooled.any()
        torch.testing.assert_close(f(X[index], exact, 0).loss, plain.loss[index])  # another batch rounds otherwise
    assert not found.aimed(1)(X, exact, 0).fooled.any()
    assert not found.encoded()(found.encode(X), exact, 0).fooled.any()


def test_every_call_is_counted_and_with_a_graph_as_a_backward_too() -> None:
    cost = Cost(6)
    f = scene().objective(cross_entropy, cost)
    f(X, exact, 0)
    f(X, ATan(), 0)
    assert cost.rows() == 6 * [{"forwards": 2, "backwards": 0}]
    f(X.clone().requires_grad_(), ATan(), 0)
    assert cost.rows() == 6 * [{"forwards": 3, "backwards": 1}]


@pytest.mark.parametrize("surface", ["pixels", "encoded"])
def test_the_judge_says_what_a_direct_forward_says(surface: str) -> None:
    one = scene("phase", surface)
    with untouched(one.victim):
        found = one.judge(one.start, "attack")
    logits = one.victim(X, exact, KEYS)
    assert torch.equal(found.predicted, logits.argmax(1))
    torch.testing.assert_close(found.margin, -margin(logits, Y))
    assert torch.equal(found.margin > 0, found.predicted == Y)
    assert not found.margin.requires_grad


def test_a_stochastic_victim_is_judged_by_a_vote_on_fresh_draws() -> None:
    one = scene("poisson")
    seen: list[Tensor] = []
    encode = one.victim.encoder

    class Spy:
        stochastic = True

        def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
            seen.append(keys)
            return encode(x, steps, keys)

    one.victim.encoder = Spy()
    f = one.objective(cross_entropy)
    for salt in range(30):
        f(one.start, ATan(), salt)
    during = torch.stack(seen)
    seen.clear()
    found = one.judge(one.start, "attack")
    draws = torch.stack(seen)
    assert len(draws) == STOCHASTIC_DRAWS == 20
    every = torch.cat([during, draws]).flatten()
    assert len(every.unique()) == len(every)  # no image meets one draw twice
    logits = torch.stack([one.victim.classify(encode(X, 3, keys), exact) for keys in draws])
    votes = torch.stack([(logits.argmax(2) == k).sum(0) for k in range(10)], 1)
    assert torch.equal(found.predicted, votes.argmax(1))
    assert (votes.amax(1) < 20).any()  # the draws disagree on some image, or the vote would be idle
    torch.testing.assert_close(found.margin, torch.stack([-margin(z, Y) for z in logits]).mean(0))
    seen.clear()
    one.judge(one.start, "another attack")
    assert not set(torch.stack(seen).flatten().tolist()) & set(draws.flatten().tolist())


def told(*answers: list[int]) -> Any:
    """A classifier of three classes that gives the answers of one draw after another."""
    script = iter(answers)
    return lambda keys: torch.eye(3)[torch.tensor(next(script))]


def test_the_vote_goes_to_the_most_and_then_to_the_lowest() -> None:
    y = torch.tensor([2, 2, 0])
    found = verdict(told([2, 1, 0], [2, 2, 1], [0, 2, 1], [1, 1, 0]), y, KEYS[:3], 4)
    assert found.predicted.tolist() == [2, 1, 0]
    assert found.margin.tolist() == [0.0, 0.0, 0.0]
    assert verdict(told([1, 2, 0]), y, KEYS[:3], 1).margin.tolist() == [-1.0, 1.0, 1.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_refused_and_never_count_as_broken(value: float) -> None:
    one = scene()
    with torch.no_grad():
        one.victim.body.fc.bias[3] = value  # type: ignore[union-attr, index]
    for call in (
        lambda: one.judge(one.start, "attack"),
        lambda: one.objective(cross_entropy)(one.start, exact, 0),
    ):
        with pytest.raises(SpikeproofError, match="finite logits"):
            call()


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=repr)
def test_the_budget_is_checked_to_rounding(threat: Any) -> None:
    one = scene()
    inside = threat.sample(one.start, KEYS)
    distance = one.check_budget("mine", inside, threat)
    torch.testing.assert_close(distance, threat.distance(inside, X))
    step = threat.ascend(torch.where(X < 0.5, 1.0, -1.0))
    one.check_budget("mine", X + threat.eps * step, threat)
    with pytest.raises(SpikeproofError, match=r"within eps .* from attack 'mine'.*to mend: project"):
        one.check_budget("mine", X + (threat.eps + 1e-4) * step, threat)


@pytest.mark.parametrize("value", [-1e-3, 1 + 1e-3, float("nan"), float("inf")])
def test_a_point_outside_the_box_or_without_a_number_is_refused(value: float) -> None:
    """Within a ball of radius 2 everything is near enough, so only the box can speak."""
    one, point = scene(), X.clone()
    point[5, 0, 7, 7] = value
    with pytest.raises(SpikeproofError, match="from attack 'mine'"):
        one.check_budget("mine", point, Linf(2.0))


def test_an_image_is_counted_as_often_as_it_stands_in_a_pass() -> None:
    one, cost = scene("direct"), Cost(6)
    part = one.objective(cross_entropy, cost).of(torch.tensor([4, 1, 4, 4]))
    part(one.start[[4, 1, 4, 4]], exact, 0)
    assert cost.forwards.tolist() == [0, 1, 0, 0, 3, 0]
