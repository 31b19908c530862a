"""`python -m benchmarks.sooner`: how soon an attacker reaches a worst case, spikeproof's tiers beside AutoAttack.

The same images (right when clean) of the same weights, for: AutoAttack's four attacks, one after the other on what the
ones before left, as torchattacks writes them and with their authors' numbers of steps, on the network in SpikingJelly;
APGD with fifty restarts on ours; and the tiers `quick` and `standard`, whole, with their audits. Each contender has a
process of its own, and they take turns. What is kept is the curve: after each piece of work the seconds, the images
broken, and the passes (an image forward or backward counts one each). Networks: W2 (`networks.py`) on digits; with
`--cifar FOLDER`, a folder of images as `paper-cifar10-small` expects, that study's first network beside it, trained by
its recipe here. Minutes a round. Writes `benchmarks/sooner.jsonl` and its table in `docs/performance.md`, unless a
contender is left out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.page import ROOT, processor, written
from spikeproof.attacks.apgd import APGD
from spikeproof.commands._given import study_file
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, outcomes
from spikeproof.evaluation.panel import Asked, Panel
from spikeproof.losses import cross_entropy
from spikeproof.rows import AttackRow, of_kind
from spikeproof.rules.atan import ATan
from spikeproof.store.store import Store
from spikeproof.study.config import load_study
from spikeproof.study.run import some_images
from spikeproof.study.trained import Machine, load_images, trained_victim
from spikeproof.tensors import exact
from spikeproof.threats.linf import Linf
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Curve", "Point"]

KEPT = ROOT / "benchmarks" / "sooner.jsonl"
MARKS = ("<!-- made by benchmarks.sooner -->", "<!-- end of the worst cases -->")

CONTENDERS = {
    "autoattack": "AutoAttack (torchattacks) on SpikingJelly 2",
    "apgd50": "APGD-100, 50 restarts, spikeproof",
    "quick": "`quick`",
    "standard": "`standard`",
}


class Point(NamedTuple):
    """After so many seconds and passes, so many images were broken."""

    seconds: float
    broken: int
    passes: int


@dataclass(frozen=True)
class Curve:
    """One contender on one network: its points in time, the last of them at its end."""

    points: tuple[Point, ...]

    @property
    def end(self) -> Point:
        return self.points[-1]

    def reaches(self, broken: int) -> float | None:
        """Seconds until so many images were broken; None where they never were."""
        return next((point.seconds for point in self.points if point.broken >= broken), None)

    def at(self, seconds: float) -> int:
        """Images broken by then."""
        return max((point.broken for point in self.points if point.seconds <= seconds), default=0)


@dataclass(frozen=True)
class Subject:
    """A network, images that it has right, and the budget."""

    victim: Victim
    batch: Batch
    eps: str

    @property
    def threat(self) -> Linf:
        return Linf(self.eps)


def subject(network: str, eps: str, images: int, cifar: Path | None, out: Path) -> Subject:
    if network == "W2":
        victim = networks.ours("W2", 10)
        x, y, ids = networks.digits("test")
        batch = Batch.of(victim, x, y, ids, 0)
    else:
        assert cifar is not None
        config = load_study(study_file("paper-cifar10-small")).cells()[0]
        config = replace(config, data={**config.data, "root": str(cifar)})
        test = some_images(load_images(config, "test"), None)
        victim, _ = trained_victim(config, Store(out), Machine(progress=False), load_images(config, "train"))
        batch = Batch.of(victim, *test.at(torch.arange(min(len(test), 4 * images))), config.seed)
    victim = borrowed(victim.eval())
    with torch.no_grad():
        right = victim(batch.x, exact, batch.keys).argmax(1) == batch.y
    return Subject(victim, batch.take(right.nonzero()[:images, 0]), eps)


def _curve(pieces: Iterator[tuple[int, int]]) -> Curve:
    """pieces: (images broken, passes) so far, after each."""
    started = time.perf_counter()
    return Curve(tuple(Point(round(time.perf_counter() - started, 3), *piece) for piece in pieces))


def tier(one: Subject, name: str) -> Iterator[tuple[int, int]]:
    broken, passes = set[int](), 0
    for piece in Panel(one.victim, one.batch, Asked(name, one.threat, one.eps, ATan())).run():
        rows = of_kind(piece, AttackRow)
        broken |= {row["image"] for row in rows if row["fooled"]}
        passes += sum(row["forwards"] + row["backwards"] for row in rows)
        yield len(broken), passes


def apgd50(one: Subject) -> Iterator[tuple[int, int]]:
    left, passes, case = one.batch, 0, Case(APGD(100), WhiteBox(ATan()), cross_entropy)
    for restart in range(50):
        if not len(left):
            return
        found = outcomes(one.victim, left.keyed(f"restart {restart}"), "apgd", case, one.threat)
        passes += sum(row["forwards"] + row["backwards"] for row in found)
        left = left.take(torch.tensor([not row["fooled"] for row in found], dtype=torch.bool).nonzero()[:, 0])
        yield len(one.batch) - len(left), passes


class _Counted(nn.Module):
    """A network that counts the images that go through it, forwards and backwards."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.passes = network, 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += len(x)
        found: Tensor = self.network(x)
        if found.requires_grad:
            found.register_hook(lambda gradient: self._back(len(gradient)))
        return found

    def _back(self, images: int) -> None:
        self.passes += images


