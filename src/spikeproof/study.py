"""Running cells: train, attack, measure, write; a finished cell is skipped, a killed one goes on where it stopped."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import spikeproof
from spikeproof import parts
from spikeproof.card import card
from spikeproof.checkpoint import digest, load_into, read_tensors, write_tensors
from spikeproof.config import CellConfig, Evaluation, cases_of, threats_of
from spikeproof.data import Images, split
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluate import attack_rows, clean_rows, crafter
from spikeproof.losses import cross_entropy
from spikeproof.measure import gradient_rows, weight_rows
from spikeproof.metrics.robustness import summarise
from spikeproof.paper import paper_rows
from spikeproof.store import Cell, Draft, Store, key_of
from spikeproof.train import train
from spikeproof.victim import Victim

__all__ = ["Machine", "build_victim", "cell_key", "model_key", "run_cell", "run_study", "trained_victim"]

Batch = tuple[Tensor, Tensor, Tensor]
Work = Callable[[], list[dict[str, Any]]]

_TRAINING = (
    "data", "train_images", "model", "neuron", "rule", "encoder", "steps", "defence", "training_threat",
    "training_attack", "recipe", "seed",
)  # fmt: skip
"""What a trained network depends on; the rest of a configuration only says how it is examined."""

_NO_NUMBERS = ("report/", "store.py", "study.py", "cli.py", "card.py", "findings.py", "parts.py", "config.py")
"""Sources that decide no number of a cell."""

_AFTER_TRAINING = ("measure.py", "paper.py", "metrics/")
"""Sources that decide no weight of a trained network."""


@dataclass(frozen=True)
class Machine:
    """Where work runs; no part of a cell's key, but of its provenance."""

    device: str = "cpu"
    progress: bool = True

    @property
    def torch(self) -> torch.device:
        return torch.device(self.device)

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.torch) if self.torch.type == "cuda" else platform.machine()
        return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def code_digest(*without: str) -> str:
    """A short hash of the package's sources that decide numbers, so that a result knows the code that made it."""
    root = Path(spikeproof.__file__).parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith((*_NO_NUMBERS, *without)):
            total.update(f"{name}\n".encode() + path.read_bytes())
    return total.hexdigest()[:16]


def model_key(config: dict[str, Any]) -> str:
    """Of a resolved configuration: the name of the network it trains."""
    return key_of({"code": code_digest(*_AFTER_TRAINING), **{k: config[k] for k in _TRAINING}})


def cell_key(config: dict[str, Any]) -> str:
    """Of a resolved configuration: the name of its results. Given weights count by their content, not their path."""
    weights = digest(Path(config["weights"])) if config["weights"] else None
    return key_of({"code": code_digest(), **config, "weights": weights})


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


def _load(config: CellConfig, which: str) -> Images:
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
    if config.weights is not None:
        images = images or _load(config, "train")
        victim = build_victim(config, images.pixels.shape[1], len(images.classes))
        load_into(victim.body, read_tensors(Path(config.weights))[0], config.weights)
        return victim.to(machine.torch).eval(), Path(config.weights)
    key = model_key(resolved)
    folder = store.model_folder(key)
    weights, draft = folder / "model.safetensors", folder.with_name(f"{key}.partial")
    with store.lock(f"model-{key}"):
        images = images or _load(config, "train")
        victim = build_victim(config, images.pixels.shape[1], len(images.classes)).to(machine.torch)
        if weights.is_file():
            tensors, _ = read_tensors(weights)
            load_into(victim.body, tensors, weights)
            return victim.eval(), weights
        training, validation = split(images, config.recipe.validation_share, config.seed)
        rule = parts.build("rules", config.rule)
        (threat,) = threats_of(config.training_threat, [config.training_threat["eps"]], "pixels").values()
        attack = parts.build("attacks", config.training_attack)
        started = time.perf_counter()
        history, best = train(
            victim,
            training,
            validation,
            recipe=config.recipe,
            defence=parts.build("defences", config.defence),
            rule=rule,
            craft=crafter(victim, attack, threat, WhiteBox(rule), cross_entropy),
            seed=config.seed,
            checkpoint=draft / "checkpoint.safetensors",
            fingerprint=f"{key} {images.digest()}",
            device=machine.torch,
            progress=machine.progress,
        )
        facts = {
            "architecture": resolved["model"],
            "neuron": resolved["neuron"],
            "input_shape": list(images.pixels.shape[1:]),
            "classes": list(images.classes),
            "best_epoch": best,
            "history": history,
            "train_seconds": round(time.perf_counter() - started, 1),
            "train_data": images.digest(),
        }
        write_tensors(draft / "model.safetensors", victim.body.state_dict(), facts)
        for path in draft.iterdir():
            if path.name != weights.name:
                path.unlink()  # the checkpoint, and what a killed run left half written
        os.rename(draft, folder)
    return victim.eval(), weights


def _batches(images: Images, size: int, device: torch.device) -> Iterator[Batch]:
    for index in torch.split(torch.arange(len(images)), size):
        x, y, ids = images.at(index)
        yield x.to(device), y.to(device), ids


