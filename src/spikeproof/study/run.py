"""Running cells: train, attack, measure, write; a finished cell is skipped, a killed one goes on where it stopped."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import spikeproof
from spikeproof import native, parts
from spikeproof.data import Images, balanced, split
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import attack_rows, clean_rows
from spikeproof.evaluation.panel import Panel
from spikeproof.evaluation.paper import paper_rows
from spikeproof.losses import cross_entropy
from spikeproof.measures.gradients import gradient_rows, weight_rows
from spikeproof.store.card import card
from spikeproof.store.keys import cell_key, code_digest, model_key
from spikeproof.store.store import Cell, Draft, Store
from spikeproof.study.config import CellConfig, Evaluation, cases_of, threats_of
from spikeproof.study.stages import Batches, Work, examinations, results
from spikeproof.tensors import fold, image_keys
from spikeproof.training.checkpoint import load_into, read_tensors, write_tensors
from spikeproof.training.craft import crafter
from spikeproof.training.train import train
from spikeproof.types import Threat
from spikeproof.victims.victim import Victim

__all__ = [
    "Machine", "build_victim", "load_images", "run_cell", "some_images", "trained_victim",
]  # fmt: skip

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Machine:
    """Where work runs: provenance of a cell; of its key only the kind of device (cpu, cuda) is a part."""

    device: str = "cpu"
    progress: bool = True

    @property
    def torch(self) -> torch.device:
        return torch.device(self.device)

    def settle(self) -> None:
        """Make torch as repeatable as it can be, in this process."""
        # Rounding of a few bits flips a membrane that sits on its threshold.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.torch) if self.torch.type == "cuda" else platform.machine()
        return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def build_victim(config: CellConfig, in_channels: int, classes: int) -> Victim:
    """An untrained victim; its initial weights depend on the seed alone, not on torch's global stream."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        body = parts.build(
            "models",
            config.model,
            in_channels=in_channels,
            classes=classes,
            neuron=lambda: parts.build("neurons", config.neuron),
        )
    return Victim(body, parts.build("encoders", config.encoder), config.steps)


def load_images(config: CellConfig, which: str) -> Images:
    """The training or test images that a configuration names."""
    limit = config.train_images if which == "train" else config.test_images
    images: Images = parts.build("data", config.data).load(which, limit)
    return images


def trained_victim(
    config: CellConfig, store: Store, machine: Machine, images: Images | None = None
) -> tuple[Victim, Path]:
    """The trained victim, in eval mode, and its weights' file; trains it, or goes on training it, where needed.

    Its folder in the store is locked meanwhile, so that two processes never train the same network. Weights that the
    configuration names are loaded, strictly, and nothing is trained.
    """
    resolved = config.resolved()
    images = images or load_images(config, "train")
    victim = build_victim(config, images.channels, len(images.classes)).to(machine.torch)
    if config.weights is not None:
        load_into(victim.body, read_tensors(Path(config.weights))[0], config.weights)
        return victim.eval(), Path(config.weights)
    key = model_key(resolved, images.digest(), machine.device)
    with store.lock(f"model-{key}"):
        weights = store.whole_model(key)
        if weights is None:
            weights = _train(config, store, machine, images, victim, key)
        else:
            load_into(victim.body, read_tensors(weights)[0], weights)
    return victim.eval(), weights


def _train(config: CellConfig, store: Store, machine: Machine, images: Images, victim: Victim, key: str) -> Path:
    """Train `victim` in place, or go on with it; its weights are stored under `key`, and their file returned."""
    draft = store.model_folder(key).with_name(f"{key}.partial")
    training, validation = split(images, config.recipe.validation_share, config.seed)
    rule = parts.build("rules", config.rule)
    (threat,) = threats_of(config.training_threat, [config.training_threat["eps"]], "pixels").values()
    attack = parts.build("attacks", config.training_attack)
    checkpoint = draft / "checkpoint.safetensors"
    resumed, started = checkpoint.is_file(), time.perf_counter()
    history, best = train(
        victim,
        training,
        validation,
        recipe=config.recipe,
        defence=parts.build("defences", config.defence),
        rule=rule,
        craft=crafter(victim, attack, threat, WhiteBox(rule), cross_entropy),
        seed=config.seed,
        checkpoint=checkpoint,
        fingerprint=key,
        device=machine.torch,
        progress=machine.progress,
    )
    resolved = config.resolved()
    facts = {
        "architecture": resolved["model"],
        "neuron": resolved["neuron"],
        "input_shape": list(images.pixels.shape[1:]),
        "classes": list(images.classes),
        "best_epoch": best,
        "history": history,
        # Of a training that was stopped nobody knows how long the first part took.
        "train_seconds": None if resumed else round(time.perf_counter() - started, 1),
        "trained_on": str(machine),
    }
    write_tensors(draft / "model.safetensors", victim.body.state_dict(), facts)
    return store.finish_model(draft, key)


