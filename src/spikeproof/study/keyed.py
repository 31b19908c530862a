"""The parts that a cell runs: what names it in a store, beside its configuration."""

from __future__ import annotations

from collections.abc import Iterator

from spikeproof.store.keys import NETWORKS, Named
from spikeproof.study.config.build import USING
from spikeproof.study.config.schema import FOLDERS, CellConfig, Panel, Paper, Part, Pixels

__all__ = ["parts_of", "parts_of_training"]


def parts_of_training(cell: CellConfig) -> Named:
    """Those that decide the weights; images count by their content, wherever they are from.

    Of a network of one's own: what makes it, and what reads it.
    """
    if cell.network is not None:
        rule = frozenset[tuple[str, str]]() if cell.rule is None else {("rules", str(cell.rule["name"]))}
        own = {(NETWORKS, path) for path in cell.network.paths}
        return frozenset({*own, *rule, ("encoders", str(cell.encoder["name"]))})
    named = {(folder, str(getattr(cell, field)["name"])) for field, folder in FOLDERS.items() if field != "data"}
    threat = {("threats", str(cell.training_threat["name"])), ("surfaces", "pixels")}
    return frozenset({*named, *_nested(cell.defence), *threat})


def _nested(defence: Part) -> Iterator[tuple[str, str]]:
    base = defence.get("base")
    while base is not None:
        yield "defences", str(base["name"])
        base = base.get("base")


def parts_of(cell: CellConfig) -> Named:
    """Those that decide the rows. A panel's tier names more, by importing them."""
    named = {*parts_of_training(cell)}
    for evaluation in cell.evaluations:
        named |= set(_of_evaluation(evaluation))
    wanted, theory = cell.generalisation, cell.theory
    if wanted.corruption_images:
        named |= {("corruptions", name) for name in wanted.corruptions}
    for examination, images in ((wanted, wanted.robust_images), (theory, theory.images)):
        if images:
            named |= {("threats", "linf"), ("surfaces", "pixels"), ("attacks", str(examination.attack["name"]))}
    return frozenset(named)


def _of_evaluation(evaluation: Pixels | Paper | Panel) -> Iterator[tuple[str, str]]:
    yield "threats", evaluation.norm
    yield "surfaces", evaluation.surface
    if evaluation.rule is not None:
        yield "rules", str(evaluation.rule["name"])
    yield "encoders", str(evaluation.encoder["name"])
    if isinstance(evaluation, Panel):
        return
    yield "losses", evaluation.loss
    yield "estimators", str(evaluation.estimator["name"])
    for attack in evaluation.attacks.values():
        yield "attacks", str(attack["name"])
        for key, part in attack.get("using", {}).items():
            yield USING[key], str(part if key == "loss" else part["name"])
