"""The judge: an attack proposes, this file decides and writes rows.

The verdict uses the exact forward of the deployed network in eval mode, noise the attack has not seen, and a checked
budget. Rows are plain dicts, one per image and attack; nothing here knows of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spikeproof.metrics import sparsity
from spikeproof.scene import STOCHASTIC_DRAWS, Cost, Scene, check_labels, verdict
from spikeproof.tensors import exact, fold, image_keys
from spikeproof.types import Attack, Craft, Estimator, Loss, Threat
from spikeproof.victim import Victim, borrowed

__all__ = ["Row", "attack_rows", "case", "clean_rows", "crafter", "short"]

Row = dict[str, Any]


def short(values: Tensor) -> list[float]:
    """Floats for a row, at 6 significant digits: what is read and compared, never computed on further."""
    return [float(f"{v:.6g}") for v in values.tolist()]


def case(protocol: str, evaluation: str, threat: Threat, eps_text: str, attack: str) -> Row:
    """The fields that say which attack at which budget a row is about."""
    return {
        "kind": "attack",
        "evaluation": evaluation,
        "protocol": protocol,
        "surface": threat.surface,
        "norm": threat.norm,
        "eps": float(f"{threat.eps:.9g}"),
        "eps_text": eps_text,
        "attack": attack,
    }


def clean_rows(victim: Victim, x: Tensor, y: Tensor, ids: Tensor, *, split: str, seed: int) -> list[Row]:
    """One row per image: kind 'clean', split, image, label, predicted, margin. Victims in train mode are refused."""
    check_labels(victim, x, y)
    found = _clean(borrowed(victim), x, y, image_keys(seed, ids).to(x.device))
    columns = zip(ids.tolist(), y.tolist(), found.predicted.tolist(), short(found.margin), strict=True)
    return [
        {"kind": "clean", "split": split, "image": i, "label": t, "predicted": p, "margin": m} for i, t, p, m in columns
    ]


def _clean(victim: Victim, x: Tensor, y: Tensor, keys: Tensor) -> Any:
    draws = STOCHASTIC_DRAWS if victim.stochastic else 1
    return verdict(lambda k: victim(x, exact, k), y, fold(keys, "clean"), draws)


def attack_rows(
    victim: Victim,
    x: Tensor,
    y: Tensor,
    ids: Tensor,
    *,
    evaluation: str,
    threats: Mapping[str, Threat],
    attacks: Mapping[str, Attack],
    estimator: Estimator,
    loss: Loss,
    seed: int,
) -> list[Row]:
    """Every attack at every budget on one batch: pixels (B,C,H,W), labels and ids (B,); one row per image and case.

    threats: by the text of their eps. Images that are wrong when clean are not attacked and count as fooled. The
    victim must be in eval mode and is left exactly as it was. Rows do not depend on how images are batched, up to
    float rounding in the kernels.
    """
    check_labels(victim, x, y)
    victim = borrowed(victim)
    keys = image_keys(seed, ids).to(x.device)
    clean = _clean(victim, x, y, keys)
    right = (clean.predicted == y).nonzero()[:, 0]
    scenes = {
        surface: Scene(victim, x[right], y[right], fold(keys[right], evaluation), surface)
        for surface in {t.surface for t in threats.values()}
    }
    gradients = {surface: _gradient_fields(scene, loss, estimator) for surface, scene in scenes.items()}
    skipped = [
        {"attacked": p, "fooled": True, "skipped": True, "distance": 0.0, "margin": m, **vars(Cost())}
        for p, m in zip(clean.predicted.tolist(), short(clean.margin), strict=True)
    ]
    rows: list[Row] = []
    for eps_text, threat in threats.items():
        for name, attack in attacks.items():
            outcome = list(skipped)
            found = _attacked(scenes[threat.surface], name, attack, threat, estimator, loss)
            for slot, result, gradient in zip(right.tolist(), found, gradients[threat.surface], strict=True):
                outcome[slot] = {**result, **gradient}
            head = case("pixels", evaluation, threat, eps_text, name)
            columns = zip(ids.tolist(), y.tolist(), clean.predicted.tolist(), outcome, strict=True)
            rows += [{**head, "image": i, "label": t, "predicted": p, **o} for i, t, p, o in columns]
    return rows


def _gradient_fields(scene: Scene, loss: Loss, estimator: Estimator) -> list[Row]:
    """Of the attacked loss at the clean point, per image: is it all zero, its share of zeros, its l1 norm."""
    if not len(scene.y):
        return []
    _, g, _ = estimator(scene.objective(loss, Cost()), scene.start, estimator.init(scene.start), 0)
    return [
        {"zero_gradient": share == 1.0, "zero_share": share, "gradient_l1": scale}
        for share, scale in zip(short(sparsity.zero_share(g)), short(sparsity.l1(g)), strict=True)
    ]


def _attacked(
    scene: Scene, name: str, attack: Attack, threat: Threat, estimator: Estimator, loss: Loss
) -> list[Row]:
    """One case on the images of a scene: the part of the row that the attack decides."""
    if not len(scene.y):
        return []
    cost = Cost()
    point = attack(scene.objective(loss, cost), scene.start, threat, estimator, scene.keys).detach()
    distance = scene.check_budget(name, point, threat)
    found = scene.judge(point, name)
    columns = zip(found.predicted.tolist(), scene.y.tolist(), short(distance), short(found.margin), strict=True)
    return [{"attacked": a, "fooled": a != t, "distance": d, "margin": m, **vars(cost)} for a, t, d, m in columns]


def crafter(victim: Victim, attack: Attack, threat: Threat, estimator: Estimator, loss: Loss) -> Craft:
    """A training attack, (x, y, keys) -> x_adv: made in eval mode; the victim's mode is put back afterwards."""

    def craft(x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        training = victim.training
        victim.eval()
        try:
            scene = Scene(victim, x, y, fold(keys, "craft"), threat.surface)
            return attack(scene.objective(loss, Cost()), scene.start, threat, estimator, scene.keys).detach()
        finally:
            victim.train(training)

    return craft
