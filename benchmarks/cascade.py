"""`python -m benchmarks.cascade`: what each attack breaks of what the plain one leaves, and what that costs.

The tiers of `evaluation/tiers.py` are made from its table: networks of the demo's recipe with another seed are trained,
every candidate is run on all images that FGSM and PGD-20 leave (not on what the others leave, so that any order can be
worked out), and the order is the greedy one: next comes what breaks most of those still standing for a thousand passes,
a forward and a backward each counting one. Minutes a network; `--out` keeps networks and runs, and goes on from there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.block_search import BlockSearch
from spikeproof.attacks.pgd import PGD
from spikeproof.attacks.square import Square
from spikeproof.commands._given import study_file
from spikeproof.encoders.phase import Phase
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, clean_verdict, outcomes
from spikeproof.evaluation.tiers import plain_case, tier_of
from spikeproof.losses import cross_entropy, dlr, margin
from spikeproof.rules.atan import ATan
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.rules.triangle import Triangle
from spikeproof.store.store import Store
from spikeproof.study.config import CellConfig, load_study
from spikeproof.study.run import some_images
from spikeproof.study.trained import Machine, load_images, trained_victim
from spikeproof.threats import Linf
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim, borrowed

RULE = ATan(alpha=2.0)
"""That of the demo's training."""


@dataclass(frozen=True)
class Run:
    """One candidate on one network at one budget: of each hard image whether it fell, and the passes it took."""

    candidate: str
    network: str
    fell: list[bool]
    passes: list[int]


def candidates(victim: Victim, threat: Linf) -> dict[str, Case]:
    """By name: gradients under several rules and losses, searches from where some of them lead, and the tiers' own."""
    plain = plain_case(victim, RULE, threat)
    wide = {"encoder": plain.encoder, "pooling": "tie_spread"}
    fill = WhiteBox(ATan(alpha=1.0), fill_zeros=True)
    found = {
        f"{attack.label} {name}": Case(attack, estimator, loss, **wide)
        for attack in (PGD(steps=20), APGD(50), APGD(100))
        for name, estimator, loss in (
            ("dlr, atan 1", fill, dlr),
            ("ce, atan 2", WhiteBox(RULE), cross_entropy),
            ("ce, triangle 1", WhiteBox(Triangle(alpha=1.0)), cross_entropy),
            ("margin, sigmoid 4", WhiteBox(Sigmoid(alpha=4.0)), margin),
        )
    }
    starts = {"nothing": None, **{name: found[f"{name} dlr, atan 1"] for name in ("pgd-20", "apgd-50", "apgd-100")}}
    for queries in (100, 200, 500, 1000, 3000):
        for name, start in starts.items():
            found[f"blocks-{queries} after {name}"] = Case(BlockSearch(queries), fill, margin, after=start)
    found["square-500"] = Case(Square(500), fill, margin)
    found["square-500 after pgd-20"] = Case(Square(500), fill, margin, after=starts["pgd-20"])
    if isinstance(plain.encoder, Phase):
        secant = replace(plain.encoder, gradient="secant")
        found["apgd-50 ce, secant"] = Case(APGD(50), WhiteBox(RULE), cross_entropy, secant)
    own = (stage for tier in ("quick", "standard") for stage in tier_of(tier, victim, RULE, threat).stages)
    return found | {f"{s.name} (tier)": s.case for s in own if not s.everyone and s.case not in found.values()}


def hard(victim: Victim, batch: Batch, threat: Linf) -> Batch:
    """The images that are right when clean and that FGSM and the plain attack leave."""
    left = batch.take(clean_verdict(victim, batch).predicted == batch.y)
    for stage in tier_of("quick", victim, RULE, threat).stages:
        if stage.everyone and len(left):
            rows = outcomes(victim, left, stage.name, stage.case, threat)
            left = left.take(torch.tensor([not row["fooled"] for row in rows]))
    return left


def runs(config: CellConfig, eps: str, images: int, out: Path) -> list[Run]:
    """Every candidate on one network, from `out` where it is there already."""
    torch.set_num_threads(1)
    training, test = load_images(config, "train"), some_images(load_images(config, "test"), images)
    victim = borrowed(trained_victim(config, Store(out), Machine(progress=False), training)[0].eval())
    threat, network = Linf(eps), f"{config.name} at {eps}"
    batch = hard(victim, Batch.of(victim, *test.at(torch.arange(len(test))), config.seed), threat)
    kept = out / f"{network.replace(' ', '-')}-{images}.jsonl"
    known = {line["candidate"]: Run(**line) for line in map(json.loads, kept.read_text().splitlines())} if kept.exists() else {}
    for name, case in candidates(victim, threat).items():
        if name not in known and len(batch):
            rows = outcomes(victim, batch, name, case, threat)
            passes = [row["forwards"] + row["backwards"] for row in rows]
            known[name] = Run(name, network, [row["fooled"] for row in rows], passes)
            with kept.open("a", encoding="utf-8") as file:
                print(json.dumps(vars(known[name])), file=file)
    return [*known.values()]


def greedy(found: Mapping[str, Mapping[str, Run]], most: int = 12) -> list[dict[str, Any]]:
    """The order: candidate, what it broke of those before it left, passes for each of these, what it leaves."""
    standing = {network: set(range(len(run.fell))) for one in found.values() for network, run in one.items()}
    steps: list[dict[str, Any]] = []
    while len(steps) < most and (count := sum(map(len, standing.values()))):
        worth = {}
        for name, one in found.items():
            broken = sum(one[n].fell[i] for n, some in standing.items() if n in one for i in some)
            passes = sum(one[n].passes[i] for n, some in standing.items() if n in one for i in some)
            worth[name] = (1000 * broken / max(passes, 1), broken, passes)
        name = max(worth, key=lambda name: worth[name])
        rate, broken, passes = worth[name]
        if not broken:
            break
        standing = {n: {i for i in some if n not in found[name] or not found[name][n].fell[i]} for n, some in standing.items()}
        steps.append({"next": name, "breaks": broken, "of": count, "passes": passes / count, "a thousand": rate})
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--eps", nargs="+", default=["0.05", "0.15"])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("runs/cascade"))
    asked = parser.parse_args()
    study = load_study(study_file("demo"))
    cells = [cell for seed in asked.seeds for cell in replace(study, seeds=[seed]).cells()]
    found: dict[str, dict[str, Run]] = {}
    for cell in cells:
        for eps in asked.eps:
            for run in runs(replace(cell, name=f"{cell.name}-{cell.seed}"), eps, asked.images, asked.out):
                found.setdefault(run.candidate, {})[run.network] = run
            print(f"{cell.name}, seed {cell.seed}, {eps}: done", flush=True)
    total = sum(len(run.fell) for run in next(iter(found.values())).values())
    print(f"\n{total} hard images; alone:")
    for name, one in found.items():
        broken, passes = sum(sum(run.fell) for run in one.values()), sum(sum(run.passes) for run in one.values())
        print(f"{name:45s} {broken:4d} of {sum(len(run.fell) for run in one.values()):4d}  {passes / total:7.0f} passes an image  {1000 * broken / passes:5.2f} a thousand")
    print("\ngreedy:")
    for step in greedy(found):
        print("{next:45s} {breaks:4d} of {of:4d}  {passes:7.0f} passes an image  {a thousand:5.2f} a thousand".format(**step))


if __name__ == "__main__":
    main()
