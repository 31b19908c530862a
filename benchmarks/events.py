"""`python -m benchmarks.events FOLDER`: networks on N-MNIST, ours and SpikingJelly's, under attacks that move events.

FOLDER has N-MNIST's Train and Test, or a part of them. Ours are the networks of seed 0 of the study `pooling-nmnist`,
with max and with average pooling, kept in `--runs` as the study keeps them; a network that is made and trained by
SpikingJelly's own code, by the same recipe, is wrapped. All see the study's grids: binary ones, and for `counts` others
of each kind trained on counts. Each attack runs alone on the test recordings that are right when clean, at three
budgets; 'worst case' is what is left by all of them. They may ask for about as many passes as each other, a forward or
a backward of one recording each, and stop where one is fooled; how many they spent stands beside them. L-inf on frames
beside them moves no event and is called relaxed. Needs the environment of `make peers`, with src on the path; `--out`
keeps what was measured, one line each, and the command goes on from there; lines of another recipe stay and are not
shown.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikeproof
from spikeproof import parts
from spikeproof.data import Images
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, attack_rows, clean_verdict
from spikeproof.losses import cross_entropy, margin
from spikeproof.metrics.robustness import clopper_pearson
from spikeproof.rules.atan import ATan
from spikeproof.rules.pdsg import PDSG
from spikeproof.store.store import Store
from spikeproof.study.config import CellConfig, load_study
from spikeproof.study.run import Machine, load_images, trained_victim
from spikeproof.training.train import Recipe
from spikeproof.types import FreeMoves
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

__all__ = ["measured", "recipe_of", "table", "trained"]

SEED = 0
KINDS = ("ours", "ours, average pool", "SpikingJelly")
THREATS: dict[str, tuple[str, tuple[float, ...]]] = {
    "flips": ("events", (4, 8, 16)),
    "retime_b0": ("events", (8, 16, 32)),
    "counts": ("counts", (8, 16, 32)),
    "linf": ("relaxed", (0.02, 0.05, 0.1)),
}
PASSES = 80
ATTACKS: dict[str, dict[str, Any]] = {  # each about PASSES: a step is a forward and a backward
    "gradient": {"name": "top_events", "steps": PASSES // 2},
    "SpikeFool": {"name": "spike_fool", "rounds": 2, "steps": 10, "targets": 2},
    "swaps": {"name": "swap_search", "queries": PASSES},
    "random swaps": {"name": "random_swaps", "queries": PASSES},
}
RELAXED = {"pgd": {"name": "pgd", "steps": PASSES // 2}}


@cache
def _cells() -> dict[str, CellConfig]:
    """The study's cells by their names."""
    found = load_study(Path(str(files("spikeproof") / "studies" / "pooling-nmnist.yaml"))).cells()
    return {cell.name: cell for cell in found}


def config_of(folder: Path, kind: str, binary: bool) -> CellConfig:
    """The cell of the study whose network, or whose data and recipe, a kind has; read from `folder`."""
    pool = "avg" if kind == "ours, average pool" else "max"
    cell = _cells()[f"{'binary' if binary else 'counts'}-{pool}-s{SEED}"]
    return replace(cell, data={**cell.data, "root": str(folder)})