def _indices(images: Images, size: int) -> list[Tensor]:
    return list(torch.split(torch.arange(len(images)), size))


def _batch(images: Images, index: Tensor, machine: Machine) -> Batch:
    x, y, ids = images.at(index)
    return x.to(machine.torch), y.to(machine.torch), ids


def some_images(images: Images, count: int | None) -> Images:
    """`count` images (None or more than there are: all), balanced over the classes, in an order that mixes them."""
    index = balanced(images.labels, images.ids, min(count or len(images), len(images)), purpose="examination")
    order = torch.argsort(fold(image_keys(0, images.ids[index]), "examination order"), stable=True)
    return images.take(index[order])


@contextmanager
def _bar(machine: Machine, total: int, what: str, unit: str = "batch") -> Iterator[Callable[[int], Any]]:
    with tqdm(total=total, desc=what, unit=unit, disable=not machine.progress) as bar:
        yield bar.update


def _grow(draft: Draft, stage: str, work: Iterable[Work], tick: Callable[[], Any]) -> None:
    """Run a list of batches of rows, leaving out those that an earlier run finished, and close the stage."""
    if draft.done(stage):
        return
    finished = len(draft.batches(stage))
    for number, batch in enumerate(work):
        if number >= finished:
            draft.append(stage, batch())
        tick()
    draft.close(stage)


def _clean(victim: Victim, draft: Draft, named: dict[str, Images], seed: int, machine: Machine) -> None:
    work = [
        (lambda i=images, n=index, s=which: clean_rows(victim, *_batch(i, n, machine), split=s, seed=seed))
        for which, images in named.items()
        for index in _indices(images, 256)
    ]
    with _bar(machine, len(work), "clean accuracy") as tick:
        _grow(draft, "clean", work, lambda: tick(1))


def _attack(
    victim: Victim, draft: Draft, config: CellConfig, evaluation: Evaluation, images: Images, machine: Machine
) -> None:
    stage = f"attack-{evaluation.name}"
    images = some_images(images, evaluation.images)
    threats = threats_of({"name": evaluation.norm}, evaluation.eps or [], evaluation.surface or "pixels")
    if evaluation.protocol == "panel":
        return _panel(victim, draft, config, evaluation, images, threats, machine)
    settings: dict[str, Any] = {
        "evaluation": evaluation.name,
        "threats": threats,
        "cases": cases_of(evaluation, config.rule),
        "seed": config.seed,
    }
    indices = _indices(images, evaluation.batch_size or 64)
    rounds = len(settings["threats"]) if evaluation.protocol == "paper" else 1
    with _bar(machine, len(images) * rounds, f"attack {evaluation.name}", "image") as tick:
        if evaluation.protocol == "paper":
            # Its batches depend on one another, so it is one piece of work.
            batches = [_batch(images, index, machine) for index in indices]
            _grow(draft, stage, [lambda: paper_rows(victim, batches, **settings, tick=tick)], lambda: None)
        else:
            sizes = iter([len(index) for index in indices])
            work = [(lambda n=index: attack_rows(victim, *_batch(images, n, machine), **settings)) for index in indices]
            _grow(draft, stage, work, lambda: tick(next(sizes)))


def _panel(
    victim: Victim, draft: Draft, config: CellConfig, evaluation: Evaluation, images: Images,
    threats: dict[str, Threat], machine: Machine,
) -> None:  # fmt: skip
    """A panel at every budget. Its pieces depend on those before, so each is handed back the ones that are written."""
    stage = f"attack-{evaluation.name}"
    if draft.done(stage):
        return
    x, y, ids = _batch(images, torch.arange(len(images)), machine)
    rule = parts.build("rules", evaluation.rule or config.rule)
    written = draft.batches(stage)
    for eps_text, threat in threats.items():
        panel = Panel(
            victim, x, y, ids, tier=evaluation.tier or "quick", threat=threat, eps_text=eps_text, rule=rule,
            seed=config.seed, batch_size=evaluation.batch_size or 64, evaluation=evaluation.name,
        )  # fmt: skip
        mine = [piece for piece in written if piece[0]["eps_text"] == eps_text]
        for piece in panel.watched(mine, progress=machine.progress):
            draft.append(stage, piece)
    draft.close(stage)


