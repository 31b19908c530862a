"""The network of a cell: built, trained where it is not yet, and kept in the store for every cell that examines it."""

from __future__ import annotations

import json
import os
import platform
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from spikeproof import parts
from spikeproof.data import Images, split
from spikeproof.errors import UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.files import write_bytes
from spikeproof.losses import cross_entropy
from spikeproof.rows import HistoryRow
from spikeproof.store.keys import model_key, weights_code
from spikeproof.store.locks import Lock
from spikeproof.store.store import TOOK, Store
from spikeproof.study.config import CellConfig, rule_of, training_threat
from spikeproof.study.keyed import parts_of_training
from spikeproof.training.checkpoint import load_into, read_tensors, write_tensors
from spikeproof.training.craft import crafter
from spikeproof.training.facts import Facts, Took, took_of
from spikeproof.training.train import train
from spikeproof.training.world import ALONE, World
from spikeproof.victims.victim import Victim

__all__ = [
    "Machine", "Reader", "build_victim", "key_of_model", "load_images", "took", "trained_victim", "wants_training",
]  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Where work runs: provenance of a cell; of its key only the kind of device (cpu, cuda) is a part.

    shares: whether it makes a cell together with other runs that share it. world: the processes that train one network
    together, of which this is one.
    """

    device: str = "cpu"
    progress: bool = True
    shares: bool = False
    world: World = ALONE

    @property
    def torch(self) -> torch.device:
        return torch.device(self.device)

    def settle(self) -> None:
        """Make torch as repeatable as it can be, in this process."""
        # Rounding of a few bits flips a membrane that sits on its threshold.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch 2.9 has another way beside this one, and says so
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.torch) if self.torch.type == "cuda" else platform.machine()
        return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def key_of_model(cell: CellConfig, training_data: str, device: str) -> str:
    """The name of its network in a store. training_data: the digest of its training images."""
    return model_key(cell.resolved(), weights_code(__name__, parts_of_training(cell)), training_data, device)


def build_victim(config: CellConfig, in_channels: int, classes: int) -> Victim:
    """An untrained victim; its initial weights depend on the seed alone, not on torch's global stream."""
    assert config.steps is not None  # a network of one's own may have none
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


def wants_training(config: CellConfig) -> bool:
    """Whether a cell looks at training images: of a network that was trained elsewhere only where it is asked to."""
    return config.network is None or config.train_images is not None or config.generalisation.robust_images > 0


class Reader:
    """Reads the images of cells, and keeps those it read last: the cells of a study mostly share them."""

    def __init__(self) -> None:
        self._last: tuple[str, Images, Images] | None = None

    def __call__(self, config: CellConfig) -> tuple[Images, Images]:
        """The training and the test images of a cell; no training images where it does not want any."""
        wanted = wants_training(config)
        said = repr((config.data, config.train_images, config.test_images, wanted))
        if self._last is None or self._last[0] != said:
            training = load_images(config, "train") if wanted else None
            test = load_images(config, "test")
            self._last = said, test.take(torch.arange(0)) if training is None else training, test
        return self._last[1:]


def trained_victim(
    config: CellConfig, store: Store, machine: Machine, images: Images | None = None
) -> tuple[Victim, Path]:
    """The trained victim, in eval mode, and its weights' file; trains it, or goes on training it, where needed.

    Its folder in the store is locked meanwhile, so that two processes never train the same network. Weights that the
    configuration names are loaded, strictly, and nothing is trained.
    """
    if config.network is not None:
        mend = "spikeproof evaluate; nothing is trained"
        raise UsageError("a network that is built and trained here", f"{config.network.make!r}", mend=mend)
    images = images or load_images(config, "train")
    victim = build_victim(config, images.channels, len(images.classes)).to(machine.torch)
    if config.weights is not None:
        load_into(victim.body, read_tensors(Path(config.weights))[0], config.weights)
        return victim.eval(), Path(config.weights)
    key = key_of_model(config, images.digest(), machine.device)
    if machine.world.size > 1:
        _refuse_indivisible(config.defence)
    if not machine.world.writes:
        return _trained_along(config, store, machine, images, victim, key)
    with store.lock(f"model-{key}") as lock:
        weights = store.whole_model(key)
        machine.world.total(float(weights is None))
        if weights is None:
            draft = store.model_draft(key)
            machine.world.total(0.0)  # where its folder is there, the others begin
            weights = _train(config, store, machine, images, victim, key, draft, lock)
        else:
            load_into(victim.body, read_tensors(weights)[0], weights)
    return victim.eval(), weights


