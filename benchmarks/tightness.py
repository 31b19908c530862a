"""`python -m benchmarks.tightness`: how far an opponent lowers a tier's number, and whether its slack foresaw that.

For the networks of a study (the demo's, if no other is named): what each tier leaves of the images that are right
when clean; what seven more runs of it with fresh randomness leave (`--again`); and what two opponents leave of the
images that stood all that: R2, a fixed recipe that shares no stage with the tiers (many restarts of APGD on DLR under a
wide surrogate, then a long search through blocks), and then the tiers' own search with more members and queries than
they have. What nothing broke is the union of everything known. The slack of a tier foresees eight times its effort: it
is right where at most its upper end fell to the tiers, their further runs and R2. Minutes a network on one core;
`--out` keeps networks and results, and the command goes on from there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch

import spikeproof
from spikeproof import parts
from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.block_search import BlockSearch
from spikeproof.attacks.genetic_search import GeneticSearch
from spikeproof.commands._given import study_file
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, outcomes
from spikeproof.evaluation.panel import Asked, Panel
from spikeproof.evaluation.stages import plain_case
from spikeproof.evaluation.tiers import TIERS, Tier
from spikeproof.losses import dlr, margin
from spikeproof.metrics.slack import FORESEEN, falls, foreseen
from spikeproof.rows import AttackRow, of_kind
from spikeproof.rules.atan import ATan
from spikeproof.store.store import Store
from spikeproof.study.config import CellConfig, load_study
from spikeproof.study.run import some_images
from spikeproof.study.trained import Machine, load_images, trained_victim
from spikeproof.threats.linf import Linf
from spikeproof.types import Rule
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Found"]


@dataclass(frozen=True)
class OfTier:
    """Images left by a tier, and by eight of it (None: not run); passes: forwards and backwards an image, the clean
    errors among them; most: of an image that it left; expected and upper: images that its slack foresaw would fall."""

    left: int
    again: int | None
    passes: float
    most: int
    expected: float
    upper: int


@dataclass(frozen=True)
class Found:
    """One network at one budget: images that are right when clean, left by the plain attack, by each tier, by all tiers
    and R2, and by everything."""

    network: str
    images: int
    right: int
    plain: int
    tiers: dict[str, OfTier]
    r2: int
    everything: int

    def covered(self, tier: str) -> bool:
        """Whether the tier's slack foresaw all that fell to eight of it, to the other tiers and to R2."""
        return self.tiers[tier].left - self.r2 <= self.tiers[tier].upper


def opponent(victim: Victim, rule: Rule, threat: Linf, restarts: int, queries: int) -> Case:
    """R2, as `Case`: gradients first, then a search from the best points of them."""
    wide, plain = WhiteBox(ATan(alpha=1.0), fill_zeros=True), plain_case(victim, rule, threat)
    start = Case(APGD(100, restarts=restarts), wide, dlr, plain.encoder, "tie_spread")
    return Case(BlockSearch(queries), wide, margin, after=start)


def long_search(victim: Victim, rule: Rule, threat: Linf, queries: int) -> Case:
    """The search of the tiers, longer than in any of them."""
    wide, plain = WhiteBox(ATan(alpha=1.0), fill_zeros=True), plain_case(victim, rule, threat)
    start = Case(APGD(100), wide, margin, plain.encoder, "tie_spread")
    return Case(GeneticSearch(queries, population=128, children=32), wide, margin, after=start)


def standing(victim: Victim, batch: Batch, name: str, case: Case, threat: Linf) -> Batch:
    """What a case leaves of a batch."""
    if not len(batch):
        return batch
    rows = outcomes(victim, batch, name, case, threat)
    return batch.take(torch.tensor([not row["fooled"] for row in rows], dtype=torch.bool).nonzero()[:, 0])


def later(tier: Tier) -> dict[str, Case]:
    """The stages of a tier that see survivors, the strongest first: the order does not change what is left."""
    return {stage.name: stage.case for stage in reversed(tier.stages) if not stage.everyone}


def examined(victim: Victim, batch: Batch, asked: Asked) -> tuple[Tier, list[AttackRow]]:
    """A tier without its audits."""
    panel = Panel(victim, batch, asked)
    panel.tier = replace(panel.tier, audits=())
    return panel.tier, of_kind([row for piece in panel.run() for row in piece], AttackRow)


def some(batch: Batch, ids: set[int]) -> Batch:
    return batch.take(torch.tensor([i for i, id_ in enumerate(batch.ids.tolist()) if id_ in ids], dtype=torch.long))