def autoattack(one: Subject) -> Iterator[tuple[int, int]]:
    """Every attack of AutoAttack's standard version on the images that the ones before left; chunks of 64."""
    import torchattacks

    network = _Counted(networks.spikingjelly_of(one.victim).requires_grad_(False)).eval()
    with torch.no_grad():
        same = network(one.batch.x).argmax(1) == one.batch.y
    assert bool(same.all()), "another network than ours"
    standard = torchattacks.AutoAttack(network, eps=one.threat.eps, n_classes=one.victim.classes, seed=0)
    network.passes, left = 0, torch.arange(len(one.batch))
    for attack in standard._autoattack.attacks:
        if hasattr(attack, "steps"):
            attack.steps = 100  # as Croce and Hein have it; torchattacks would take ten
        stood = []
        for index in left.split(64):
            x, y = one.batch.x[index], one.batch.y[index]
            found = attack(x, y).detach()
            with torch.no_grad():
                fooled = network(found).argmax(1) != y
            assert float((found - x).abs().max()) <= one.threat.eps + 1e-6
            stood.append(index[~fooled])
            rest = left[left > int(index[-1])]
            yield len(one.batch) - sum(map(len, stood)) - len(rest), network.passes
        left = torch.cat(stood)
        if not len(left):
            return


def run(contender: str, one: Subject) -> Curve:
    makers: dict[str, Callable[[Subject], Iterator[tuple[int, int]]]] = {"autoattack": autoattack, "apgd50": apgd50}
    return _curve(makers[contender](one) if contender in makers else tier(one, contender))


def _child(asked: argparse.Namespace) -> None:
    """One contender here, its curve as JSON; what is made once in a process is made before the clock starts."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(asked.threads)
    contender, network, eps = asked.one
    given = subject(network, eps, asked.images, asked.cifar, asked.out)
    with torch.no_grad():
        given.victim(given.batch.x[:2], exact, given.batch.keys[:2])
    print(json.dumps({"images": len(given.batch), "points": run(contender, given).points}))


def measured(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every round of every contender on every network, from the file where it is there already."""
    file = asked.out / f"sooner-{asked.images}-{asked.threads}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    known = [json.loads(line) for line in lines]
    rest = [str(word) for name in ("images", "threads", "out") for word in (f"--{name}", getattr(asked, name))]
    rest += ["--cifar", str(asked.cifar)] if asked.cifar else []
    cifar_rounds = asked.cifar_rounds or asked.rounds
    for turn in range(asked.rounds):
        photographs = asked.cifar_eps if asked.cifar and turn < cifar_rounds else []
        for network, eps in [*(("W2", eps) for eps in asked.eps), *(("W1", eps) for eps in photographs)]:
            for contender in asked.contenders:
                what = {"round": turn, "network": network, "eps": eps, "contender": contender}
                found = next((one for one in known if what.items() <= one.items()), None)
                if found is None:
                    words = [sys.executable, "-m", "benchmarks.sooner", "--one", contender, network, eps, *rest]
                    told = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
                    found = {**what, **json.loads(told.splitlines()[-1])}
                    with file.open("a", encoding="utf-8") as growing:
                        print(json.dumps(found), file=growing)
                yield found