def _trained_along(
    config: CellConfig, store: Store, machine: Machine, images: Images, victim: Victim, key: str
) -> tuple[Victim, Path]:
    """The same in a process of which another one has the lock, and writes."""
    weights = store.model_folder(key) / "model.safetensors"
    if machine.world.total(0.0) == [0.0]:
        load_into(victim.body, read_tensors(weights)[0], weights)
    else:
        machine.world.total(0.0)
        _fit(config, machine, images, victim, key, weights.parent.with_name(f"{key}.partial"))
    return victim.eval(), weights


_DIVISIBLE = ("vanilla", "adversarial", "trades")
"""Defences whose loss is a mean over images that meet in batch-norm alone; of others it has not been tested."""


def _refuse_indivisible(defence: Mapping[str, object]) -> None:
    if (name := defence.get("name")) not in _DIVISIBLE:
        mend = "train in one process, without torchrun"
        raise UsageError("a defence that several processes train as one does", name, valid=_DIVISIBLE, mend=mend)


def took(config: CellConfig, weights: Path) -> Took:
    """What the training of the weights that `trained_victim` returned cost; nothing of those that were given."""
    path = weights.with_name(TOOK)
    return {} if config.weights is not None or config.network is not None else took_of(path)


def _fit(
    config: CellConfig, machine: Machine, images: Images, victim: Victim, key: str, draft: Path
) -> tuple[list[HistoryRow], int]:
    """Train `victim` in place, or go on with it from the checkpoint in a draft; the history, and the kept epoch."""
    training, validation = split(images, config.recipe.validation_share, config.seed)
    rule = rule_of(config.rule)
    threat = training_threat(config.training_threat)
    attack = parts.build("attacks", config.training_attack)
    return train(
        victim,
        training,
        validation,
        recipe=config.recipe,
        defence=parts.build("defences", config.defence),
        rule=rule,
        craft=crafter(victim, attack, threat, WhiteBox(rule), cross_entropy),
        seed=config.seed,
        checkpoint=draft / "checkpoint.safetensors",
        fingerprint=key,
        device=machine.torch,
        progress=machine.progress,
        world=machine.world,
    )


def _train(
    config: CellConfig, store: Store, machine: Machine, images: Images, victim: Victim, key: str, draft: Path,
    lock: Lock,
) -> Path:  # fmt: skip
    """Train `victim` in place, or go on with it; its weights are stored under `key`, and their file returned."""
    resumed, started = (draft / "checkpoint.safetensors").is_file(), time.perf_counter()
    history, best = _fit(config, machine, images, victim, key, draft)
    facts: Facts = {
        "architecture": config.model,
        "neuron": config.neuron,
        "input_shape": list(images.pixels.shape[1:]),
        "classes": list(images.classes),
        "best_epoch": best,
        "history": history,
    }
    seconds = None if resumed else round(time.perf_counter() - started, 1)
    cost: Took = {"train_seconds": seconds, "trained_on": str(machine)}
    write_bytes(draft / TOOK, (json.dumps(cost) + "\n").encode(), anew=False)
    write_tensors(draft / "model.safetensors", victim.body.state_dict(), facts, anew=False)
    return store.finish_model(draft, key, lock)
