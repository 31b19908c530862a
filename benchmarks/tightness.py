"""`python -m benchmarks.tightness`: how far an opponent lowers a tier's number, and whether its slack foresaw that.

For networks of the demo's recipe, other seeds than those the tiers were designed on: what a tier leaves of the images
that are right when clean; what it leaves when it is run eight times as long, with fresh randomness each time; and what
R2 leaves, a fixed recipe that shares no stage with it (many restarts of APGD on DLR under a wide surrogate, then a long
search). The slack of a tier is right where no more fall to both together than its upper end. Minutes a network on one
core; `--out` keeps networks and results, and the command goes on from there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.block_search import BlockSearch
from spikeproof.commands._given import study_file
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, outcomes
from spikeproof.evaluation.panel import Asked, Panel
from spikeproof.evaluation.tiers import Tier, plain_case
from spikeproof.losses import dlr, margin
from spikeproof.metrics.slack import FORESEEN, falls, foreseen
from spikeproof.rows import AttackRow, of_kind
from spikeproof.rules.atan import ATan
from spikeproof.store.store import Store
from spikeproof.study.config import CellConfig, load_study
from spikeproof.study.run import some_images
from spikeproof.study.trained import Machine, load_images, trained_victim
from spikeproof.threats import Linf
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Found"]

RULE = ATan(alpha=2.0)
"""That of the demo's training."""


@dataclass(frozen=True)
class Found:
    """One network at one budget: images that are right when clean, left by the tier, by eight of it, by R2 after all.

    plain: left by the plain attack; passes: of the tier, forwards and backwards an image, the clean errors among them;
    most: of an image that nothing broke; expected and upper: images that the slack foresaw would fall.
    """

    network: str
    tier: str
    images: int
    right: int
    plain: int
    left: int
    again: int
    both: int
    passes: float
    most: int
    expected: float
    upper: int

    @property
    def covered(self) -> bool:
        return self.left - self.both <= self.upper


def opponent(victim: Victim, threat: Linf, restarts: int, queries: int) -> Case:
    """R2, as `Case`: gradients first, then a search from the best points of them."""
    wide, plain = WhiteBox(ATan(alpha=1.0), fill_zeros=True), plain_case(victim, RULE, threat)
    start = Case(APGD(100, restarts=restarts), wide, dlr, plain.encoder, "tie_spread")
    return Case(BlockSearch(queries), wide, margin, after=start)


def standing(victim: Victim, batch: Batch, cases: Mapping[str, Case], threat: Linf) -> Batch:
    """What some cases, one after the other, leave of a batch."""
    for name, case in cases.items():
        if len(batch):
            rows = outcomes(victim, batch, name, case, threat)
            batch = batch.take(torch.tensor([not row["fooled"] for row in rows], dtype=torch.bool).nonzero()[:, 0])
    return batch


def later(tier: Tier) -> dict[str, Case]:
    """The stages of a tier that see survivors, the strongest first: the order does not change what is left."""
    return {stage.name: stage.case for stage in reversed(tier.stages) if not stage.everyone}


def found(config: CellConfig, eps: str, images: int, tier: str, r2: tuple[int, int], out: Path) -> Found:
    training, test = load_images(config, "train"), some_images(load_images(config, "test"), images)
    victim = borrowed(trained_victim(config, Store(out), Machine(progress=False), training)[0].eval())
    threat, x_y_ids = Linf(eps), test.at(torch.arange(len(test)))
    batch = Batch.of(victim, *x_y_ids, config.seed)
    panel = Panel(victim, batch, Asked(tier, threat, eps, RULE))
    panel.tier = replace(panel.tier, audits=())
    rows = of_kind([row for piece in panel.run() for row in piece], AttackRow)
    counted = falls(rows)
    expected, upper = foreseen(counted)
    fell = {row["image"] for row in rows if row["fooled"]}
    plain = next(stage.name for stage in panel.tier.stages if stage.role == "plain")
    left = batch.take(
        torch.tensor([i for i, id_ in enumerate(batch.ids.tolist()) if id_ not in fell], dtype=torch.long)
    )
    again = left
    for turn in range(1, FORESEEN):
        again = standing(victim, again.keyed(f"turn {turn}"), later(panel.tier), threat)
    both = standing(victim, again, {"R2": opponent(victim, threat, *r2)}, threat)
    passes = [row["forwards"] + row["backwards"] for row in rows]
    most = max(
        (sum(r["forwards"] + r["backwards"] for r in rows if r["image"] == i) for i in left.ids.tolist()), default=0
    )
    return Found(
        f"{config.name}, seed {config.seed}, {eps}",
        tier,
        len(batch),
        sum(row["predicted"] == row["label"] for row in rows if row["attack"] == plain),
        sum(not row["fooled"] for row in rows if row["attack"] == plain),
        len(left),
        len(again),
        len(both),
        sum(passes) / len(batch),
        most,
        expected,
        upper,
    )


def all_found(asked: argparse.Namespace) -> Iterator[Found]:
    """From the file in `out` what is there already."""
    r2 = (asked.restarts, asked.queries)
    file = asked.out / f"found-{asked.images}-{r2[0]}-{r2[1]}.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    known = {(one.network, one.tier): one for one in (Found(**json.loads(line)) for line in lines)}
    for cell in replace(load_study(study_file("demo")), seeds=asked.seeds).cells():
        for eps in asked.eps:
            for tier in asked.tiers:
                name = (f"{cell.name}, seed {cell.seed}, {eps}", tier)
                if name not in known:
                    known[name] = found(cell, eps, asked.images, tier, r2, asked.out)
                    with file.open("a", encoding="utf-8") as growing:
                        print(json.dumps(asdict(known[name])), file=growing)
                yield known[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the networks; the demo's own are of 0")
    parser.add_argument("--eps", nargs="+", default=["0.05", "0.15"])
    parser.add_argument("--tiers", nargs="+", default=["quick", "standard"])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--restarts", type=int, default=2, help="of R2's gradient attack")
    parser.add_argument("--queries", type=int, default=3000, help="of R2's search")
    parser.add_argument("--out", type=Path, default=Path("runs/tightness"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    head = f"{'network':34s} {'tier':9s} {'right':>5s} {'plain':>5s} {'left':>5s} {'x 8':>5s} {'R2':>5s} {'slack':>11s}"
    print(f"{head} {'passes':>7s} {'most':>6s}")
    every = list[Found]()
    for one in all_found(asked):
        every.append(one)
        slack = f"{one.expected:.1f} (<= {one.upper})" + ("" if one.covered else " !")
        print(
            f"{one.network:34s} {one.tier:9s} {one.right:5d} {one.plain:5d} {one.left:5d} {one.again:5d} {one.both:5d} "
            f"{slack:>11s} {one.passes:7.0f} {one.most:6d}",
            flush=True,
        )
    print(f"{sum(one.covered for one in every)} of {len(every)} at or under the slack's upper end")


if __name__ == "__main__":
    main()
