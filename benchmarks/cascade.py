"""`python -m benchmarks.cascade`: what each attack breaks of what the plain one leaves, and what that costs.

The order and the budgets of a tier are to come from its table. Networks of the demo's recipe with another seed are
trained; every candidate is run on all images that FGSM and the plain attack leave, not on what others leave, so that
any order can be worked out; and the greedy order is told: next comes what breaks most of those still standing for a
thousand passes, where a forward and a backward count one each. Minutes a network and budget on one core; `--out` keeps
networks and runs, and the command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.block_search import BlockSearch
from spikeproof.attacks.genetic_search import GeneticSearch
from spikeproof.attacks.pgd import PGD
from spikeproof.commands._given import study_file
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, clean_verdict, outcomes
from spikeproof.evaluation.stages import plain_case
from spikeproof.evaluation.tiers import TIERS, tier_of
from spikeproof.losses import cross_entropy, dlr, margin
from spikeproof.rules.atan import ATan
from spikeproof.rules.hart import HART
from spikeproof.rules.pdsg import PDSG
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.rules.triangle import Triangle
from spikeproof.store.store import Store
from spikeproof.study.config import CellConfig, load_study
from spikeproof.study.run import some_images
from spikeproof.study.trained import Machine, load_images, trained_victim
from spikeproof.threats.linf import Linf
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Run", "greedy"]

RULE = ATan(alpha=2.0)
"""That of the demo's training."""


@dataclass(frozen=True)
class Run:
    """A candidate on one network at one budget: of each hard image whether it fell, and how many passes that took."""

    candidate: str
    network: str
    fell: list[bool]
    passes: list[int]


def candidates(victim: Victim, threat: Linf) -> dict[str, Case]:
    """By name: gradients under several rules and losses, searches from where these lead, the stages of the tiers."""
    plain, wide = plain_case(victim, RULE, threat), WhiteBox(ATan(alpha=1.0), fill_zeros=True)
    settings = {
        "ce, atan 1": (wide, cross_entropy),
        "dlr, atan 1": (wide, dlr),
        "margin, atan 1": (wide, margin),
        "ce, atan 2": (WhiteBox(RULE), cross_entropy),
        "margin, atan 2": (WhiteBox(RULE), margin),
        "ce, triangle 1": (WhiteBox(Triangle(alpha=1.0)), cross_entropy),
        "margin, sigmoid 4": (WhiteBox(Sigmoid(alpha=4.0)), margin),
        "margin, pdsg": (WhiteBox(PDSG()), margin),
        "margin, hart 1": (WhiteBox(HART(width=1.0)), margin),
    }
    gradients = {
        f"{attack.label} {name}": Case(attack, estimator, loss, plain.encoder, "tie_spread")
        for attack in (PGD(steps=20), APGD(50), APGD(100))
        for name, (estimator, loss) in settings.items()
    }
    starts = [None, *(name for name in gradients if name.startswith("apgd") and "margin" in name)]
    searches = {
        f"{attack.label} after {start}": Case(attack, wide, margin, after=gradients.get(start or ""))
        for queries in (200, 500, 1000, 4000)
        for attack in (BlockSearch(queries), GeneticSearch(queries))
        for start in starts
    }
    stages = [stage for tier in TIERS for stage in tier_of(tier, victim, RULE, threat).stages if not stage.everyone]
    return {**gradients, **searches, **{f"{stage.name} (tier)": stage.case for stage in stages}}


def hard(victim: Victim, batch: Batch, threat: Linf) -> Batch:
    """The images that are right when clean and that FGSM and the plain attack leave."""
    left = batch.take(clean_verdict(victim, batch).predicted == batch.y)
    for stage in tier_of("smoke", victim, RULE, threat).stages:
        if stage.everyone and len(left):
            rows = outcomes(victim, left, stage.name, stage.case, threat)
            left = left.take(torch.tensor([not row["fooled"] for row in rows]))
    return left


def runs(config: CellConfig, eps: str, images: int, wanted: str, out: Path) -> Iterator[Run]:
    """Every candidate whose name fits, on one network; from `out` where it is there already."""
    training, test = load_images(config, "train"), some_images(load_images(config, "test"), images)
    victim = borrowed(trained_victim(config, Store(out), Machine(progress=False), training)[0].eval())
    threat, network = Linf(eps), f"{config.name}, seed {config.seed}, {eps}"
    batch = hard(victim, Batch.of(victim, *test.at(torch.arange(len(test))), config.seed), threat)
    file = out / f"{config.name}-{config.seed}-{eps}-{images}.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    known = {run.candidate: run for run in (Run(**json.loads(line)) for line in lines)}
    for name, case in candidates(victim, threat).items():
        if not re.search(wanted, name) or not len(batch):
            continue
        if name not in known:
            rows = outcomes(victim, batch, name, case, threat)
            passes = [row["forwards"] + row["backwards"] for row in rows]
            known[name] = Run(name, network, [row["fooled"] for row in rows], passes)
            with file.open("a", encoding="utf-8") as growing:
                print(json.dumps(asdict(known[name])), file=growing)
        yield known[name]


def greedy(found: Mapping[str, Mapping[str, Run]], most: int = 12) -> Iterator[tuple[str, int, int, int]]:
    """candidate -> network -> run: what comes next, how many it breaks of how many, and the passes these take.

    Ends where nothing breaks any more, or after `most`. A candidate leaves the networks alone that it was not run on.
    """
    standing = {network: {*range(len(run.fell))} for runs in found.values() for network, run in runs.items()}
    for _ in range(most):
        told = []
        for name, runs in found.items():
            here = [(run, i) for network, run in runs.items() for i in standing[network]]
            broken, passes = sum(run.fell[i] for run, i in here), sum(run.passes[i] for run, i in here)
            told.append((broken / max(passes, 1), name, broken, passes))
        _, name, broken, passes = max(told, default=(0, "", 0, 0))
        if not broken:
            return
        yield name, broken, sum(map(len, standing.values())), passes
        for network, run in found[name].items():
            standing[network] = {i for i in standing[network] if not run.fell[i]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of the networks; the demo's own are of 0")
    parser.add_argument("--eps", nargs="+", default=["0.05", "0.15"])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--only", default="", help="candidates whose names this regular expression finds")
    parser.add_argument("--out", type=Path, default=Path("runs/cascade"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, Run]] = {}
    for cell in replace(load_study(study_file("demo")), seeds=asked.seeds).cells():
        for eps in asked.eps:
            for run in runs(cell, eps, asked.images, asked.only, asked.out):
                found.setdefault(run.candidate, {})[run.network] = run
            print(f"{cell.name}, seed {cell.seed}, {eps}", flush=True)
    print(f"{'alone':45s} {'broken':>6s} {'of':>6s} {'passes':>7s} {'a thousand':>11s}")
    for name, each in found.items():
        columns = [(sum(run.fell), len(run.fell), sum(run.passes)) for run in each.values()]
        _line(name, *map(sum, zip(*columns, strict=True)))
    print("in the greedy order")
    for name, broken, of, passes in greedy(found):
        _line(name, broken, of, passes)


def _line(name: str, broken: int, of: int, passes: int) -> None:
    """passes: of all these images together; told an image."""
    print(f"{name:45s} {broken:6d} {of:6d} {passes / max(of, 1):7.0f} {1000 * broken / max(passes, 1):11.2f}")


if __name__ == "__main__":
    main()
