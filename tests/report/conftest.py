"""Made-up cells: rows in the shape of the store's, from a small formula, so that every number of a page is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import held

Rows = list[dict[str, Any]]
BUDGETS = {"0": 0.0, "2/255": 2 / 255, "8/255": 8 / 255, "16/255": 16 / 255}


@dataclass(frozen=True)
class FakeCell:
    key: str
    config: dict[str, Any]
    attack_rows: Rows
    gradient_rows: Rows = field(default_factory=list)
    epochs: Rows = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=lambda: {"spikeproof": "0.1.0", "best_epoch": 3})
    folder: Path = Path("nowhere")

    def rows(self) -> Rows:
        return self.attack_rows

    def gradients(self) -> Rows:
        return self.gradient_rows

    def history(self) -> Rows:
        return self.epochs


def configuration(name: str, *, seed: int = 0, pool: str = "max", defence: str = "vanilla") -> dict[str, Any]:
    return {
        "name": name,
        "seed": seed,
        "data": {"name": "digits"},
        "model": {"name": "small_sew_resnet", "pool": pool},
        "defence": {"name": defence},
        "evaluations": [
            {"name": "pixels", "attacks": {"square-500": {"name": "square"}, "pgd-20": {"name": "pgd", "steps": 20}}},
            {"name": "paper", "attacks": {"fgsm": {"name": "fgsm"}, "pgd-7": {"name": "pgd", "steps": 7}}},
        ],
        "headline": {"evaluation": "pixels", "eps": "8/255"},
    }


@pytest.fixture(autouse=True)
def no_fonts(no_pdf: None) -> None:
    """No real PDF anywhere here, but in test_report and test_paper_figures."""


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for a verdict on made-up cells, whose effects are large; the real numbers are in test_deciding_numbers."""
    monkeypatch.setattr("spikeproof.report._tradeoff.DECIDING", (4000,))
    monkeypatch.setattr("spikeproof.report._tradeoff.REPLICATES", 100)


def clean_rows(accuracy: float, images: int) -> Rows:
    return held([
        {"kind": "clean", "split": split, "image": i, "label": 0, "predicted": int(i >= share * images), "margin": 1.0}
        for split, share in (("train", min(1.0, accuracy + 0.05)), ("validation", accuracy), ("test", accuracy))
        for i in range(images)
    ])  # fmt: skip


def attack_rows(
    accuracy: float, strength: float, images: int, *, attack: str = "pgd-20", protocol: str = "pixels", blind: int = 0
) -> Rows:
    """The share that survives falls with strength * eps; the last `blind` images right when clean have no gradient."""
    rows = []
    right = sum(i < accuracy * images for i in range(images))
    budgets = {"6/255": 6 / 255} if protocol == "paper" else {k: v for k, v in BUDGETS.items() if v}
    for text, eps in budgets.items():
        kept = max(0.0, accuracy * (1 - strength * eps)) * images
        for i in range(images):
            row = {
                "kind": "attack", "evaluation": protocol, "protocol": protocol, "norm": "Linf",
                "surface": "encoded" if protocol == "paper" else "pixels", "eps": float(f"{eps:.9g}"),
                "eps_text": text, "attack": attack, "image": i, "label": 0, "predicted": int(i >= right),
                "attacked": int(i >= kept), "fooled": i >= kept, "forwards": 21, "backwards": 20,
                "distance": eps, "margin": 0.5,
            }  # fmt: skip
            if protocol == "paper":
                row["attacked_deployed"] = int(i >= kept / 2)
            elif i < right:
                row["zero_gradient"] = right - blind <= i < right
            rows.append(row)
    return held(rows)


def gradient_rows(sparsity: float, images: int, depth: int = 6) -> Rows:
    """Input gradients at image, encoding and `depth` layers, and one weight gradient; the last image is all zero."""
    layers = ["image", "encoded", *(f"layer{n // 2}.{n % 2}.conv1" for n in range(depth))]
    rows = []
    for order, site in enumerate(layers):
        for scalar in ("ce", "margin") if order < 2 else ("ce",):
            for image in range(images):
                share = 1.0 if image == images - 1 else min(1.0, sparsity + 0.04 * order)
                head = {"image": image, "label": 0, "site": site, "side": "input", "scalar": scalar, "order": order}
                rows.append({**head, "batchnorm": "eval", "size": 64, "summed": measures(share)})
    for image in range(images):
        head = {"image": image, "label": 0, "site": "weight:fc", "side": "weight", "scalar": "ce", "order": 0}
        rows.append({**head, "batchnorm": "eval", "size": 9, "masked_share": 0.125, "summed": measures(0.2)})
    return held(rows)


