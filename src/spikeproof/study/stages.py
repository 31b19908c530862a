"""What a cell is examined for besides attacks and gradients: generalisation, energy, theory; and all its results.

Each examination is a stage: a list of batches of rows, each made when it is called, so that a run that was stopped goes
on at the first batch it has not written. One whose number of images is 0 is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from spikeproof import parts
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case
from spikeproof.losses import cross_entropy
from spikeproof.measures.energy import energy_rows
from spikeproof.measures.generalisation import corruption_rows, robust_rows
from spikeproof.measures.theory import support_rows, theory_rows
from spikeproof.metrics import energy, generalisation, gradients, robustness, theory
from spikeproof.metrics.summaries import Results
from spikeproof.rows import GradientRow, Line, Row, Split
from spikeproof.study.config import CellConfig, rule_of, threats_of
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

__all__ = ["Batches", "Work", "examinations", "results", "work_on"]

Work = Callable[[], Sequence[Line]]
Batches = Callable[[Split, int, int], Sequence[Callable[[], Batch]]]
"""(split, how many images, batch size) -> their batches, each loaded when it is called."""


def examinations(victim: Victim, config: CellConfig, batches: Batches) -> dict[str, list[Work]]:
    """Stage -> its batches of rows, for a trained victim in eval mode."""
    stages = {
        "robust": _robust(victim, config, batches),
        "corruptions": _corruptions(victim, config, batches),
        "energy": _energy(victim, config, batches),
        "theory": _theory(victim, config, batches),
    }
    return {stage: work for stage, work in stages.items() if work}


def results(rows: Sequence[Row], gradient_rows: Iterable[GradientRow]) -> Results:
    """Every number of a cell, from its rows and those of its gradients, as plain JSON."""
    return {
        **robustness.summarise(rows),
        "gradients": gradients.summarise(gradient_rows),
        "generalisation": generalisation.summarise(rows),
        "energy": energy.summarise(rows),
        "theory": theory.summarise(rows),
    }


def work_on(
    victim: Victim, rows: Callable[..., Iterable[Line]], batches: Sequence[Callable[[], Batch]], **options: Any
) -> list[Work]:
    """rows(victim, batch, **options) of each batch, when it is called."""

    def made(load: Callable[[], Batch]) -> list[Line]:
        return list(rows(victim, load(), **options))

    return [partial(made, load) for load in batches]


def _robust(victim: Victim, config: CellConfig, batches: Batches) -> list[Work]:
    wanted = config.generalisation
    if not wanted.robust_images:
        return []
    rule = rule_of(config.rule, victim.rule)
    options: dict[str, Any] = {
        "threats": threats_of({"name": "linf"}, [wanted.eps], "pixels"),
        "cases": {f"pgd-{wanted.steps}": Case(parts.build("attacks", wanted.attack), WhiteBox(rule), cross_entropy)},
    }
    work: list[Work] = []
    for split in ("train", "test"):
        some = batches(split, wanted.robust_images, wanted.batch_size)
        work += work_on(victim, robust_rows, some, split=split, **options)
    return work


def _corruptions(victim: Victim, config: CellConfig, batches: Batches) -> list[Work]:
    wanted = config.generalisation
    if not wanted.corruption_images:
        return []
    some = batches("test", wanted.corruption_images, wanted.batch_size)
    work: list[Work] = []
    for name in wanted.corruptions:
        severities = [parts.build("corruptions", {"name": name}, severity=severity) for severity in range(1, 6)]
        work += work_on(victim, corruption_rows, some, name=name, severities=severities)
    return work


def _energy(victim: Victim, config: CellConfig, batches: Batches) -> list[Work]:
    wanted = config.energy
    if not wanted.images:
        return []
    return work_on(victim, energy_rows, batches("test", wanted.images, wanted.batch_size))


def _theory(victim: Victim, config: CellConfig, batches: Batches) -> list[Work]:
    wanted = config.theory
    rule = rule_of(config.rule, victim.rule)
    work: list[Work] = []
    if wanted.images:
        ((eps_text, threat),) = threats_of({"name": "linf"}, [wanted.eps], "pixels").items()
        work += work_on(
            victim, theory_rows, batches("test", wanted.images, wanted.batch_size), rule=rule, threat=threat,
            eps_text=eps_text, attack=parts.build("attacks", wanted.attack), estimator=WhiteBox(rule),
            draws=wanted.draws,
        )  # fmt: skip
    if wanted.weight_images:
        some = batches("test", wanted.weight_images, wanted.batch_size)
        work += work_on(victim, support_rows, some, rule=rule)
    return work
