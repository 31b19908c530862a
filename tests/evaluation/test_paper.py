"""The paper's procedure against a replay of it in plain loops: moved statistics, last iterates, deployed untouched."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from small import digits, trained, untouched
from torch import Tensor, nn

from spikeproof import parts
from spikeproof.errors import SpikeproofError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case
from spikeproof.evaluation.paper import PROTOCOL, paper_rows
from spikeproof.losses import cross_entropy
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact
from spikeproof.threats.linf import Linf
from spikeproof.types import Objective, Score, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

EPS = 6 / 255
THREAT = Linf("6/255", surface="encoded")
BATCHES = [digits(8), digits(8, first=8), digits(5, first=16)]
IDS = torch.cat([ids for _, _, ids in BATCHES])


@dataclass(frozen=True)
class Watched:
    """An objective that keeps the points it is asked at first, salt 0."""

    f: Objective
    first: list[Tensor]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.f, name)

    def __call__(self, point: Tensor, rule: Any, salt: int) -> Score:
        if salt == 0:
            self.first.append(point.detach().clone())
        return self.f(point, rule, salt)


@dataclass(frozen=True)
class Kept:
    """An attack that keeps its start and its end."""

    attack: Any
    points: list[Tensor]
    first: list[Tensor]

    def __call__(self, f: Objective, x0: Tensor, threat: Threat, estimator: Any, keys: Tensor) -> Tensor:
        watched: Any = Watched(f, self.first)
        self.points.append(self.attack(watched, x0, threat, estimator, keys))
        return self.points[-1]


@dataclass
class Run:
    """What one call of the procedure gave, and the points its attacks proposed, by attack and batch."""

    rows: list[dict[str, Any]]
    points: dict[str, list[Tensor]]
    first: dict[str, list[Tensor]]


def run(victim: Victim, batches: Any = BATCHES, threats: Any = None, seed: int = 0) -> Run:
    points: dict[str, list[Tensor]] = {name: [] for name in PROTOCOL["attacks"]}
    first: dict[str, list[Tensor]] = {name: [] for name in PROTOCOL["attacks"]}
    cases = {
        name: Case(Kept(parts.build("attacks", spec), points[name], first[name]), WhiteBox(ATan()), cross_entropy)
        for name, spec in PROTOCOL["attacks"].items()
    }
    checked = [Batch.of(victim, *batch, seed) for batch in batches]
    rows = paper_rows(victim, checked, evaluation="paper", threats=threats or {"6/255": THREAT}, cases=cases)
    return Run(rows, points, first)


def norms(victim: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in victim.modules() if isinstance(m, nn.BatchNorm2d)]


def replay(victim: Victim, random_starts: list[Tensor]) -> tuple[dict[str, list[Tensor]], dict[str, list[int]], Victim]:
    """The procedure in plain loops over (T,B,C,H,W): points by attack, answers of the moved network, that network."""
    network = copy.deepcopy(victim)
    points: dict[str, list[Tensor]] = {"fgsm": [], "pgd-7": []}
    answers: dict[str, list[int]] = {"fgsm": [], "pgd-7": []}

    def gradient(z: Tensor, y: Tensor) -> Tensor:
        z = z.clone().requires_grad_()
        loss = nn.functional.cross_entropy(network.classify(z, ATan()), y, reduction="sum")
        return torch.autograd.grad(loss, z)[0]

    for (x, y, ids), start in zip(BATCHES, random_starts, strict=True):
        clean = network.encoder(x, network.steps, ids)
        low, high = (clean - EPS).clamp(min=0), (clean + EPS).clamp(max=1)
        network.train()
        fgsm = torch.clamp(clean + EPS * gradient(clean, y).sign(), low, high)
        z = start.transpose(0, 1)
        for _ in range(7):
            z = torch.clamp(z + 0.01 * gradient(z, y).sign(), low, high)
        network.eval()
        for name, point in (("fgsm", fgsm), ("pgd-7", z)):
            points[name].append(point)
            with torch.no_grad():
                answers[name] += network.classify(point, exact).argmax(1).tolist()
    return points, answers, network


def test_the_papers_settings() -> None:
    assert PROTOCOL["eps"] == ["6/255"]
    assert (PROTOCOL["norm"], PROTOCOL["surface"], PROTOCOL["batch_size"]) == ("linf", "encoded", 16)
    pgd = parts.build("attacks", PROTOCOL["attacks"]["pgd-7"])
    assert (pgd.steps, pgd.step_size, pgd.restarts, pgd.random_start, pgd.keep) == (7, 0.01, 1, True, "last")
    assert PROTOCOL["attacks"].keys() == {"fgsm", "pgd-7"}


@pytest.mark.parametrize("encoder", ["direct", "phase"])
def test_a_replay_in_plain_loops_gives_the_same_points_and_verdicts(encoder: str) -> None:
    victim = trained(encoder)
    found = run(victim)
    points, answers, moved = replay(victim, found.first["pgd-7"])
    for name in ("fgsm", "pgd-7"):
        for mine, theirs in zip(found.points[name], points[name], strict=True):
            torch.testing.assert_close(mine.transpose(0, 1), theirs, rtol=0, atol=1e-7)
        rows = [r for r in found.rows if r["attack"] == name]
        assert [r["image"] for r in rows] == IDS.tolist()
        assert [r["attacked"] for r in rows] == answers[name]
        assert [r["fooled"] for r in rows] == [r["attacked"] != r["label"] for r in rows]
        with torch.no_grad():
            fixed = [victim.classify(z, exact).argmax(1) for z in points[name]]
        assert [r["attacked_deployed"] for r in rows] == torch.cat(fixed).tolist()
    # The replay itself moved far: without that, moved and deployed statistics would be one.
    for own, other in zip(norms(victim), norms(moved), strict=True):
        assert not torch.allclose(own.running_mean, other.running_mean)  # type: ignore[arg-type]
    for key in ("attacked_deployed", "predicted"):
        assert any(r["attacked"] != r[key] for r in found.rows)


def test_random_starts_are_uniform_in_the_ball_and_keyed() -> None:
    victim = trained()
    found, again, other = run(victim), run(victim), run(victim, seed=1)
    shift = torch.cat(found.first["pgd-7"]) - torch.cat([victim.encode(x, i).transpose(0, 1) for x, _, i in BATCHES])
    inside = torch.cat([victim.encode(x, i).transpose(0, 1) for x, _, i in BATCHES])
    inside = (inside > EPS) & (inside < 1 - EPS)
    assert shift.abs().max() <= EPS + 1e-6
    free = shift[inside] / EPS
    assert abs(free.mean()) < 5 / (3 * len(free)) ** 0.5
    assert abs(free.square().mean() - 1 / 3) < 5 * (4 / 45 / len(free)) ** 0.5
    assert found.rows == again.rows
    assert not torch.equal(found.first["pgd-7"][0], other.first["pgd-7"][0])
    assert torch.equal(found.points["fgsm"][0], other.points["fgsm"][0])


def test_the_last_iterate_is_kept_and_costs_are_counted() -> None:
    rows = run(trained()).rows
    costs = {(r["attack"], r["forwards"], r["backwards"]) for r in rows}
    assert costs == {("fgsm", 1, 1), ("pgd-7", 7, 7)}


@pytest.mark.parametrize("encoder", ["direct", "poisson"])
def test_the_deployed_victim_is_left_as_it_was(encoder: str) -> None:
    victim = trained(encoder)
    with untouched(victim):
        found = run(victim)
    clean = [r["predicted"] for r in found.rows if r["attack"] == "fgsm"]
    if encoder == "direct":
        with torch.no_grad():
            assert clean == torch.cat([victim(x, exact, ids).argmax(1) for x, _, ids in BATCHES]).tolist()


def test_crafting_uses_batch_statistics() -> None:
    """The same images in another company get another point; on the deployed statistics they would not."""
    victim = trained()
    (x, y, ids), (x2, y2, ids2) = BATCHES[:2]
    mixed = (torch.cat([x[:1], x2[1:]]), torch.cat([y[:1], y2[1:]]), torch.cat([ids[:1], ids2[1:]]))
    one, other = run(victim, [BATCHES[0]]).points["fgsm"][0][0], run(victim, [mixed]).points["fgsm"][0][0]
    assert not torch.equal(one, other)


def test_statistics_move_on_from_batch_to_batch() -> None:
    """A batch that comes second is judged by what the first has left; its row alone differs."""
    victim = trained()
    first = run(victim, [BATCHES[1]]).rows
    second = [r for r in run(victim, BATCHES[:2]).rows if r["image"] in BATCHES[1][2].tolist()]
    assert [r["image"] for r in first] == [r["image"] for r in second]
    assert [r["margin"] for r in first] != [r["margin"] for r in second]
    assert [r["predicted"] for r in first] == [r["predicted"] for r in second]


def test_every_budget_starts_from_the_victims_own_statistics() -> None:
    victim = trained()
    alone = run(victim).rows
    threats = {"0.1": Linf(0.1, surface="encoded"), "6/255": THREAT}
    both = run(victim, threats=threats).rows
    assert len(both) == 2 * len(alone)
    assert [r for r in both if r["eps_text"] == "6/255"] == alone


def test_every_image_is_attacked_also_those_wrong_when_clean() -> None:
    rows = run(trained()).rows
    wrong = [r for r in rows if r["predicted"] != r["label"]]
    assert wrong
    assert all(r["forwards"] > 0 and r["distance"] > 0 for r in wrong)
    assert {r["protocol"] for r in rows} == {"paper"}
    assert {r["surface"] for r in rows} == {"encoded"}


def test_the_callback_hears_of_every_batch() -> None:
    heard: list[int] = []
    cases = {"fgsm": Case(parts.build("attacks", {"name": "fgsm"}), WhiteBox(ATan()), cross_entropy)}
    batches = [Batch.of(trained(), *batch, 0) for batch in BATCHES]
    paper_rows(trained(), batches, evaluation="p", threats={"6/255": THREAT}, cases=cases, tick=heard.append)
    assert heard == [8, 8, 5]


def test_a_victim_in_train_mode_and_wrong_labels_are_refused() -> None:
    with pytest.raises(SpikeproofError, match="train mode"):
        run(trained().train())
    x, y, ids = BATCHES[0]
    with pytest.raises(SpikeproofError, match="labels"):
        run(trained(), [(x, y + 10, ids)])


def test_an_attack_beyond_the_budget_is_refused_by_name() -> None:
    cases = {"sly": Case(lambda f, x0, threat, estimator, keys: x0 + 0.5, WhiteBox(ATan()), cross_entropy)}
    batches = [Batch.of(trained(), *batch, 0) for batch in BATCHES]
    with pytest.raises(SpikeproofError, match="'sly'"):
        paper_rows(trained(), batches, evaluation="p", threats={"6/255": THREAT}, cases=cases)


def test_a_stochastic_encoder_is_behind_the_attack() -> None:
    """The encoded point is fixed and keyed by image and seed; one forward judges it."""
    victim = trained("poisson")
    found, again = run(victim), run(victim)
    assert found.rows == again.rows
    assert not torch.equal(found.points["fgsm"][0], run(victim, seed=3).points["fgsm"][0])
    assert {r["forwards"] for r in found.rows} == {1, 7}