def _measure(victim: Victim, draft: Draft, config: CellConfig, images: Images, machine: Machine) -> None:
    wanted = config.gradients
    few, images = some_images(images, wanted.weight_images), some_images(images, wanted.images)
    rule = parts.build("rules", config.rule)
    modes: list[Any] = ["eval", "train"] if wanted.train_mode else ["eval"]
    options: dict[str, Any] = {"rule": rule, "seed": config.seed}
    inputs: dict[str, Any] = {**options, "scalars": tuple(wanted.scalars), "layers": wanted.layers}
    work = [
        *(
            (lambda n=n, m=m: list(gradient_rows(victim, *_batch(images, n, machine), **inputs, batchnorm=m)))
            for m in modes
            for n in _indices(images, wanted.batch_size)
        ),
        *(
            (lambda n=n, m=m: list(weight_rows(victim, *_batch(few, n, machine), **options, batchnorm=m)))
            for m in modes
            for n in _indices(few, wanted.batch_size)
        ),
    ]
    with _bar(machine, len(work), "gradients") as tick:
        _grow(draft, "gradients", work, lambda: tick(1))


def _examine(victim: Victim, draft: Draft, config: CellConfig, batches: Batches, machine: Machine) -> list[str]:
    """The examinations that the configuration asks for; returns the names of their stages."""
    stages = examinations(victim, config, batches)
    for stage, work in stages.items():
        with _bar(machine, len(work), stage) as tick:
            _grow(draft, stage, work, partial(tick, 1))
    return list(stages)


def _provenance(config: CellConfig, facts: dict[str, Any], victim: Victim, machine: Machine) -> dict[str, Any]:
    return {
        "spikeproof": spikeproof.__version__,
        **{name: version(name) for name in ("torch", "numpy")},
        "python": platform.python_version(),
        "machine": str(machine),
        "threads": torch.get_num_threads(),
        "code": code_digest(),
        "scan": native.form(machine.torch),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "parameters": sum(p.numel() for p in victim.parameters()),
        "best_epoch": facts.get("best_epoch"),
        "train_seconds": facts.get("train_seconds"),
        "trained_on": facts.get("trained_on"),
    }


def run_cell(config: CellConfig, store: Store, machine: Machine, *, wait: bool = True) -> Cell:
    """One cell, from its configuration to its folder; returned at once where it is finished already.

    wait: for another process that is at the same cell; where False, filelock.Timeout is raised instead.
    """
    resolved = config.resolved()
    training, test = load_images(config, "train"), load_images(config, "test")
    config.rehearse(training.channels, len(training.classes))
    data = {"train": training.digest(), "test": test.digest()}
    key = cell_key(resolved, data, machine.device)
    with store.lock(key, wait=wait):
        if (done := store.finished(key)) is not None:
            return done
        victim, weights = trained_victim(config, store, machine, training)
        started = time.perf_counter()
        draft = store.draft(key)
        fitted, held_out = split(training, config.recipe.validation_share, config.seed)
        _clean(victim, draft, {"test": test, "validation": held_out, "train": fitted}, config.seed, machine)
        evaluations = [e.resolved() for e in config.evaluations]
        for evaluation in evaluations:
            _attack(victim, draft, config, evaluation, test, machine)
        _measure(victim, draft, config, test, machine)

        def batches(which: str, count: int, size: int) -> list[Callable[[], Batch]]:
            images = some_images({"train": fitted, "test": test}[which], count)
            return [partial(_batch, images, index, machine) for index in _indices(images, size)]

        examined = _examine(victim, draft, config, batches, machine)
        stages = ["clean", *(f"attack-{e.name}" for e in evaluations), *examined]
        rows = [row for stage in stages for row in draft.stage(stage)]
        draft.write_stage("rows", rows)
        _, facts = read_tensors(weights)
        draft.write_stage("history", facts.get("history", []))
        provenance = {
            **_provenance(config, facts, victim, machine),
            "data": data,
            "evaluate_seconds": round(time.perf_counter() - started, 1),
        }
        summary = {"provenance": provenance, "results": results(rows, draft.stage("gradients"))}
        return store.finish(draft, resolved, summary, card(resolved, summary), weights)