def recipe_of(kind: str, binary: bool) -> str:
    """A short hash of all that a network is trained from but the samples."""
    plain = config_of(Path(), kind, binary).resolved()
    names = ("data", "train_images", "model", "neuron", "rule", "encoder", "steps", "recipe", "seed")
    text = json.dumps([kind, *(plain[name] for name in names)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def trained(logits: Callable[[Tensor], Tensor], network: nn.Module, train: Images, recipe: Recipe) -> None:
    """A loop of its own over the study's recipe: the optimiser, a rate for each epoch, shifts; leaves eval mode."""
    optimiser = recipe.build(list(network.parameters()))
    network.train()
    for epoch in range(1, recipe.epochs + 1):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(epoch)
        for index in torch.randperm(len(train)).split(recipe.batch_size):
            if len(index) < 2:
                continue
            x, y, _ = train.at(index)
            x = Images.moved(x, *torch.randint(-recipe.shift, recipe.shift + 1, (2, len(x))))
            optimiser.zero_grad()
            F.cross_entropy(logits(x), y).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    network.eval()


def spikingjelly(config: CellConfig, train: Images) -> Victim:
    """Made, run and trained by its own layers and neurons, reset by its own function; then wrapped."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    width, hidden = config.model["width"], config.model["hidden"]

    def fires() -> nn.Module:
        return cast(nn.Module, neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True))

    def block(inputs: int) -> list[nn.Module]:
        convolution = layer.Conv2d(inputs, width, 3, padding=1, bias=False)
        return [convolution, layer.BatchNorm2d(width), fires(), layer.MaxPool2d(2)]

    seen = width * (train.pixels.shape[-1] // 4) ** 2
    network = nn.Sequential(
        *block(2), *block(width), layer.Flatten(), layer.Linear(seen, hidden), fires(), layer.Linear(hidden, 10)
    )
    functional.set_step_mode(network, "m")

    def logits(x: Tensor) -> Tensor:
        functional.reset_net(network)
        return network(x.transpose(0, 1)).mean(0)  # type: ignore[no-any-return]

    trained(logits, network, train, config.recipe)
    functional.reset_net(network)
    return spikeproof.wrap(network, train.at(torch.arange(16))[0])


Made = dict[tuple[str, bool], tuple[Victim, Batch, int]]
"""Of what is it, and whether of binary grids -> a trained network, the test recordings, and how many it gets right."""


def made(folder: Path, runs: Path, kind: str, binary: bool, known: Made) -> tuple[Victim, Batch, int]:
    """Trained once and remembered."""
    if (kind, binary) not in known:
        config = config_of(folder, kind, binary)
        train, test = load_images(config, "train"), load_images(config, "test")
        torch.manual_seed(SEED)
        if kind == "SpikingJelly":
            victim = spikingjelly(config, train)
        else:
            victim, _ = trained_victim(config, Store(runs), Machine(progress=False), train)
        batch = Batch.of(victim, *test.at(torch.arange(len(test))), SEED)
        clean = int((clean_verdict(victim, batch).predicted == batch.y).sum())
        known[kind, binary] = victim, batch, clean
    return known[kind, binary]


def case_of(name: str, norm: str, victim: Victim) -> Case:
    """An attack under the rule of training; SpikeFool under PDSG, as the tiers have it."""
    attack = parts.build("attacks", {**ATTACKS, **RELAXED}[name])
    rule = PDSG() if name == "SpikeFool" else victim.rule or ATan()
    return Case(attack, WhiteBox(rule), cross_entropy if norm == "linf" else margin)


def measured(
    folder: Path, runs: Path, kind: str, norm: str, known: Made, keep: Callable[[dict[str, Any]], None], done: set[Any]
) -> None:
    """Rows of one network under one threat; those in `done` are left out."""
    surface, budgets = THREATS[norm]
    binary = surface != "counts"
    recipe = recipe_of(kind, binary)
    for eps in budgets:
        threat = parts.build("threats", {"name": norm}, eps=eps, surface=surface)
        for name in RELAXED if surface == "relaxed" else ATTACKS:
            free = isinstance(threat, FreeMoves)  # which SpikeFool asks for
            if (name == "SpikeFool" and not free) or (recipe, norm, eps, name) in done:
                continue
            victim, batch, clean = made(folder, runs, kind, binary, known)
            started = time.process_time()
            cases = {name: case_of(name, norm, victim)}
            rows = attack_rows(victim, batch, evaluation="events", threats={f"{eps:g}": threat}, cases=cases)
            keep({
                "network": kind, "recipe": recipe, "norm": norm, "surface": surface, "eps": eps, "attack": name,
                "clean": clean, "n": len(batch), "right": [not row["fooled"] for row in rows],
                "passes": sum(row["forwards"] + row["backwards"] for row in rows) / max(clean, 1),
                "seconds": round(time.process_time() - started, 1),
            })  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: what each attack leaves of 100 test recordings, and the worst case with its interval, in percent."""
    lines = [
        "| network | clean | threat | budget | left by each attack (passes a recording) | worst case |",
        "| --- " * 6 + "|",
    ]
    keys = dict.fromkeys((row["network"], row["norm"], row["eps"]) for row in rows)
    for network, norm, eps in keys:
        some = [row for row in rows if (row["network"], row["norm"], row["eps"]) == (network, norm, eps)]
        n, standing = some[0]["n"], [all(each) for each in zip(*(row["right"] for row in some), strict=True)]
        left = sorted(some, key=lambda row: sum(row["right"]))
        told = ", ".join(f"{r['attack']} {100 * sum(r['right']) / n:.0f} ({r['passes']:.0f})" for r in left)
        worst = clopper_pearson(sum(standing), n)
        threat = f"{norm}, relaxed" if some[0]["surface"] == "relaxed" else norm
        interval = f"{100 * worst.share:.0f} [{100 * worst.low:.1f}, {100 * worst.high:.1f}]"
        lines.append(f"| {network} | {100 * some[0]['clean'] / n:.0f} | {threat} | {eps:g} | {told} | {interval} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("events.jsonl"))
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the study keeps its networks")
    parser.add_argument("--only", choices=THREATS, nargs="*", default=list(THREATS))
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    done = {(row.get("recipe"), row["norm"], row["eps"], row["attack"]) for row in rows}

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    known: Made = {}
    for norm in options.only:
        for kind in KINDS:
            measured(options.folder, options.runs, kind, norm, known, keep, done)
    today = {recipe_of(kind, binary) for kind in KINDS for binary in (True, False)}
    print(table([row for row in rows if row.get("recipe") in today]))


if __name__ == "__main__":
    main()