def measures(share: float) -> dict[str, float | None]:
    defined = share < 1
    tiny = {f"below_{tau}": share for tau in ("1e-06", "1e-03", "1e-02")}
    scale_free = ("l1_ratio", "hoyer", "gini", "participation")
    return {"zero_share": share, **tiny, "l1": 3 * (1 - share), "l2": 1 - share} | {
        name: 0.5 + share / 2 if defined else None for name in scale_free
    }


def epochs() -> Rows:
    return held([
        {"epoch": e, "loss": 2 / e, "validation_loss": 2.1 / e, "validation_accuracy": 1 - 0.7 / e} for e in range(1, 6)
    ])  # fmt: skip


STAGES = {
    "fgsm": "first", "pgd-20": "first", "pgd-20 dense twin": "dense twin", "sa-pgd-50 assg": "white box",
    "corners-50": "random", "from other": "transfer", "square-500": "black box",
}  # fmt: skip
"""Attack -> group. The first two see every image; the others what is left."""

AUDITS = {
    "D13": ("determinism", "not evaluated"), "D14": ("same model", "not evaluated"),
    "D1": ("one step against many", "nothing"), "D2": ("black box against white box", "nothing"),
    "D3": ("unbounded attack", "not evaluated"), "D6d": ("false zeros", "nothing"),
    "D9": ("transfer", "nothing"), "D18": ("positive control", "not evaluated"),
    "D21": ("power", "unsettled"), "D22": ("slack", "unsettled"),
}  # fmt: skip
"""Code -> name, and what a red one makes of the number."""

PREFLIGHT = ("D13", "D14")


def audit_row(code: str, colour: str = "green", text: str = "0.15", **changes: Any) -> dict[str, Any]:
    name, breaks = AUDITS[code]
    ran = colour != "not run"
    row = {
        "kind": "audit", "code": code, "name": name, "colour": colour, "value": 0.25 if ran else None,
        "limit": 0.01 if ran else None, "n": 20 if ran else 0, "says": f"{name}: said by {code}",
        "means": f"what a red {code} means.", "mend": f"the mend of {code}.", "breaks": breaks,
        "detail": {"expected": 0.125} if code == "D22" else {},
        "evaluation": "panel", "eps": float(text), "eps_text": text, "tier": "quick",
    } | changes  # fmt: skip
    (made,) = held([row])
    return made


def stage_rows(right: int, images: int, left: dict[str, int], text: str) -> Rows:
    """A cascade: after each stage the first `left[stage]` images stand."""
    rows, standing = [], right
    for attack, group in STAGES.items():
        everyone, kept = group == "first", left[attack]
        for i in range(images):
            skipped = i >= (right if everyone else standing)
            row = {
                "kind": "attack", "evaluation": "panel", "protocol": "panel", "surface": "pixels", "norm": "Linf",
                "eps": float(text), "eps_text": text, "tier": "quick", "attack": attack, "group": group, "image": i,
                "label": 0, "predicted": int(i >= right), "attacked": int(i >= kept), "fooled": i >= kept,
                "forwards": 0 if skipped else 21, "backwards": 0 if skipped else 20, "distance": 0.1, "margin": 0.5,
            }  # fmt: skip
            rows.append(row | ({"skipped": True} if skipped else {"zero_gradient": False} if everyone else {}))
        standing = min(standing, kept)
    return held(rows)


def panel_rows(
    red: Sequence[str] = (), absent: Sequence[str] = ("D18",), *, text: str = "0.15", accuracy: float = 0.9,
    images: int = 20, kept: int = 7,
) -> Rows:  # fmt: skip
    """One panel whose audits `red` are red and `absent` not run; `kept` images survive it all."""
    colours = {code: "red" if code in red else "not run" if code in absent else "green" for code in AUDITS}
    preflight = [audit_row(code, colours[code], text) for code in PREFLIGHT]
    if any(row["colour"] == "red" for row in preflight):
        return preflight
    right = sum(i < accuracy * images for i in range(images))
    falls = {name: min(right, kept + 2 * (len(STAGES) - n - 1)) for n, name in enumerate(STAGES)}
    attacks = stage_rows(right, images, falls, text)
    return [*preflight, *attacks, *(audit_row(c, colours[c], text) for c in AUDITS if c not in PREFLIGHT)]


