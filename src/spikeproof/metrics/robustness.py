"""Robustness is counted per image: right on the clean input, and fooled by none of the attacks.

Everything here is a pure function of rows (one dictionary per image and clean split, or per image, evaluation, eps and
attack), as `rows.jsonl` holds them. An image that errs on its clean input is not attacked and counts as not robust.
The clean prediction of an attacked image is the one its attack row holds, because a protocol may judge the clean image
in its own way (batch statistics, for one).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from spikeproof.errors import SpikeproofError
from spikeproof.metrics._intervals import Interval, clopper_pearson
from spikeproof.metrics.verdict import NOT_EVALUATED, verdict_of

__all__ = [
    "Evaluation",
    "Interval",
    "area",
    "asr_all",
    "asr_conditional",
    "clean",
    "clopper_pearson",
    "evaluations",
    "robust",
    "same_eps",
    "summarise",
]

Row: TypeAlias = Mapping[str, Any]
_ByImage: TypeAlias = dict[int, Row]
_ByAttack: TypeAlias = dict[str, _ByImage]

_SPLITS = ("train", "validation", "test")


class Evaluation(NamedTuple):
    """One threat at one budget, and the attacks that were run under it, in order of appearance."""

    evaluation: str
    protocol: str
    surface: str
    norm: str
    eps: float
    eps_text: str
    attacks: tuple[str, ...]


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


def same_eps(a: float, b: float) -> bool:
    """Whether two numbers are the same budget: rows hold eps rounded to nine digits, 8/255 for one."""
    return math.isclose(a, b, rel_tol=1e-6)


def clean(rows: Iterable[Row], split: str) -> Interval | None:
    """Clean accuracy on `split` (train, validation or test); None where no image of it was measured.

    Raises SpikeproofError for an unknown split, and for an image that has two rows in it.
    """
    if split not in _SPLITS:
        raise SpikeproofError("a split", repr(split), valid=_SPLITS)
    seen: dict[int, bool] = {}
    for row in rows:
        if _field(row, "kind") == "clean" and _field(row, "split") == split:
            image = _field(row, "image")
            if image in seen:
                raise _duplicate(f"image {image} of split {split}")
            seen[image] = _field(row, "predicted") == _field(row, "label")
    return clopper_pearson(sum(seen.values()), len(seen)) if seen else None


def evaluations(rows: Iterable[Row]) -> list[Evaluation]:
    """Every threat and budget among the attack rows: evaluations in order of appearance, each by ascending eps.

    Raises SpikeproofError where rows of one evaluation and eps disagree on its protocol, surface or norm, and where an
    image has two rows of one attack.
    """
    return [_named(group) for group in _ordered(_index(rows))]


def robust(rows: Iterable[Row], evaluation: str, eps: float, attack: str | None = None) -> Interval:
    """Robust accuracy of one attack or, where `attack` is None, of the worst case over all attacks per image.

    An image counts where its clean prediction is right and no attack fooled it. A stage of a panel that passed over the
    images that fell before it has the number of what is left after it, not an accuracy of its own. Raises
    SpikeproofError where the evaluation, eps or attack was not measured, and where an image lacks the row of an attack
    (its worst case is unknown); the message names both.
    """
    return _share(_robust(_complete(_pick(_index(rows), evaluation, eps, attack))).values())


def asr_conditional(rows: Iterable[Row], evaluation: str, eps: float, attack: str | None = None) -> Interval | None:
    """Attack success rate among the images that are right when clean: (A0 - Ar) / A0; None where none is right.

    A0 and Ar are over the same images. Raises as `robust` does.
    """
    return _conditional(_complete(_pick(_index(rows), evaluation, eps, attack)))


def asr_all(rows: Iterable[Row], evaluation: str, eps: float, attack: str | None = None) -> Interval:
    """Attack success rate that counts clean errors as successes: 1 - Ar. Raises as `robust` does."""
    return _everything(_complete(_pick(_index(rows), evaluation, eps, attack)))


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """Every number that the rows of one cell hold, as plain JSON.

    `clean` has one interval or None for each split. `evaluations` has one entry for each evaluation and eps: its six
    names; `images`; `clean`, the accuracy on the same images before the attack; `attacks`, by name, and `worst`, the
    worst case over them, each with `robust`; `survived`, the images fooled by no attack, those wrong when clean not
    excepted (the accuracy under attack of protocols that attack every image); `asr_conditional` (None where no image
    is right when clean); `asr_all`; `forwards` and `backwards` (totals); `zero_gradient`, the share of attacked images
    whose gradient was zero everywhere (None where no row says so); and `deployed`, robust accuracy where the network
    as deployed judges what the attacks found (None unless every attacked row says so). Where the code is random,
    `robust` asks the majority of fresh draws, `every_draw` asks all of them, and `mean_draw` is the share that are
    right. An interval is a dictionary of share, low, high, correct and total. `forwards` and `backwards` are the
    cell's totals. `twin_differs` is the share of proposed points to which the network that was deployed and the frozen
    twin that attacks were crafted on give different answers (None where no attack was crafted on a twin).

    `panels` has one entry for each evaluation and eps of protocol 'panel', attacked or not: evaluation, eps, eps_text,
    tier; `verdict`, its word; the codes of the audits that are `red`, `green` and `absent`; `attacked`, whether attacks
    were run; `stages`, the cascade; and `audits`, what each found. The word stands in the entry of `evaluations` as
    `verdict` too (None without a panel). Where it is 'not evaluated', there is no number: every share after the attack
    is None, here and there. And an attack that was not run on every image that is right when clean (`alone` is False)
    has no share of its own either: what is left after it is in `stages`. Raises as `robust` does.
    """
    rows = list(rows)
    splits = {split: _plain(clean(rows, split)) for split in _SPLITS}
    index = _index(rows)
    panels = _panels(rows, index)
    words = {(panel["evaluation"], panel["eps"]): panel["verdict"] for panel in panels}
    entries = [_entry(by_eps[eps], words.get((name, eps))) for name, by_eps in index.items() for eps in sorted(by_eps)]
    return {
        "clean": splits,
        "evaluations": entries,
        "panels": panels,
        "twin_differs": _plain(_twin(rows)),
        "forwards": sum(entry["worst"]["forwards"] for entry in entries),
        "backwards": sum(entry["worst"]["backwards"] for entry in entries),
    }


def _twin(rows: Sequence[Row]) -> Interval | None:
    told = [bool(row["twin_differs"]) for row in rows if "twin_differs" in row]
    return clopper_pearson(sum(told), len(told)) if told else None


def _field(row: Row, name: str) -> Any:
    try:
        return row[name]
    except KeyError:
        raise SpikeproofError(
            f"a row with the field {name!r}", sorted(row), mend="the rows are damaged: run the cell anew"
        ) from None


def _duplicate(what: str) -> SpikeproofError:
    return SpikeproofError(f"one row for {what}", "two", mend="the rows are damaged: run the cell anew")


def _index(rows: Iterable[Row]) -> dict[str, dict[float, _ByAttack]]:
    """The attack rows by evaluation, eps, attack and image."""
    index: dict[str, dict[float, _ByAttack]] = {}
    for row in rows:
        if _field(row, "kind") != "attack":
            continue
        name, eps = _field(row, "evaluation"), float(_field(row, "eps"))
        attack, image = _field(row, "attack"), _field(row, "image")
        images = index.setdefault(name, {}).setdefault(eps, {}).setdefault(attack, {})
        if image in images:
            raise _duplicate(f"image {image}, evaluation {name}, eps {eps:g} and attack {attack}")
        images[image] = row
    return index


def _ordered(index: dict[str, dict[float, _ByAttack]]) -> list[_ByAttack]:
    return [by_eps[eps] for by_eps in index.values() for eps in sorted(by_eps)]


def _pick(index: dict[str, dict[float, _ByAttack]], evaluation: str, eps: float, attack: str | None) -> _ByAttack:
    if evaluation not in index:
        raise SpikeproofError("an evaluation that was measured", repr(evaluation), valid=index)
    found = [value for value in index[evaluation] if same_eps(value, eps)]
    if not found:
        raise SpikeproofError(f"an eps of evaluation {evaluation}", eps, valid=sorted(index[evaluation]))
    group = index[evaluation][found[0]]
    if attack is None:
        return group
    if attack not in group:
        raise SpikeproofError(f"an attack of evaluation {evaluation}", repr(attack), valid=group)
    return {attack: group[attack]}


def _complete(group: _ByAttack) -> _ByAttack:
    """The same group, refused where an image lacks an attack or where its rows disagree on the label."""
    every = set().union(*group.values())
    for attack, images in group.items():
        for image in sorted(every - images.keys()):
            raise SpikeproofError(
                f"a row of attack {attack} for image {image}", "none", mend="run the cell again to complete it"
            )
    for image in every:
        labels = {_field(rows[image], "label") for rows in group.values()}
        if len(labels) > 1:
            raise SpikeproofError(f"one label for image {image}", sorted(labels))
    return group


def _named(group: _ByAttack) -> Evaluation:
    fields = ("evaluation", "protocol", "surface", "norm", "eps", "eps_text")
    names = {tuple(_field(row, field) for field in fields) for images in group.values() for row in images.values()}
    if len(names) > 1:
        raise SpikeproofError("one protocol, surface and norm for each evaluation and eps", sorted(names, key=str))
    evaluation, protocol, surface, norm, eps, text = names.pop()
    return Evaluation(evaluation, protocol, surface, norm, float(eps), str(text), tuple(group))


def _right(group: _ByAttack) -> dict[int, bool]:
    """image -> right on the clean input, in the row of every attack (fresh noise may tell them apart)."""
    first = next(iter(group.values()))
    return {
        image: all(_field(images[image], "predicted") == _field(images[image], "label") for images in group.values())
        for image in first
    }


def _robust(group: _ByAttack) -> dict[int, bool]:
    """image -> right on the clean input and fooled by no attack of the group."""
    return {
        image: right and not any(_field(images[image], "fooled") for images in group.values())
        for image, right in _right(group).items()
    }


def _share(outcomes: Iterable[bool]) -> Interval:
    outcomes = list(outcomes)
    return clopper_pearson(sum(outcomes), len(outcomes))


def _conditional(group: _ByAttack) -> Interval | None:
    right, kept = sum(_right(group).values()), sum(_robust(group).values())
    return clopper_pearson(right - kept, right) if right else None


def _everything(group: _ByAttack) -> Interval:
    return _share(not kept for kept in _robust(group).values())


def _attacked(group: _ByAttack) -> dict[int, list[Row]]:
    """image -> its rows that hold an attack: a clean error is not attacked."""
    attacked: dict[int, list[Row]] = {}
    for images in group.values():
        for image, row in images.items():
            if row["predicted"] == row["label"]:
                attacked.setdefault(image, []).append(row)
    return attacked


def _deployed(group: _ByAttack) -> Interval | None:
    attacked = _attacked(group)
    if not attacked or any(row.get("attacked_deployed") is None for rows in attacked.values() for row in rows):
        return None
    return _share(
        right and all(row["attacked_deployed"] == row["label"] for row in attacked[image])
        for image, right in _right(group).items()
    )


def _plain(interval: Interval | None) -> dict[str, float | int] | None:
    return None if interval is None else interval._asdict()


def _blind(group: _ByAttack) -> Interval | None:
    said = [
        any(row["zero_gradient"] for row in told)
        for rows in _attacked(group).values()
        if (told := [row for row in rows if row.get("zero_gradient") is not None])
    ]
    return _share(said) if said else None


def _draws(group: _ByAttack) -> dict[int, float] | None:
    """image -> the least share of fresh draws that are right after any attack on it; 0 where it is wrong when clean.
    None where no row tells of draws, because nothing is random."""
    if not any("draws_right" in row for images in group.values() for row in images.values()):
        return None
    told = {
        image: [images[image]["draws_right"] for images in group.values() if "draws_right" in images[image]]
        for image in _right(group)
    }
    return {image: min(told[image], default=0.0) * right for image, right in _right(group).items()}


def _mean_draw(group: _ByAttack) -> float | None:
    draws = _draws(group)
    return None if draws is None else sum(draws.values()) / len(draws)


def _shares(group: _ByAttack) -> dict[str, Interval | None]:
    survived = (not any(images[image]["fooled"] for images in group.values()) for image in _right(group))
    return {
        "robust": _share(_robust(group).values()),
        "survived": _share(survived),
        "asr_conditional": _conditional(group),
        "asr_all": _everything(group),
        "deployed": _deployed(group),
        "every_draw": None if (draws := _draws(group)) is None else _share(share == 1 for share in draws.values()),
    }


_SHARES = ("robust", "survived", "asr_conditional", "asr_all", "deployed", "every_draw")


def _numbers(group: _ByAttack, *, told: bool) -> dict[str, Any]:
    """The shares of one attack or of the worst case, None where they are not to be told; and the costs."""
    shares = _shares(group) if told else dict.fromkeys(_SHARES)
    return {
        **{name: _plain(share) for name, share in shares.items()},
        "mean_draw": _mean_draw(group) if told else None,
        "zero_gradient": _plain(_blind(group)),
        **_costs(row for images in group.values() for row in images.values()),
    }


def _costs(rows: Iterable[Row]) -> dict[str, int]:
    rows = list(rows)
    return {name: sum(_field(row, name) for row in rows) for name in ("forwards", "backwards")}


def _alone(attack: str, images: _ByImage, *, told: bool) -> dict[str, Any]:
    """The numbers of one attack. If it passed over images that had fallen before it, its rows say what is left after it
    and nothing of what it had done alone."""
    alone = not any(row.get("skipped") and row["predicted"] == row["label"] for row in images.values())
    return {"alone": alone, **_numbers({attack: images}, told=told and alone)}


def _entry(group: _ByAttack, verdict: str | None) -> dict[str, Any]:
    named = _named(_complete(group))
    told = verdict != NOT_EVALUATED
    return {
        **named._asdict(),
        "verdict": verdict,
        "attacks": {attack: _alone(attack, images, told=told) for attack, images in group.items()},
        "images": len(_right(group)),
        "clean": _plain(_share(_right(group).values())),
        "worst": _numbers(group, told=told),
    }


_PANEL = ("evaluation", "eps", "eps_text", "tier")
_FOUND = ("code", "name", "colour", "value", "limit", "n", "says", "means", "mend", "breaks", "detail")


def _panels(rows: Iterable[Row], index: dict[str, dict[float, _ByAttack]]) -> list[dict[str, Any]]:
    """Every evaluation and eps that was audited, or whose attacks are a panel's; in order, each by ascending eps."""
    audits: dict[str, dict[float, list[Row]]] = {}
    for name, by_eps in index.items():
        for eps, group in by_eps.items():
            if _named(group).protocol == "panel":
                audits.setdefault(name, {}).setdefault(eps, [])
    for row in rows:
        if _field(row, "kind") == "audit":
            eps = float(_field(row, "eps"))
            audits.setdefault(_field(row, "evaluation"), {}).setdefault(eps, []).append(row)
    return [
        _panel(by_eps[eps], _complete(index.get(name, {}).get(eps, {})))
        for name, by_eps in audits.items()
        for eps in sorted(by_eps)
    ]