def curves(rows: list[dict[str, Any]], network: str, eps: str) -> dict[str, list[Curve]]:
    """contender -> its curve in each round."""
    found: dict[str, list[Curve]] = {}
    for row in rows:
        if (row["network"], row["eps"]) == (network, eps):
            points = tuple(Point(*point) for point in row["points"])
            found.setdefault(row["contender"], []).append(Curve(points))
    return found


def _seconds(of: list[float | None]) -> str:
    return "never" if None in of else f"{statistics.median(s for s in of if s is not None):.1f}"


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown: a block for each network and budget; medians over rounds."""
    lines = [
        "| network, eps, images | contender | images left | passes an image | seconds, whole | "
        "to AutoAttack's count | AutoAttack's whole over that | its last success over that | left at that second |",
        "| --- " * 9 + "|",
    ]
    for network, eps in dict.fromkeys((row["network"], row["eps"]) for row in rows):
        images = next(row["images"] for row in rows if (row["network"], row["eps"]) == (network, eps))
        found = curves(rows, network, eps)
        theirs = found.get("autoattack", [])
        goal = max((one.end.broken for one in theirs), default=0)
        last = [one.reaches(one.end.broken) or 0.0 for one in theirs]
        for contender, of in found.items():
            reached = [one.reaches(goal) for one in of]
            over = ["", ""]
            if contender != "autoattack" and theirs and None not in reached:
                pairs = [(t.end.seconds / r, s / r) for t, s, r in zip(theirs, last, reached, strict=False) if r]
                over = [f"{statistics.median(column):.1f}" for column in zip(*pairs, strict=True)]
            then = "" if not theirs else str(images - statistics.median_low([
                one.at(s) for one, s in zip(of, last, strict=False)]))  # fmt: skip
            head = f"{network}, {eps}, {images}" if contender == next(iter(found)) else ""
            left = images - statistics.median_low([one.end.broken for one in of])
            passes = statistics.median(one.end.passes for one in of) / images
            whole = _seconds([one.end.seconds for one in of])
            cells = [head, CONTENDERS[contender], left, f"{passes:.0f}", whole, _seconds(reached), *over, then]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def page(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """How it was measured, and the table."""
    turns = {row["network"]: 1 + max(one["round"] for one in rows if one["network"] == row["network"]) for row in rows}
    command = f"python -m benchmarks.sooner --rounds {about['rounds']}"
    if about["cifar"]:
        command += f" --cifar FOLDER --cifar-rounds {turns['W1']}"
    told = ", ".join(f"{network} {n}" for network, n in turns.items())
    return (
        f"`{command}`, {about['date']}: {about['machine']}, torch {about['torch']}, {about['threads']} threads, "
        f"medians of rounds ({told}).\n\n{table(rows)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 2))
    parser.add_argument("--eps", nargs="*", default=["0.05"], help="budgets for W2")
    parser.add_argument("--cifar", type=Path, help="a folder of CIFAR-10 images: train/<class>/*, test/<class>/*")
    parser.add_argument("--cifar-eps", nargs="*", default=["1/255"], help="budgets for W1")
    parser.add_argument(
        "--cifar-rounds", type=int, help="rounds of W1, which take longer; as many as of W2 if not given"
    )
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--out", type=Path, default=Path("runs/sooner"), help="networks and curves, to go on from")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        return _child(asked)
    rows = []
    for row in measured(asked):
        rows.append(row)
        seconds, broken, passes = row["points"][-1]
        print(f"{row['network']} {row['eps']} {row['contender']}: {broken} of {row['images']} in {seconds:.1f} s, "
              f"{passes} passes", file=sys.stderr, flush=True)  # fmt: skip
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "torch": str(torch.__version__),
        "threads": asked.threads,
        "rounds": asked.rounds,
        "cifar": asked.cifar is not None,
    }
    print(page(about, rows))
    if {*asked.contenders} == {*CONTENDERS}:
        KEPT.write_text("".join(f"{json.dumps(one)}\n" for one in (about, *rows)), encoding="utf-8")
        written(page(about, rows), MARKS)


if __name__ == "__main__":
    main()
