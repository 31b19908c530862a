"""`python -m benchmarks.events FOLDER`: networks on N-MNIST, ours and SpikingJelly's, under attacks that move events.

FOLDER has N-MNIST's Train and Test, or a part of them. Ours, `event_vgg` trained in plain torch, and a network that is
made and trained by SpikingJelly's own code and wrapped see the same grids: 5 frames by number, 17x17, binary, and for
`counts` a second network of each kind on counts. Each attack runs alone on the test recordings that are right when
clean, at three budgets; 'worst case' is what is left by all of them. They may ask for as many passes as each other, a
forward or a backward of one recording each, and stop where one is fooled. L-inf on frames beside them moves no event
and is called relaxed. Needs the environment of `make peers`, with src on the path; `--out` keeps what was measured, one
line each, and the command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikeproof
from spikeproof import parts
from spikeproof.data import Images
from spikeproof.data.nmnist import NMNIST
from spikeproof.encoders.frames import Frames
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, attack_rows, clean_verdict
from spikeproof.losses import cross_entropy, margin
from spikeproof.metrics.robustness import clopper_pearson
from spikeproof.models.event_vgg import EventVGG
from spikeproof.neurons.if_ import IF
from spikeproof.rules.atan import ATan
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

__all__ = ["measured", "table"]

T, SIZE, EPOCHS, SEED = 5, 17, 20, 0
THREATS: dict[str, tuple[str, tuple[float, ...]]] = {
    "flips": ("events", (4, 8, 16)),
    "retime_b0": ("events", (8, 16, 32)),
    "counts": ("counts", (8, 16, 32)),
    "linf": ("relaxed", (0.02, 0.05, 0.1)),
}
PASSES = 80
ATTACKS: dict[str, dict[str, Any]] = {  # each about PASSES: a step is a forward and a backward
    "gradient": {"name": "top_events", "steps": PASSES // 2},
    "swaps": {"name": "swap_search", "queries": PASSES},
    "random swaps": {"name": "random_swaps", "queries": PASSES},
}
RELAXED = {"pgd": {"name": "pgd", "steps": PASSES // 2}}


def trained(logits: Callable[[Tensor], Tensor], network: nn.Module, train: Images) -> None:
    """Adam on the cross-entropy of the mean over time, the same for both networks; leaves eval mode."""
    optimiser = torch.optim.Adam(network.parameters(), 0.005)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS * (len(train) // 32))
    network.train()
    for _ in range(EPOCHS):
        for index in torch.randperm(len(train)).split(32)[: len(train) // 32]:
            x, y, _ = train.at(index)
            optimiser.zero_grad()
            F.cross_entropy(logits(x), y).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    network.eval()


def ours(train: Images) -> Victim:
    body = EventVGG(in_channels=2, classes=10, neuron=IF, width=16, hidden=128, votes=0, size=SIZE)
    trained(lambda x: body.classify(x.transpose(0, 1), ATan()), body, train)
    return Victim(body, Frames(), T).eval()


def spikingjelly(train: Images) -> Victim:
    """Made, run and trained by its own layers and neurons, reset by its own function; then wrapped."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def fires() -> nn.Module:
        return neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True)  # type: ignore[no-any-return]

    def block(inputs: int) -> list[nn.Module]:
        return [layer.Conv2d(inputs, 16, 3, padding=1, bias=False), layer.BatchNorm2d(16), fires(), layer.MaxPool2d(2)]

    network = nn.Sequential(
        *block(2), *block(16), layer.Flatten(), layer.Linear(256, 128), fires(), layer.Linear(128, 10)
    )
    functional.set_step_mode(network, "m")

    def logits(x: Tensor) -> Tensor:
        functional.reset_net(network)
        return network(x.transpose(0, 1)).mean(0)  # type: ignore[no-any-return]

    trained(logits, network, train)
    functional.reset_net(network)
    return spikeproof.wrap(network, train.at(torch.arange(16))[0])


Made = dict[tuple[str, bool], tuple[Victim, Batch, int]]
"""Of what is it, and whether of binary grids -> a trained network, the test recordings, and how many it gets right."""


def made(folder: Path, kind: str, binary: bool, known: Made) -> tuple[Victim, Batch, int]:
    """Trained once and remembered."""
    if (kind, binary) not in known:
        data = NMNIST(str(folder), frames=T, binary=binary, size=SIZE)
        train, test = data.load("train"), data.load("test")
        torch.manual_seed(SEED)
        victim = {"ours": ours, "SpikingJelly": spikingjelly}[kind](train)
        batch = Batch.of(victim, *test.at(torch.arange(len(test))), SEED)
        clean = int((clean_verdict(victim, batch).predicted == batch.y).sum())
        known[kind, binary] = victim, batch, clean
    return known[kind, binary]


def measured(
    folder: Path, kind: str, norm: str, known: Made, keep: Callable[[dict[str, Any]], None], done: set[Any]
) -> None:
    """Rows of one network under one threat; those in `done` are left out."""
    surface, budgets = THREATS[norm]
    attacks = RELAXED if surface == "relaxed" else ATTACKS
    wanted = [(kind, norm, eps, name) for eps in budgets for name in attacks]
    if all(key in done for key in wanted):
        return
    victim, batch, clean = made(folder, kind, surface != "counts", known)
    rule = victim.rule or ATan()
    for _, _, eps, name in [key for key in wanted if key not in done]:
        started = time.process_time()
        threat = parts.build("threats", {"name": norm}, eps=eps, surface=surface)
        loss = cross_entropy if norm == "linf" else margin
        case = Case(parts.build("attacks", attacks[name]), WhiteBox(rule), loss)
        rows = attack_rows(victim, batch, evaluation="events", threats={f"{eps:g}": threat}, cases={name: case})
        keep({
            "network": kind, "norm": norm, "surface": surface, "eps": eps, "attack": name, "clean": clean,
            "n": len(batch), "right": [not row["fooled"] for row in rows],
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
    parser.add_argument("--only", choices=THREATS, nargs="*", default=list(THREATS))
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    done = {(row["network"], row["norm"], row["eps"], row["attack"]) for row in rows}

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    known: Made = {}
    for norm in options.only:
        for kind in ("ours", "SpikingJelly"):
            measured(options.folder, kind, norm, known, keep, done)
    print(table(rows))


if __name__ == "__main__":
    main()