@contextmanager
def _bar(machine: Machine, total: int, what: str) -> Iterator[Callable[[int], Any]]:
    with tqdm(total=total, desc=what, unit="image", disable=not machine.progress) as bar:
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
        (lambda b=batch, s=which: clean_rows(victim, *b, split=s, seed=seed))
        for which, images in named.items()
        for batch in _batches(images, 256, machine.torch)
    ]
    with _bar(machine, len(work), "clean accuracy") as tick:
        _grow(draft, "clean", work, lambda: tick(1))


def _attack(
    victim: Victim, draft: Draft, config: CellConfig, evaluation: Evaluation, images: Images, machine: Machine
) -> None:
    stage = f"attack-{evaluation.name}"
    images = images.take(torch.arange(min(evaluation.images or len(images), len(images))))
    settings: dict[str, Any] = {
        "evaluation": evaluation.name,
        "threats": threats_of({"name": evaluation.norm}, evaluation.eps or [], evaluation.surface or "pixels"),
        "cases": cases_of(evaluation, config.rule),
        "seed": config.seed,
    }
    batches = list(_batches(images, evaluation.batch_size or 64, machine.torch))
    rounds = len(settings["threats"]) if evaluation.protocol == "paper" else 1
    with _bar(machine, len(images) * rounds, f"attack {evaluation.name}") as tick:
        if evaluation.protocol == "paper":
            # Its batches depend on one another, so it is one piece of work.
            _grow(draft, stage, [lambda: paper_rows(victim, batches, **settings, tick=tick)], lambda: None)
        else:
            sizes = iter([len(b[1]) for b in batches])
            work = [(lambda b=b: attack_rows(victim, *b, **settings)) for b in batches]
            _grow(draft, stage, work, lambda: tick(next(sizes)))


def _measure(victim: Victim, draft: Draft, config: CellConfig, images: Images, machine: Machine) -> None:
    wanted = config.gradients
    images = images.take(torch.arange(min(wanted.images, len(images))))
    few = images.take(torch.arange(min(wanted.weight_images, len(images))))
    rule = parts.build("rules", config.rule)
    modes: list[Any] = ["eval", "train"] if wanted.train_mode else ["eval"]
    options: dict[str, Any] = {"rule": rule, "seed": config.seed}
    inputs: dict[str, Any] = {**options, "scalars": tuple(wanted.scalars), "layers": wanted.layers}
    work = [
        *(
            (lambda b=b, m=m: list(gradient_rows(victim, *b, **inputs, batchnorm=m)))
            for m in modes
            for b in _batches(images, wanted.batch_size, machine.torch)
        ),
        *(
            (lambda b=b, m=m: list(weight_rows(victim, *b, **options, batchnorm=m)))
            for m in modes
            for b in _batches(few, wanted.batch_size, machine.torch)
        ),
    ]
    with _bar(machine, len(work), "gradients") as tick:
        _grow(draft, "gradients", work, lambda: tick(1))


def _provenance(config: CellConfig, facts: dict[str, Any], victim: Victim, machine: Machine) -> dict[str, Any]:
    return {
        "spikeproof": spikeproof.__version__,
        **{name: version(name) for name in ("torch", "numpy")},
        "python": platform.python_version(),
        "machine": str(machine),
        "code": code_digest(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "parameters": sum(p.numel() for p in victim.parameters()),
        "best_epoch": facts.get("best_epoch"),
        "train_seconds": facts.get("train_seconds"),
    }


def run_cell(config: CellConfig, store: Store, machine: Machine) -> Cell:
    """One cell, from its configuration to its folder; returned at once where it is finished already."""
    resolved = config.resolved()
    key = cell_key(resolved)
    with store.lock(key):
        if (done := store.finished(key)) is not None:
            return done
        training, test = _load(config, "train"), _load(config, "test")
        victim, weights = trained_victim(config, store, machine, training)
        started = time.perf_counter()
        draft = store.draft(key)
        fitted, held_out = split(training, config.recipe.validation_share, config.seed)
        _clean(victim, draft, {"test": test, "validation": held_out, "train": fitted}, config.seed, machine)
        evaluations = [e.resolved() for e in config.evaluations]
        for evaluation in evaluations:
            _attack(victim, draft, config, evaluation, test, machine)
        _measure(victim, draft, config, test, machine)
        stages = ["clean", *(f"attack-{e.name}" for e in evaluations)]
        rows = [row for stage in stages for row in draft.stage(stage)]
        draft.write_stage("rows", rows)
        _, facts = read_tensors(weights)
        draft.write_stage("history", facts.get("history", []))
        provenance = {
            **_provenance(config, facts, victim, machine),
            "data": {"train": training.digest(), "test": test.digest()},
            "evaluate_seconds": round(time.perf_counter() - started, 1),
        }
        summary = {"provenance": provenance, "results": summarise(rows)}
        return store.finish(draft, resolved, summary, card(resolved, summary), weights)


def run_study(cells: list[CellConfig], store: Store, machine: Machine) -> Iterator[tuple[CellConfig, Cell]]:
    """Every cell of a study, one after the other."""
    for config in cells:
        yield config, run_cell(config, store, machine)
