"""The measure of what an attack loses that looks at less of the time, `benchmarks.past`."""

from __future__ import annotations

import torch
from benchmarks import networks
from benchmarks.past import Gradient, cells, gradients

from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import outcomes
from spikeproof.losses import margin
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys
from spikeproof.threats.linf import Linf
from spikeproof.victims.batch import Batch
from spikeproof.victims.scene import Scene
from spikeproof.victims.victim import Victim


def test_a_shorter_network_buys_as_many_more_gradients() -> None:
    assert [(one.steps, one.count, one.through_time) for one in gradients(10, 50)] == [
        (None, 50, True), (None, 50, False), (5, 50, True), (5, 100, True), (2, 50, True), (2, 250, True),
    ]  # fmt: skip
    assert len({one.name for one in gradients(10, 50)}) == 6


def test_two_of_the_networks_have_a_leak() -> None:
    assert [config.neuron["name"] for _, config in cells()] == ["if"] * 6 + ["lif"] * 2


def _of(case_of: Gradient, victim: Victim, batch: Batch) -> torch.Tensor:
    case = case_of.case(victim)
    assert isinstance(case.estimator, WhiteBox)
    seen = Scene(case.attacked(victim), batch.x, batch.y, batch.keys, "pixels")
    return case.estimator(seen.objective(case.loss), seen.start, None, 0)[1]


def test_each_gradient_is_that_of_its_graph() -> None:
    victim = networks.ours("W2", 5)
    x, y, ids = networks.digits("test")
    batch = Batch.of(victim, x[:6], y[:6], ids[:6], 0)
    keys = image_keys(0, batch.ids)

    def plain(network: Victim, rule: ATan) -> torch.Tensor:
        point = batch.x.clone().requires_grad_()
        return torch.autograd.grad(margin(network(point, rule, keys), batch.y).sum(), point)[0]

    whole, detached, half, *_ = (_of(one, victim, batch) for one in gradients(5, 3))
    torch.testing.assert_close(whole, plain(victim, ATan(fused=False)))
    torch.testing.assert_close(detached, plain(victim, ATan(through_time=False, fused=False)))
    torch.testing.assert_close(half, plain(Victim(victim.body, victim.encoder, 2).eval(), ATan(fused=False)))
    assert not torch.equal(whole, detached)


def test_points_of_a_shorter_network_are_judged_by_the_whole_one() -> None:
    victim = networks.ours("W2", 5)
    x, y, ids = networks.digits("test")
    batch = Batch.of(victim, x[:6], y[:6], ids[:6], 0)
    rows = outcomes(victim, batch, "past", Gradient("short", True, 2, 3).case(victim), Linf("0.1"))
    assert [row["backwards"] for row in rows] == [4] * 6
    # What the whole network was asked is the verdict alone.
    assert all("twin_differs" not in row for row in rows)