def _panel(audits: Sequence[Row], group: _ByAttack) -> dict[str, Any]:
    found = [{field: _field(row, field) for field in _FOUND} for row in audits]
    heads = [*audits, *(row for images in group.values() for row in images.values())]
    names = {tuple(_field(row, field) for field in _PANEL) for row in heads}
    if len(names) > 1:
        raise SpikeproofError("one tier for each evaluation and eps of a panel", sorted(names, key=str))
    codes = [one["code"] for one in found]
    if len(set(codes)) < len(codes):
        twice = next(code for code in codes if codes.count(code) > 1)
        raise _duplicate(f"audit {twice} of evaluation {heads[0]['evaluation']}")
    verdict = verdict_of(audits)
    return {
        **dict(zip(_PANEL, names.pop(), strict=True)),
        "verdict": verdict.word,
        "red": list(verdict.red),
        "green": list(verdict.green),
        "absent": list(verdict.absent),
        "attacked": bool(group),
        "stages": _stages(group, told=verdict.word != NOT_EVALUATED) if group else [],
        "audits": found,
    }


def _stages(group: _ByAttack, *, told: bool) -> list[dict[str, Any]]:
    """The cascade: on how many images each attack was run, how many it broke, how many of those no attack before had,
    and the share of all images that is `left` after it (None where it is not to be told)."""
    standing = {image for image, right in _right(group).items() if right}
    total, stages = len(_right(group)), []
    for attack, images in group.items():
        ran = [row for row in images.values() if not row.get("skipped")]
        before = len(standing)
        standing -= {image for image, row in images.items() if _field(row, "fooled")}
        stages.append({
            "attack": attack,
            "group": _field(next(iter(images.values())), "group"),
            "attacked": len(ran),
            "broken": sum(row["fooled"] for row in ran),
            "newly_broken": before - len(standing),
            "left": _plain(clopper_pearson(len(standing), total)) if told else None,
            **_costs(images.values()),
        })  # fmt: skip
    return stages
