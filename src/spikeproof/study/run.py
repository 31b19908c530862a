"""Running cells: train, attack, measure, write; a finished cell is skipped, a killed one goes on where it stopped."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

import spikeproof
from spikeproof import native
from spikeproof.data import Images, balanced, split
from spikeproof.errors import Locked, SpikeproofError
from spikeproof.evaluation.judge import attack_rows, clean_rows
from spikeproof.evaluation.panel import Asked
from spikeproof.evaluation.panel import Panel as Running
from spikeproof.evaluation.paper import paper_rows
from spikeproof.interop.wrap import Wrapped
from spikeproof.lines import Lines
from spikeproof.measures.gradients import gradient_rows, weight_rows
from spikeproof.rows import GradientRow, Row, refuse_twice
from spikeproof.store.card import card
from spikeproof.store.keys import cell_key, rows_code
from spikeproof.store.locks import Lock
from spikeproof.store.pieces import Pieces, Seen
from spikeproof.store.store import Cell, Draft, Store
from spikeproof.store.summary import Provenance, Written
from spikeproof.study.config import (
    CellConfig,
    Panel,
    Paper,
    Pixels,
    cases_of,
    rehearse,
    rule_of,
    threats_of,
)
from spikeproof.study.keyed import parts_of
from spikeproof.study.own import Own, measurable, own_network
from spikeproof.study.stages import Batches, Work, examinations, results, work_on
from spikeproof.study.together import Alone, Helping, Making, Merging, terms_of
from spikeproof.study.trained import Machine, Reader, build_victim, load_images, took, trained_victim
from spikeproof.tensors import fold, image_keys
from spikeproof.training.checkpoint import read_header
from spikeproof.training.facts import Facts, Took, facts_of
from spikeproof.types import Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

__all__ = [
    "Machine", "build_victim", "code_of", "key_of_cell", "load_images", "run_cell", "some_images", "trained_victim",
]  # fmt: skip


_OWN_WEIGHTS = "network.safetensors"
"""The weights of a network of one's own, in a draft."""


def code_of(cell: CellConfig) -> str:
    """A short hash of the sources that decide the rows of this cell."""
    return rows_code(__name__, parts_of(cell), panel=any(isinstance(one, Panel) for one in cell.evaluations))


def key_of_cell(cell: CellConfig, data: Mapping[str, str], device: str, own: Own | None = None) -> str:
    """The name of its results in a store. data: the digests of its images, 'train' and 'test'; own: its network, of one
    that was made and trained elsewhere."""
    return cell_key(cell.resolved(), code_of(cell), data, device, None if own is None else own.digest())


def _indices(images: Images, size: int) -> list[Tensor]:
    return list(torch.split(torch.arange(len(images)), size))


def _batches(victim: Victim, images: Images, size: int, seed: int, machine: Machine) -> list[Callable[[], Batch]]:
    """All of the images in order, each batch loaded when it is called."""

    def load(index: Tensor) -> Batch:
        return Batch.of(victim, *images.at(index), seed).to(machine.torch)

    return [partial(load, index) for index in _indices(images, size)]


def some_images(images: Images, count: int | None) -> Images:
    """`count` images (None or more than there are: all), balanced over the classes, in an order that mixes them."""
    index = balanced(images.labels, images.ids, min(count or len(images), len(images)), purpose="examination")
    order = torch.argsort(fold(image_keys(0, images.ids[index]), "examination order"), stable=True)
    return images.take(index[order])


@contextmanager
def _bar(machine: Machine, total: int, what: str, unit: str = "batch") -> Iterator[Callable[[int], Any]]:
    with tqdm(total=total, desc=what, unit=unit, disable=not machine.progress) as bar:
        yield bar.update


def _grow(making: Making, stage: str, work: Sequence[Work], tick: Callable[[], Any]) -> None:
    """Run a list of batches of rows, leaving out those that an earlier run finished, and close the stage."""
    if making.done(stage):
        return
    finished = len(making.batches(stage))
    for _ in range(finished):
        tick()
    for rows in making.made(stage, finished, work[finished:], needed=False):
        making.append(stage, rows)
        tick()
    making.close(stage, len(work))


def _clean(victim: Victim, making: Making, named: dict[str, Images], config: CellConfig, machine: Machine) -> None:
    # What a network of one's own takes at once, its owner knows.
    size = 256 if config.network is None else max(evaluation.batch_size for evaluation in config.evaluations)
    work = [
        piece
        for which, images in named.items()
        for piece in work_on(victim, clean_rows, _batches(victim, images, size, config.seed, machine), split=which)
        if len(images)
    ]
    with _bar(machine, len(work), "clean accuracy") as tick:
        _grow(making, "clean", work, lambda: tick(1))