def of_tier(victim: Victim, batch: Batch, asked: Asked, again: bool) -> tuple[OfTier, set[int], list[AttackRow]]:
    """What a tier leaves, the images that stood all of it, and its rows."""
    tier, rows = examined(victim, batch, asked)
    expected, upper = foreseen(falls(rows))
    standing_ids = {row["image"] for row in rows} - {row["image"] for row in rows if row["fooled"]}
    left, stood = len(standing_ids), some(batch, standing_ids)
    passes: dict[int, int] = {}
    for row in rows:
        passes[row["image"]] = passes.get(row["image"], 0) + row["forwards"] + row["backwards"]
    for turn in range(1, FORESEEN if again else 1):
        stood = stood.keyed(f"turn {turn}")
        for stage, case in later(tier).items():
            stood = standing(victim, stood, stage, case, asked.threat)
    most = max((passes[i] for i in standing_ids), default=0)
    one = OfTier(left, len(stood) if again else None, sum(passes.values()) / len(batch), most, expected, upper)
    return one, set(stood.ids.tolist()), rows


def found(config: CellConfig, eps: str, asked: argparse.Namespace) -> Found:
    training, test = load_images(config, "train"), some_images(load_images(config, "test"), asked.images)
    victim = borrowed(trained_victim(config, Store(asked.out), Machine(progress=False), training)[0].eval())
    threat, rule = Linf(eps), parts.build("rules", config.rule)
    batch = Batch.of(victim, *test.at(torch.arange(len(test))), config.seed)
    tiers, stood = dict[str, OfTier](), set(batch.ids.tolist())
    for name in asked.tiers:
        tiers[name], ids, rows = of_tier(victim, batch, Asked(name, threat, eps, rule), name in asked.again)
        stood &= ids
    r2 = opponent(victim, rule, threat, asked.restarts, asked.queries)
    after_r2 = standing(victim, some(batch, stood), "R2", r2, threat)
    after = standing(victim, after_r2, "long", long_search(victim, rule, threat, asked.queries), threat)
    plain = [row for row in rows if row["attack"] == "pgd-20"]
    right, kept = sum(row["predicted"] == row["label"] for row in plain), sum(not row["fooled"] for row in plain)
    return Found(f"{config.name}, seed {config.seed}, {eps}", len(batch), right, kept, tiers, len(after_r2), len(after))


def all_found(asked: argparse.Namespace) -> Iterator[Found]:
    """From the file in `out` what is there already, of the same attacks."""
    what = "-".join([*asked.tiers, "again", *asked.again])
    file = asked.out / f"found-{asked.images}-{asked.restarts}-{asked.queries}-{what}-{attacks()}.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    known = {(one := loaded(line)).network: one for line in lines}
    for cell in replace(load_study(study_file(asked.study)), seeds=asked.seeds).cells():
        for eps in asked.eps:
            name = f"{cell.name}, seed {cell.seed}, {eps}"
            if name not in known:
                known[name] = found(cell, eps, asked)
                with file.open("a", encoding="utf-8") as growing:
                    print(json.dumps(asdict(known[name])), file=growing)
            yield known[name]


def attacks() -> str:
    """A digest of the sources of attacks and tiers: what was found with others is not gone on from."""
    home = Path(spikeproof.__file__).parent
    files = sorted([*home.glob("attacks/*.py"), *home.glob("evaluation/*.py")])
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def loaded(line: str) -> Found:
    fields = json.loads(line)
    return Found(**{**fields, "tiers": {name: OfTier(**of) for name, of in fields["tiers"].items()}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="demo", help="a shipped study, or a file of one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 2], help="of the networks; the demo's own are of 0")
    parser.add_argument("--eps", nargs="+", default=["0.05"])
    parser.add_argument("--tiers", nargs="+", default=["quick", "standard"], choices=TIERS[1:])
    parser.add_argument("--again", nargs="*", default=["quick"], choices=TIERS[1:], help="run eight times")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--restarts", type=int, default=64, help="of R2's gradient attack")
    parser.add_argument("--queries", type=int, default=30_000, help="of R2's search")
    parser.add_argument("--out", type=Path, default=Path("runs/tightness"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'network':32s} right plain | tier      left x 8  foreseen to fall  passes   most | and R2  everything")
    every = list[Found]()
    for one in all_found(asked):
        every.append(one)
        for i, (name, of) in enumerate(one.tiers.items()):
            head = f"{one.network:32s} {one.right:5d} {one.plain:5d}" if i == 0 else " " * 44
            slack = f"{of.expected:.1f} (<= {of.upper})" + (" " if one.covered(name) else "!")
            again = "-" if of.again is None else str(of.again)
            tail = f"| {one.r2:6d} {one.everything:11d}" if i == 0 else "|"
            print(
                f"{head} | {name:9s} {of.left:4d} {again:>3s} {slack:>17s} {of.passes:7.0f} {of.most:6d} {tail}",
                flush=True,
            )
    for name in asked.tiers:
        points = [100 * (one.tiers[name].left - one.everything) / one.images for one in every]
        held = sum(one.covered(name) for one in every)
        print(
            f"{name}: {max(points):.1f} points above everything at most, {sum(points) / len(points):.1f} on average; "
            f"{held} of {len(every)} at or under the slack's upper end"
        )


if __name__ == "__main__":
    main()
