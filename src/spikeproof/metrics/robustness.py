"""Robustness is counted per image: right on the clean input, and fooled by none of the attacks.

Everything here is a pure function of rows (one dictionary per image and clean split, or per image, evaluation, eps and
attack), as `rows.jsonl` holds them. An image that errs on its clean input is not attacked and counts as not robust.
The clean prediction of an attacked image is the one its attack row holds, because a protocol may judge the clean image
in its own way (batch statistics, for one).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np

from spikeproof.errors import SpikeproofError
from spikeproof.lines import Lines
from spikeproof.metrics._index import (
    ByAttack,
    ByImage,
    Evaluation,
    Index,
    complete,
    costs,
    duplicate,
    indexed,
    named,
    ordered,
    pick,
    plain,
    right_when_clean,
    same_eps,
)
from spikeproof.metrics._intervals import Interval, clopper_pearson
from spikeproof.metrics.panels import panels
from spikeproof.metrics.summaries import AttackSummary, EvaluationSummary, Numbers, RobustnessSummary, Shares
from spikeproof.metrics.verdict import NOT_EVALUATED, Word
from spikeproof.rows import AttackRow, CleanRow, RobustRow, Row, Split, columns

__all__ = [
    "Evaluation",
    "Interval",
    "area",
    "asr_all",
    "asr_conditional",
    "clean",
    "clopper_pearson",
    "evaluations",
    "indexed",
    "robust",
    "same_eps",
    "standing",
    "summarise",
]


def area(eps: Sequence[float], accuracy: Sequence[float]) -> float:
    """Area under robust accuracy against eps by the trapezoid rule, divided by the range of eps: in [0,1].

    Raises SpikeproofError unless there are two points or more, eps is finite and strictly ascending, and every accuracy
    is in [0,1].
    """
    if len(eps) != len(accuracy) or len(eps) < 2:
        got = f"{len(eps)} eps and {len(accuracy)} accuracies"
        raise SpikeproofError("two points or more, one accuracy for each eps", got)
    x, y = np.asarray(eps, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)
    if not np.isfinite(x).all() or not (np.diff(x) > 0).all():
        raise SpikeproofError("finite and strictly ascending eps", list(eps), mend="sort the points by eps")
    if not ((y >= 0) & (y <= 1)).all():
        raise SpikeproofError("accuracies in [0,1]", list(accuracy), mend="give shares, not percent")
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def clean(rows: Iterable[Row], split: str) -> Interval | None:
    """Clean accuracy on `split` (train, validation or test); None where no image of it was measured.

    Raises SpikeproofError for an unknown split, and for an image that has two rows in it.
    """
    if split not in get_args(Split):
        raise SpikeproofError("a split", repr(split), valid=get_args(Split))
    seen: dict[int, bool] = {}
    for where, image, predicted, label in zip(
        *columns(rows, CleanRow, "split", "image", "predicted", "label"), strict=True
    ):
        if where == split:
            if image in seen:
                raise duplicate(f"image {image} of split {split}")
            seen[image] = predicted == label
    return clopper_pearson(sum(seen.values()), len(seen)) if seen else None


def evaluations(rows: Iterable[Row]) -> list[Evaluation]:
    """Every threat and budget among the attack rows: evaluations in order of appearance, each by ascending eps.

    Raises SpikeproofError where rows of one evaluation and eps disagree on its protocol, surface or norm, and where an
    image has two rows of one attack.
    """
    return [named(group) for group in ordered(indexed(rows))]


def robust(rows: Iterable[Row], evaluation: str, eps: float, attack: str | None = None) -> Interval:
    """Robust accuracy of one attack or, where `attack` is None, of the worst case over all attacks per image.

    An image counts where its clean prediction is right and no attack fooled it. A stage of a panel that passed over the
    images that fell before it has the number of what is left after it, not an accuracy of its own. Raises
    SpikeproofError where the evaluation, eps or attack was not measured, and where an image lacks the row of an attack
    (its worst case is unknown); the message names both.
    """
    return _share(_robust(complete(pick(indexed(rows), evaluation, eps, attack))).values())


def standing(rows: Iterable[Row], evaluation: str, eps: float, index: Index | None = None) -> dict[int, bool]:
    """image -> whether it counts as robust in the worst case over all attacks. index: `indexed` rows, where they are
    there. Raises as `robust` does."""
    return _robust(complete(pick(indexed(rows) if index is None else index, evaluation, eps, None)))


def asr_conditional(rows: Iterable[Row], evaluation: str, eps: float, attack: str | None = None) -> Interval | None:
    """Attack success rate among the images that are right when clean: (A0 - Ar) / A0; None where none is right.

    A0 and Ar are over the same images. Raises as `robust` does.
    """
    group = complete(pick(indexed(rows), evaluation, eps, attack))
    return _conditional(right_when_clean(group), _robust(group))


def asr_all(rows: Iterable[Row], evaluation: str, eps: float, attack: str | None = None) -> Interval:
    """Attack success rate that counts clean errors as successes: 1 - Ar. Raises as `robust` does."""
    return _share(not kept for kept in _robust(complete(pick(indexed(rows), evaluation, eps, attack))).values())


def summarise(rows: Iterable[Row], index: Index | None = None) -> RobustnessSummary:
    """Every number on robustness that the rows of one cell hold. index: `indexed` rows, where they are there. Raises as
    `robust` does."""
    rows = rows if isinstance(rows, Lines) else Lines(rows)
    index = indexed(rows) if index is None else index
    examined = panels(rows, index)
    words = {(panel["evaluation"], panel["eps"]): panel["verdict"] for panel in examined}
    entries = [_entry(by_eps[eps], words.get((name, eps))) for name, by_eps in index.items() for eps in sorted(by_eps)]
    return {
        "clean": {split: plain(clean(rows, split)) for split in get_args(Split)},
        "evaluations": entries,
        "panels": examined,
        "twin_differs": plain(_twin(rows)),
        "forwards": sum(entry["worst"]["forwards"] for entry in entries),
        "backwards": sum(entry["worst"]["backwards"] for entry in entries),
    }


def _twin(rows: Iterable[Row]) -> Interval | None:
    (attacks,), (others,) = columns(rows, AttackRow, "twin_differs"), columns(rows, RobustRow, "twin_differs")
    told = [differs for differs in (*attacks, *others) if differs is not None]
    return clopper_pearson(sum(told), len(told)) if told else None


def _robust(group: ByAttack) -> dict[int, bool]:
    """image -> right on the clean input and fooled by no attack of the group."""
    fooled = _fooled(group)
    return {image: right and image not in fooled for image, right in right_when_clean(group).items()}


def _fooled(group: ByAttack) -> set[int]:
    return {image for images in group.values() for image, row in images.items() if row["fooled"]}


def _share(outcomes: Iterable[bool]) -> Interval:
    outcomes = list(outcomes)
    return clopper_pearson(sum(outcomes), len(outcomes))


def _conditional(right: dict[int, bool], kept: dict[int, bool]) -> Interval | None:
    before, after = sum(right.values()), sum(kept.values())
    return clopper_pearson(before - after, before) if before else None


def _attacked(group: ByAttack) -> dict[int, list[AttackRow]]:
    """image -> its rows that hold an attack: a clean error is not attacked."""
    attacked: dict[int, list[AttackRow]] = {}
    for images in group.values():
        for image, row in images.items():
            if row["predicted"] == row["label"]:
                attacked.setdefault(image, []).append(row)
    return attacked


def _deployed(group: ByAttack) -> Interval | None:
    if not any(row.get("attacked_deployed") is not None for images in group.values() for row in images.values()):
        return None
    attacked = _attacked(group)
    if not attacked or any(row.get("attacked_deployed") is None for rows in attacked.values() for row in rows):
        return None
    return _share(
        right and all(row["attacked_deployed"] == row["label"] for row in attacked[image])
        for image, right in right_when_clean(group).items()
    )


def _blind(group: ByAttack) -> Interval | None:
    said = [
        any(row["zero_gradient"] for row in told)
        for rows in _attacked(group).values()
        if (told := [row for row in rows if row.get("zero_gradient") is not None])
    ]
    return _share(said) if said else None


def _draws(group: ByAttack) -> dict[int, float] | None:
    """image -> the least share of fresh draws that are right after any attack on it; 0 where it is wrong when clean.
    None where no row tells of draws, because nothing is random."""
    if not any("draws_right" in row for images in group.values() for row in images.values()):
        return None
    told = {
        image: [images[image]["draws_right"] for images in group.values() if "draws_right" in images[image]]
        for image in right_when_clean(group)
    }
    return {image: min(told[image], default=0.0) * right for image, right in right_when_clean(group).items()}


def _numbers(group: ByAttack, *, told: bool) -> Numbers:
    """The shares of one attack or of the worst case, None where they are not to be told; and the costs."""
    return {
        **(_shares(group) if told else _UNTOLD),
        "zero_gradient": plain(_blind(group)),
        **costs(row for images in group.values() for row in images.values()),
    }


def _shares(group: ByAttack) -> Shares:
    right, fooled, draws = right_when_clean(group), _fooled(group), _draws(group)
    kept = {image: right[image] and image not in fooled for image in right}
    return {
        "robust": plain(_share(kept.values())),
        "survived": plain(_share(image not in fooled for image in right)),
        "asr_conditional": plain(_conditional(right, kept)),
        "asr_all": plain(_share(not each for each in kept.values())),
        "deployed": plain(_deployed(group)),
        "every_draw": None if draws is None else plain(_share(share == 1 for share in draws.values())),
        "mean_draw": None if draws is None else sum(draws.values()) / len(draws),
    }


_UNTOLD: Shares = {
    "robust": None, "survived": None, "asr_conditional": None, "asr_all": None, "deployed": None, "every_draw": None,
    "mean_draw": None,
}  # fmt: skip


def _alone(attack: str, images: ByImage, *, told: bool) -> AttackSummary:
    """The numbers of one attack. If it passed over images that had fallen before it, its rows say what is left after it
    and nothing of what it had done alone."""
    alone = not any(row.get("skipped") and row["predicted"] == row["label"] for row in images.values())
    return {"alone": alone, **_numbers({attack: images}, told=told and alone)}


def _entry(group: ByAttack, verdict: Word | None) -> EvaluationSummary:
    name, right = named(complete(group)), right_when_clean(group)
    told = verdict != NOT_EVALUATED
    return {
        "evaluation": name.evaluation,
        "protocol": name.protocol,
        "surface": name.surface,
        "norm": name.norm,
        "eps": name.eps,
        "eps_text": name.eps_text,
        "attacks": {attack: _alone(attack, images, told=told) for attack, images in group.items()},
        "verdict": verdict,
        "images": len(right),
        "clean": _share(right.values()).plain(),
        "worst": _numbers(group, told=told),
    }
