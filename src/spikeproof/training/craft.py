"""The attack that a defence trains on: images made against the network as it stands, in eval mode."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spikeproof.tensors import exact, fold
from spikeproof.types import Attack, Craft, Estimator, Loss, Threat
from spikeproof.victims.frozen import freeze
from spikeproof.victims.scene import Scene
from spikeproof.victims.victim import Victim

__all__ = ["crafter"]


def crafter(victim: Victim, attack: Attack, threat: Threat, estimator: Estimator, loss: Loss) -> Craft:
    """The training attack, on pixels: made in eval mode, on the frozen twin; the victim's mode is put back afterwards.

    A loss made by `against` may have no slope at the clean image, as a divergence from it has none. There the attack
    starts a hundredth of the budget away, and has the other 99.
    """

    def craft(
        x: Tensor, y: Tensor, keys: Tensor, *, share: float = 1.0, against: Callable[[Tensor], Loss] | None = None
    ) -> Tensor:
        training = victim.training
        victim.eval()
        ball, keys, raised = threat.scaled(share), fold(keys, "craft"), loss
        try:
            if against is not None:
                with torch.no_grad():
                    raised = against(victim(x, exact, keys))
                x, ball = ball.scaled(0.01).sample(x, fold(keys, "away")), ball.scaled(0.99)
            scene = Scene(freeze(victim), x, y, keys, ball.surface)
            # A divergence is largest where it is largest, whether the label is lost there or not.
            objective = scene.objective(raised) if against is None else scene.ascent(raised)
            return attack(objective, scene.start, ball, estimator, keys).detach()
        finally:
            victim.train(training)

    return craft
