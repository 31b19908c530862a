"""Training, resumable after every epoch to the same numbers as not having stopped.

All randomness is a hash of (seed, epoch, image): the order, the flips, the encoder's noise. Torch's global stream,
which a user's dropout may draw from, is seeded from (seed, epoch) at the start of each epoch and put back afterwards.
So the state that a checkpoint must hold is the weights, the optimiser and the epoch; and several processes that share
the images of every batch (`world`) train the network of one, to the rounding of their sums.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from spikeproof.data import Images
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.files import disk_errors
from spikeproof.native import fast, keep_memory
from spikeproof.rows import HistoryRow
from spikeproof.tensors import exact, fold, image_keys, integers, per_image, uniform
from spikeproof.training.checkpoint import check_fit, load_into, read_tensors, write_tensors
from spikeproof.training.facts import facts_of
from spikeproof.training.world import ALONE, Synchronised, World
from spikeproof.types import AfterBackward, AfterStep, Craft, Defence, Rule
from spikeproof.victims.batch import Batch, check_labels
from spikeproof.victims.victim import Victim

__all__ = ["Recipe", "Step", "train"]

_DIVERGED = 1e6
"""Validation cross-entropy, in nats, above which training is refused as diverged; guessing costs log(K)."""


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the paper's: Adam, 1e-3, weight decay 1e-3, constant, batch 16, 100 epochs, flips.

    validation_share: of the *training* images, held out, stratified; the kept epoch is the best on it, by `select`
    ('accuracy', ties by loss; 'loss'; or 'last', the last epoch). The paper's code chooses on test images.
    'robust' is accuracy on validation images moved by the training attack: early stopping against robust overfitting
    (Rice et al., ICML 2020), at the cost of that attack once an epoch.
    flip: left and right of half of the images exchanged; shift: each image moved by -shift..shift pixels, or cells of a
    grid of events, down and right, each as likely as another and drawn anew every epoch; what comes in is 0.
    """

    optimiser: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 1e-3
    momentum: float = 0.9
    schedule: Literal["none", "cosine"] = "none"
    epochs: int = 100
    batch_size: int = 16
    flip: bool = True
    validation_share: float = 0.1
    select: Literal["accuracy", "loss", "last", "robust"] = "accuracy"
    shift: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("optimiser", ("adam", "sgd")), ("schedule", ("none", "cosine")),
                              ("select", ("accuracy", "loss", "last", "robust"))):  # fmt: skip
            if getattr(self, name) not in choices:
                raise UsageError(f"recipe.{name}", repr(getattr(self, name)), valid=choices)
        if self.epochs < 1 or self.batch_size < 2:
            raise UsageError("epochs >= 1 and batch_size >= 2", self)
        if self.shift < 0:
            raise UsageError("a recipe.shift >= 0, in pixels", self.shift)
        # Written so that NaN, which fails every comparison, is refused.
        if not (0 < self.lr < math.inf and 0 <= self.weight_decay < math.inf and 0 <= self.momentum < 1):
            raise UsageError("finite lr > 0 and weight_decay >= 0, momentum in [0,1)", self)
        if not 0 < self.validation_share < 1:
            raise UsageError("validation_share in (0,1)", self.validation_share)

    def rate(self, epoch: int) -> float:
        """Learning rate of epoch 1..epochs."""
        if self.schedule == "none":
            return self.lr
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / self.epochs))

    def build(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        """torch's; fused, where that is, which takes each number through memory once."""
        fused = fast() and all(p.device.type in ("cpu", "cuda") for p in parameters)
        if self.optimiser == "adam":
            return torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=fused)
        return torch.optim.SGD(
            parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=fused
        )


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"optimiser.{index}.{name}": torch.as_tensor(value)
        for index, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], source: object) -> None:
    kept = {key.split(".")[1] for key in tensors}  # of a parameter that never had a gradient there is nothing
    expected = {key: value for key, value in _after_a_step(optimiser).items() if key.split(".")[1] in kept}
    check_fit(tensors, expected, "what the optimiser remembers", source)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        _, index, name = key.split(".", 2)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _after_a_step(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What a copy of it remembers after a step: the names and shapes of its state."""
    tried = copy.deepcopy(optimiser)
    for parameter in (p for group in tried.param_groups for p in group["params"]):
        parameter.grad = torch.zeros_like(parameter)
    tried.step()
    return _optimiser_tensors(tried)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


@dataclass
class _Run:
    """What changes while training: everything a checkpoint holds."""

    victim: Victim
    optimiser: torch.optim.Optimizer
    history: list[HistoryRow]
    best: dict[str, Tensor]
    best_epoch: int = 0

    def save(self, path: Path, fingerprint: str) -> None:
        tensors = {
            **{f"model.{k}": v for k, v in self.victim.body.state_dict().items()},
            **{f"best.{k}": v for k, v in self.best.items()},
            **_optimiser_tensors(self.optimiser),
        }
        header = {"fingerprint": fingerprint, "best_epoch": self.best_epoch, "history": self.history}
        write_tensors(path, tensors, header, anew=False)

    def restore(self, path: Path, fingerprint: str) -> None:
        tensors, header = read_tensors(path)
        facts = facts_of(header, path)
        if header.get("fingerprint") != fingerprint or not {"history", "best_epoch"} <= facts.keys():
            raise SpikeproofError(
                f"a checkpoint of this training at {path}", "one of another", mend=f"delete {path.parent}"
            )
        self.best = _under("best.", tensors)
        remembered = {k: v for k, v in tensors.items() if k.startswith("optimiser.")}
        try:
            check_fit(self.best, self.victim.body.state_dict(), "the weights of the best epoch", path)
            load_into(self.victim.body, _under("model.", tensors), path)
            _restore_optimiser(self.optimiser, remembered, path)
        except SpikeproofError as error:
            mend = f"delete {path.parent}: the network is trained anew"
            raise SpikeproofError(error.expected, error.got, mend=mend) from error
        self.history, self.best_epoch = facts["history"], facts["best_epoch"]


def _better(new: HistoryRow, old: HistoryRow | None, select: str) -> bool:
    if old is None or select == "last":
        return True
    if select == "loss":
        return new["validation_loss"] < old["validation_loss"]
    measure: Literal["validation_robust_accuracy", "validation_accuracy"]
    measure = "validation_robust_accuracy" if select == "robust" else "validation_accuracy"
    return (new[measure], -new["validation_loss"]) > (old[measure], -old["validation_loss"])


def _epoch_order(keys: Tensor, epoch: int) -> Tensor:
    return torch.argsort(fold(keys, f"order {epoch}"), stable=True)


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Batches of `size`; a last batch of one image is left out, because batch-norm cannot train on it."""
    return [batch for batch in torch.split(order, size) if len(batch) > 1]


@torch.no_grad()
def _score(
    victim: Victim, images: Images, seed: int, device: torch.device, world: World, craft: Craft | None = None,
    size: int = 256,
) -> tuple[float, float]:  # fmt: skip
    """Mean cross-entropy and accuracy in eval mode; of the images that `craft` makes of them, where it is given."""
    victim.eval()
    loss, right = 0.0, 0
    for index in torch.split(torch.arange(len(images)), size)[world.rank :: world.size]:
        batch = Batch.of(victim, *images.at(index), seed).to(device).keyed("validation")
        x, y, keys = batch.x, batch.y, batch.keys
        logits = victim(x if craft is None else craft(x, y, keys), exact, keys)
        loss += float(F.cross_entropy(logits, y, reduction="sum"))
        right += int((logits.argmax(1) == y).sum())
    loss, hits = world.total(loss, right)
    return loss / len(images), hits / len(images)


def train(
    victim: Victim,
    training: Images,
    validation: Images,
    *,
    recipe: Recipe,
    defence: Defence,
    rule: Rule,
    craft: Craft,
    seed: int,
    checkpoint: Path,
    fingerprint: str,
    device: torch.device,
    progress: bool = True,
    world: World = ALONE,
) -> tuple[list[HistoryRow], int]:
    """Train `victim` in place and leave the kept epoch's weights in it, in eval mode.

    Returns the history, one row per epoch, and the kept epoch. A checkpoint is written after every epoch, whole or
    not at all; one that lies there with the same fingerprint is continued, with another one refused. world: the
    processes that train it together, all of which see the same disk; the first writes. Raises
    SpikeproofError when the loss stops being finite or explodes.
    """
    check_labels(victim, training.pixels, training.labels)
    keep_memory()
    victim.to(device)
    optimiser = recipe.build(list(victim.parameters()))
    run = _Run(victim, optimiser, history=[], best={})
    with disk_errors(checkpoint):
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
    if checkpoint.is_file():
        run.restore(checkpoint, fingerprint)
    if world.total(len(run.history)) != [world.size * len(run.history)]:
        mend = "one folder on a disk that all of them share"
        raise SpikeproofError(f"the same checkpoint for every process, at {checkpoint}", "different ones", mend=mend)
    step = Step(victim, optimiser, defence, rule, craft, world)
    keys = image_keys(seed, training.ids)
    first = len(run.history) + 1
    batches = _batches(torch.arange(len(training)), recipe.batch_size)
    world.refuse_small(batches)
    per_epoch = len(batches)
    total = recipe.epochs * per_epoch
    progress = progress and world.writes
    with tqdm(total=total, initial=(first - 1) * per_epoch, desc="train", unit="batch", disable=not progress) as bar:
        for epoch in range(first, recipe.epochs + 1):
            loss = _epoch(step, training, keys, epoch, recipe, seed, device, bar.update)
            validation_loss, validation_accuracy = _score(victim, validation, seed, device, world)
            if not validation_loss < _DIVERGED:
                raise SpikeproofError(
                    "a training that does not diverge",
                    f"validation loss {validation_loss:.3g} in epoch {epoch}",
                    mend="lower recipe.lr",
                )
            entry: HistoryRow = {
                "epoch": epoch,
                "loss": loss,
                "validation_loss": validation_loss,
                "validation_accuracy": validation_accuracy,
            }
            if recipe.select == "robust":
                entry["validation_robust_accuracy"] = _score(victim, validation, seed, device, world, craft)[1]
            kept = run.history[run.best_epoch - 1] if run.best_epoch else None
            run.history.append(entry)
            if _better(entry, kept, recipe.select):
                run.best_epoch = epoch
                run.best = {k: v.detach().clone() for k, v in victim.body.state_dict().items()}
            if world.writes:
                run.save(checkpoint, fingerprint)
            bar.set_postfix_str(f"loss {loss:.3f}, validation {100 * validation_accuracy:.1f} %")
    load_into(victim.body, {k: v.to(device) for k, v in run.best.items()}, checkpoint)
    victim.eval()
    return run.history, run.best_epoch


class _Loss(nn.Module):
    """The loss of a step as a module's forward, which is what DistributedDataParallel looks on at."""

    def __init__(self, victim: Victim, defence: Defence, rule: Rule, craft: Craft) -> None:
        super().__init__()
        self.victim = victim
        self._made = defence, rule, craft

    def forward(self, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        defence, rule, craft = self._made
        return defence(self.victim, x, y, rule, keys, craft)


class Step:
    """One step of the optimiser on one batch, of which this process may have a part."""

    def __init__(
        self, victim: Victim, optimiser: torch.optim.Optimizer, defence: Defence, rule: Rule, craft: Craft, world: World
    ) -> None:
        self.victim, self.optimiser, self.world, self._defence = victim, optimiser, world, defence
        self._loss: nn.Module = _Loss(victim, defence, rule, craft)
        self._together: AbstractContextManager[object] = nullcontext() if world.size == 1 else Synchronised()
        if world.size > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch 2.15 has another name beside this one
                # Buffers are alike by themselves; not every parameter has a gradient in every step.
                self._loss = DistributedDataParallel(self._loss, broadcast_buffers=False, find_unused_parameters=True)

    def __call__(self, x: Tensor, y: Tensor, keys: Tensor, weight: float, where: str) -> float:
        """The mean loss over the whole batch. weight: what this part of it counts for; where: for an error."""
        with self._together:
            loss: Tensor = self._loss(x, y, keys)
        # DistributedDataParallel takes the mean over processes, whose parts may differ by an image.
        loss = loss if weight == 1 else loss * weight
        (total,) = self.world.total(float(loss.detach()))
        mean = total / self.world.size
        if not math.isfinite(mean):
            raise SpikeproofError("a finite training loss", f"{mean} in {where}", mend="lower recipe.lr")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if isinstance(self._defence, AfterBackward):
            self._defence.after_backward(self.victim)
        self.optimiser.step()
        if isinstance(self._defence, AfterStep):
            self._defence.after_step(self.victim)
        return mean


def _epoch(
    step: Step,
    images: Images,
    keys: Tensor,
    epoch: int,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    tick: Callable[[int], Any],
) -> float:
    """One pass over the training images: the mean training loss."""
    for group in step.optimiser.param_groups:
        group["lr"] = recipe.rate(epoch)
    step.victim.train()
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_stream(seed, epoch))
        for whole in _batches(_epoch_order(keys, epoch), recipe.batch_size):
            index = step.world.share(whole)
            x, y, _ = (v.to(device) for v in images.at(index))
            batch_keys = fold(keys[index], f"epoch {epoch}").to(device)
            x = _varied(x, batch_keys, recipe)
            losses.append(step(x, y, batch_keys, step.world.weight(whole), f"epoch {epoch}"))
            tick(1)
    return sum(losses) / len(losses)


def _varied(x: Tensor, keys: Tensor, recipe: Recipe) -> Tensor:
    """Images (B,*), mirrored and moved as their keys (B,) for this epoch say."""
    if recipe.flip:
        x = torch.where(per_image(x, uniform(fold(keys, "flip"), ()) < 0.5), Images.mirrored(x), x)
    if recipe.shift:
        down, right = (integers(fold(keys, f"shift {way}"), -recipe.shift, recipe.shift) for way in ("down", "right"))
        x = Images.moved(x, down, right)
    return x


def _stream(seed: int, epoch: int) -> int:
    """A seed for torch's global stream in one epoch."""
    return int(fold(image_keys(seed, torch.zeros(1, dtype=torch.int64)), f"global {epoch}").item()) % 2**63