def _attack(
    victim: Victim, making: Making, config: CellConfig, evaluation: Pixels | Paper | Panel, images: Images,
    machine: Machine,
) -> None:  # fmt: skip
    """The rows of one evaluation, in the way of its protocol."""
    stage = f"attack-{evaluation.name}"
    images = some_images(images, evaluation.images)
    threats = threats_of({"name": evaluation.norm}, evaluation.eps, evaluation.surface)
    if isinstance(evaluation, Panel):
        return _panel(victim, making, config.seed, evaluation, images, threats, machine)
    settings: dict[str, Any] = {
        "evaluation": evaluation.name, "threats": threats,
        "cases": cases_of(evaluation, config.encoder, victim.rule),
    }  # fmt: skip
    batches = _batches(victim, images, evaluation.batch_size, config.seed, machine)
    rounds = len(threats) if isinstance(evaluation, Paper) else 1
    with _bar(machine, len(images) * rounds, f"attack {evaluation.name}", "image") as tick:
        if isinstance(evaluation, Paper):
            # Its batches depend on one another, so it is one piece of work.
            whole = [lambda: paper_rows(victim, [load() for load in batches], **settings, tick=tick)]
            _grow(making, stage, whole, lambda: None)
        else:
            sizes = map(len, _indices(images, evaluation.batch_size))
            _grow(making, stage, work_on(victim, attack_rows, batches, **settings), lambda: tick(next(sizes)))


def _panel(
    victim: Victim, making: Making, seed: int, evaluation: Panel, images: Images, threats: dict[str, Threat],
    machine: Machine,
) -> None:  # fmt: skip
    """A panel at every budget. Its pieces depend on those before, so each is handed back the ones that are written."""
    stage = f"attack-{evaluation.name}"
    if making.done(stage):
        return
    batch = Batch.of(victim, *images.at(torch.arange(len(images))), seed).to(machine.torch)
    rule = rule_of(evaluation.rule, victim.rule)
    written = making.batches(stage)
    pieces = len(written)
    for number, (eps_text, threat) in enumerate(threats.items()):
        asked = Asked(evaluation.tier, threat, eps_text, rule, evaluation.batch_size, evaluation.name)
        panel = Running(victim, batch, asked)
        mine = [piece for piece in written if piece[0].get("eps_text") == eps_text]
        hands = partial(making.made, f"{stage}.{number}", needed=True)
        for piece in panel.watched(mine, hands, progress=machine.progress):
            making.append(stage, piece)
            pieces += 1
    making.close(stage, pieces)


def _measure(victim: Victim, making: Making, config: CellConfig, images: Images, machine: Machine) -> None:
    wanted = config.gradients
    if not victim.differentiable:
        return _grow(making, "gradients", [], lambda: None)
    few, images = some_images(images, wanted.weight_images), some_images(images, wanted.images)
    rule = rule_of(config.rule, victim.rule)
    modes: list[Any] = ["eval", "train"] if wanted.train_mode else ["eval"]
    inputs: dict[str, Any] = {"rule": rule, "scalars": tuple(wanted.scalars), "layers": wanted.layers}
    all_of, few_of = (_batches(victim, some, wanted.batch_size, config.seed, machine) for some in (images, few))
    work: list[Work] = []
    for mode in modes:
        work += work_on(victim, gradient_rows, all_of, **inputs, batchnorm=mode)
    for mode in modes if wanted.weight_images else ():
        work += work_on(victim, weight_rows, few_of, rule=rule, batchnorm=mode)
    with _bar(machine, len(work), "gradients") as tick:
        _grow(making, "gradients", work, lambda: tick(1))


def _examine(victim: Victim, making: Making, config: CellConfig, batches: Batches, machine: Machine) -> list[str]:
    """The examinations that the configuration asks for; returns the names of their stages."""
    stages = examinations(victim, config, batches)
    for stage, work in stages.items():
        with _bar(machine, len(work), stage) as tick:
            _grow(making, stage, work, partial(tick, 1))
    return list(stages)


