"""The paper's evaluation procedure (Luu et al.), as its published code does it, on copies.

It is not sound, and is kept so that its numbers can be put beside sound ones: (1) the *encoded* tensor is perturbed, so
eps has no meaning in pixels; (2) gradients are taken with batch statistics; (3) those forwards, on test images under
attack, move the running statistics, batch after batch; (4) the moved statistics then classify; (5) one start, seven
steps, the last iterate, one surrogate. `PROTOCOL` holds its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from spikeproof.evaluation.judge import Case, head_of, short
from spikeproof.rows import AttackRow, Outcome
from spikeproof.tensors import exact, fold, image_keys
from spikeproof.types import Threat
from spikeproof.victims.scene import STOCHASTIC_DRAWS, Cost, Scene, check_labels, verdict
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["PROTOCOL", "paper_rows"]

PROTOCOL: dict[str, Any] = {
    "norm": "linf",
    "surface": "encoded",
    "eps": ["6/255"],
    "attacks": {
        "fgsm": {"name": "fgsm"},
        "pgd-7": {"name": "pgd", "steps": 7, "step_size": 0.01, "random_start": True, "keep": "last"},
    },
    "batch_size": 16,
}
"""What the paper's code fixes."""

Batch = tuple[Tensor, Tensor, Tensor]
"""Pixels (B,C,H,W), labels (B,), ids (B,)."""


def paper_rows(
    victim: Victim,
    batches: Sequence[Batch],
    *,
    evaluation: str,
    threats: Mapping[str, Threat],
    cases: Mapping[str, Case],
    seed: int,
    tick: Callable[[int], None] = lambda images: None,
) -> list[AttackRow]:
    """Rows of protocol 'paper'. Every image is attacked, also those wrong when clean.

    `attacked` and `fooled` are by the moved statistics, as in the paper; `attacked_deployed` is the same point under
    the deployed network. Rows depend on the batches and their order; each budget starts from the victim's own
    statistics. The victim itself is left as it was. tick(images) is called after each batch.
    """
    deployed = borrowed(victim)
    draws = STOCHASTIC_DRAWS if victim.stochastic else 1
    rows: list[AttackRow] = []
    for eps_text, threat in threats.items():
        moving = borrowed(victim, train=True)
        for x, y, ids in batches:
            check_labels(victim, x, y)
            keys = image_keys(seed, ids).to(x.device)
            clean = verdict(lambda k, x=x: deployed(x, exact, k), y, fold(keys, "clean"), draws)  # type: ignore[misc]
            moving.train()
            scene = Scene(moving, x, y, fold(keys, evaluation), threat.surface)
            costs = {name: Cost(len(x)) for name in cases}
            points = {
                name: one.attack(
                    scene.objective(one.loss, costs[name]), scene.start, threat, one.estimator, scene.keys
                ).detach()
                for name, one in cases.items()
            }
            moving.eval()
            for name, point in points.items():
                distance = scene.check_budget(name, point, threat)
                moved = scene.judge(point, name)
                fixed = Scene(deployed, x, y, scene.keys, threat.surface).judge(point, name)
                spent = costs[name]
                head = head_of("paper", evaluation, threat, eps_text, name)
                for k, image in enumerate(ids.tolist()):
                    label, attacked = int(y[k]), int(moved.predicted[k])
                    outcome: Outcome = {
                        "attacked": attacked,
                        "fooled": attacked != label,
                        "attacked_deployed": int(fixed.predicted[k]),
                        "distance": short(distance)[k],
                        "margin": short(moved.margin)[k],
                        "forwards": spent.forwards.tolist()[k],
                        "backwards": spent.backwards.tolist()[k],
                    }
                    predicted = int(clean.predicted[k])
                    rows.append({**head, "image": image, "label": label, "predicted": predicted, **outcome})
            tick(len(ids))
    return rows