@pytest.fixture(scope="session")
def panel_of() -> Callable[..., Rows]:
    """`panel_rows`: red codes, and what differs -> the rows of one panel."""
    return panel_rows


@pytest.fixture(scope="session")
def make_panel_cell(make_cell: Callable[..., FakeCell]) -> Callable[..., FakeCell]:
    """name, rows of panels, and what differs -> a cell whose headline is its panel at 0.15."""

    def make(name: str, *panels: Rows, **changes: Any) -> FakeCell:
        cell = make_cell(name, **{"attacks": False, **changes})
        config = {**cell.config, "headline": {"evaluation": "panel", "eps": 0.15}}
        return replace(cell, config=config, attack_rows=cell.attack_rows + [row for rows in panels for row in rows])

    return make


@pytest.fixture(scope="session")
def make_cell() -> Callable[..., FakeCell]:
    """name, and what differs -> a cell with two attacks, gradients and a history, unless told otherwise."""

    def make(
        name: str,
        *,
        accuracy: float = 0.9,
        strength: float = 30.0,
        sparsity: float = 0.2,
        images: int = 20,
        seed: int = 0,
        pool: str = "max",
        defence: str = "vanilla",
        paper: bool = False,
        blind: int = 0,
        gradients: bool = True,
        attacks: bool = True,
    ) -> FakeCell:
        rows = clean_rows(accuracy, images)
        if attacks:
            rows += attack_rows(accuracy, strength, images, blind=blind)
            rows += attack_rows(accuracy, strength / 2, images, attack="square-500")
        if paper:
            rows += attack_rows(accuracy, strength / 3, images, protocol="paper", attack="pgd-7")
        config = configuration(name, seed=seed, pool=pool, defence=defence)
        gradient = gradient_rows(sparsity, 4) if gradients else []
        return FakeCell(f"{name}-{seed}", config, rows, gradient, epochs())

    return make


DEFENCES = ("vanilla", "adversarial", "trades", "mart", "sr", "rat", "tgo")
PANEL_IMAGES = 60


def image_gradient(gini: float, l1: float) -> list[dict[str, Any]]:
    """Image gradients with one Gini and one l1, as the store's rows have them."""
    summed = {"gini": gini, "hoyer": gini, "zero_share": 0.0, "l1_ratio": 1 - gini, "participation": 9.0, "l1": l1}
    head = {"side": "input", "scalar": "ce", "batchnorm": "eval", "size": 64, "label": 0}
    return held([{**head, "image": i, "site": "image", "order": 0, "summed": summed} for i in range(2)])


@pytest.fixture(scope="session")
def make_study(make_panel_cell: Callable[..., Any], panel_of: Callable[..., Any]) -> Callable[..., Any]:
    """robust share from (log l1, Gini), and what differs -> the cells of 7 defences x 2 knobs x 2 pools x 3 seeds."""

    def make(
        robust: Callable[[float, float], float],
        *,
        defences: tuple[str, ...] = DEFENCES,
        seeds: int = 3,
        red: tuple[str, ...] = (),
        width: int = 8,
    ) -> list[Any]:
        generator = np.random.default_rng(0)
        cells = []
        for defence in defences:
            for knob in (1, 2):
                scale, shape = generator.uniform(-1, 1, 2)
                for pool in ("max", "avg"):
                    for seed in range(seeds):
                        noise = generator.normal(0, 0.04, 3)
                        log, gini = scale + noise[0], 0.5 + 0.1 * shape + 0.1 * (pool == "max") + 0.1 * noise[1]
                        kept = round(PANEL_IMAGES * min(0.6, max(0.0, robust(log, gini) + 0.1 * noise[2])))
                        accuracy = 0.9 - 0.2 * (gini - 0.55) + 0.01 * noise[2]
                        panel = panel_of(red, kept=kept, images=PANEL_IMAGES, accuracy=accuracy)
                        name = f"{defence}-{knob}-{pool}-s{seed}"
                        cell = make_panel_cell(name, panel, seed=seed, pool=pool, defence=defence, accuracy=accuracy,
                                               images=100, gradients=False)  # fmt: skip
                        cell.config["defence"]["weight"] = knob
                        cell.config["model"]["width"] = width
                        rows = image_gradient(gini, float(np.exp(log)))
                        cells.append(replace(cell, key=f"{width}-{cell.key}", gradient_rows=rows, epochs=[]))
        return cells

    return make