def _provenance(config: CellConfig, facts: Facts, cost: Took, victim: Victim, machine: Machine) -> Provenance:
    return {
        "spikeproof": spikeproof.__version__,
        "torch": version("torch"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
        "machine": str(machine),
        "threads": torch.get_num_threads(),
        "code": code_of(config),
        "scan": native.form(machine.torch),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "parameters": sum(p.numel() for p in victim.parameters()),
        "best_epoch": facts.get("best_epoch"),
        "train_seconds": cost.get("train_seconds"),
        "trained_on": cost.get("trained_on"),
    }


def run_cell(
    config: CellConfig, store: Store, machine: Machine, *, wait: bool = True, read: Reader | None = None
) -> Cell:
    """One cell, from its configuration to its folder; returned at once where it is finished already.

    wait: for another run that is at the same cell, as long as the store has patience; then, or where False, Locked is
    raised. A machine that shares helps that run first, and then waits. read: who has read images for the cells before.
    """
    training, test = (read or Reader())(config)
    rehearse(config, in_channels=training.channels, classes=len(training.classes))
    data = {"train": training.digest(), "test": test.digest()}
    own = None if config.network is None else own_network(config)
    given = _Given(config, store, machine, training, test, own, key_of_cell(config, data, machine.device, own))
    if machine.shares:
        with suppress(Locked), store.lock(given.key, wait=False) as lock:
            return _finished(given, lock)
        _help(given)
    with store.lock(given.key, wait=wait) as lock:
        return _finished(given, lock)


class _Given(NamedTuple):
    """A cell that is to be made, with all that it is made of."""

    config: CellConfig
    store: Store
    machine: Machine
    training: Images
    test: Images
    own: Own | None
    key: str

    @property
    def data(self) -> dict[str, str]:
        return {"train": self.training.digest(), "test": self.test.digest()}

    def victim(self) -> tuple[Victim, Path | None, dict[str, Images]]:
        """Trained, with the file of its weights (None of a network of one's own), and the images it is looked at on."""
        config, training = self.config, self.training
        if self.own is not None:
            return self.own.victim(config, self.test, self.machine.torch), None, {"test": self.test, "train": training}
        victim, weights = trained_victim(config, self.store, self.machine, training)
        fitted, held_out = split(training, config.recipe.validation_share, config.seed)
        return victim, weights, {"test": self.test, "validation": held_out, "train": fitted}


def _help(given: _Given) -> None:
    """Make pieces of a cell that another run writes, until there is none that nobody has."""
    victim, _, looked_at = given.victim()
    try:
        pieces = Pieces(given.store, given.key, terms_of(given.machine))
        making = Helping(Seen(given.store, given.key), pieces)
        _stages(victim, making, given.config, looked_at, given.machine)
    except SpikeproofError:
        # Whose pieces vanished under it was too late: the cell is finished.
        if given.store.finished(given.key) is None:
            raise


def _finished(given: _Given, lock: Lock) -> Cell:
    """The cell, made where it is not there; the pieces that runs may share are cleared with that."""
    cell = given.store.finished(given.key) or _made(given, lock)
    if given.machine.shares:
        Pieces.clear(given.store, given.key)
    return cell


def _made(given: _Given, lock: Lock) -> Cell:
    """The cell, where it is not there."""
    config, store, machine, key = given.config, given.store, given.machine, given.key
    pieces = Pieces(store, key, terms_of(machine)) if machine.shares else None
    victim, weights, looked_at = given.victim()
    draft = store.draft(key, lock)
    if given.own is not None:
        given.own.write(weights := draft.folder / _OWN_WEIGHTS, given.test)
    assert weights is not None
    started = time.perf_counter()
    making: Making = Alone(draft) if pieces is None else Merging(draft, pieces)
    rows, gradients = _rows(draft, _stages(victim, making, config, looked_at, machine))
    facts = facts_of(read_header(weights), weights)
    draft.write_stage("history", facts.get("history", []))
    provenance: Provenance = {
        **_provenance(config, facts, took(config, weights), victim, machine),
        **({"network": given.own.facts(victim)} if given.own is not None and isinstance(victim, Wrapped) else {}),
        "data": given.data,
        "samples": {name: of.facts() for name, of in (("train", given.training), ("test", given.test)) if len(of)},
        "evaluate_seconds": round(time.perf_counter() - started, 1),
    }
    summary: Written = {"provenance": provenance, "results": results(rows, gradients)}
    resolved = config.resolved()
    return store.finish(draft, resolved, summary, card(resolved, summary), weights)


def _stages(
    victim: Victim, making: Making, config: CellConfig, looked_at: dict[str, Images], machine: Machine
) -> list[str]:
    """Every stage of a cell, made or found finished; returns those whose rows go into rows.jsonl. looked_at: split ->
    images."""
    test = looked_at["test"]
    _clean(victim, making, looked_at, config, machine)

    def batches(which: str, count: int, size: int) -> list[Callable[[], Batch]]:
        return _batches(victim, some_images(looked_at[which], count), size, config.seed, machine)

    if config.network is not None:
        with measurable():  # what such a network cannot have is refused before the hours of attacks
            _measure(victim, making, config, test, machine)
            _examine(victim, making, config, batches, machine)
    for evaluation in config.evaluations:
        _attack(victim, making, config, evaluation, test, machine)
    _measure(victim, making, config, test, machine)
    examined = _examine(victim, making, config, batches, machine)
    return ["clean", *(f"attack-{e.name}" for e in config.evaluations), *examined]


def _rows(draft: Draft, stages: Sequence[str]) -> tuple[Lines[Row], Lines[GradientRow]]:
    """All rows of a cell whose stages are written, and those of its gradients."""
    each = [draft.stage(stage) for stage in stages]
    gradients = draft.gradients()
    refuse_twice(chain.from_iterable(each))
    refuse_twice(gradients)
    draft.write_stage("rows", chain.from_iterable(each))
    return draft.stage("rows"), gradients
