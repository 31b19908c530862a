"""Rows made up for tests: every field that its type asks for, with a usual value where a test does not care."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spikeproof.rows import fault

__all__ = ["attack", "audit", "clean", "corruption", "gradient", "held", "robust"]

_SPENT = {"distance": 0.01, "margin": -0.5, "forwards": 10, "backwards": 9}


def held(rows: Sequence[Any]) -> list[Any]:
    """The same rows; one of each shape is held against its type."""
    for row in {tuple((name, type(value)) for name, value in row.items()): row for row in rows}.values():
        assert (what := fault(row)) is None, f"{what}: {row}"
    return list(rows)


def _one(row: dict[str, Any], changes: dict[str, Any]) -> Any:
    (made,) = held([row | changes])
    return made


def clean(image: int, split: str = "test", *, label: int = 0, predicted: int = 0) -> Any:
    return _one({"kind": "clean", "split": split, "image": image, "label": label, "predicted": predicted,
                 "margin": 1.0}, {})  # fmt: skip


def attack(image: int, attack: str = "pgd", *, label: int = 0, predicted: int = 0, **changes: Any) -> Any:
    """Of evaluation and protocol 'pixels' at 8/255, and not fooled where the image is right when clean."""
    head = {
        "kind": "attack", "evaluation": "pixels", "protocol": "pixels", "surface": "pixels", "norm": "Linf",
        "eps": 8 / 255, "eps_text": "8/255", "attack": attack, "image": image, "label": label, "predicted": predicted,
    }  # fmt: skip
    wrong = predicted != label
    skipped = {"skipped": True, "forwards": 0, "backwards": 0} if wrong else {}
    return _one(head | {"attacked": predicted, "fooled": wrong, **_SPENT, **skipped}, changes)


def robust(image: int, split: str, **changes: Any) -> Any:
    return _one(attack(image, "pgd-20", eps=0.1, eps_text="0.1"), {"kind": "robust", "split": split, **changes})


def audit(code: str, colour: str = "green", breaks: str = "overstated", **changes: Any) -> Any:
    """Of the quick panel at 1/4; with values where it was run."""
    ran = colour != "not run"
    return _one({
        "kind": "audit", "code": code, "name": f"name of {code}", "colour": colour, "value": 0.5 if ran else None,
        "limit": 0.25 if ran else None, "n": 4 if ran else 0, "says": "s", "means": "m", "mend": "e", "breaks": breaks,
        "detail": {}, "evaluation": "panel", "eps": 0.25, "eps_text": "1/4", "tier": "quick",
    }, changes)  # fmt: skip


def corruption(image: int, name: str, predicted: list[int], label: int = 1) -> Any:
    return _one({"kind": "corruption", "corruption": name, "image": image, "label": label, "predicted": predicted}, {})


def gradient(image: int, site: str, side: str, summed: dict[str, float | None], **changes: Any) -> Any:
    head = {"image": image, "label": 0, "site": site, "side": side, "scalar": "ce", "batchnorm": "eval", "order": 7,
            "size": 64, "summed": summed}  # fmt: skip
    return _one(head, changes)
