"""`python -m benchmarks.owners`: networks as their owners run them, wrapped, and held against the owner's own object.

Each network of `owned.py` is trained by its owner's code on digits in seconds, and wrapped on images of the training
set. The table has, on test images that `wrap` has not seen: the largest difference of its logits from those of the
owner's object, called the owner's way; the largest difference of the gradient of the cross-entropy at the input, under
the rule of training, as a share of the owner's largest slope; and what a tier with its audits leaves under the
network's own surrogate and five more. A network that is refused is a row that says so. Needs the environment of
`make peers`, with src and tests on the path; `--out` keeps results, and the command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikeproof
from benchmarks.owned import OWNED, Owned, trained
from spikeproof.data.digits import Digits
from spikeproof.errors import SpikeproofError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.examination import Examination
from spikeproof.interop.sites import Own
from spikeproof.interop.wrap import Wrapped
from spikeproof.metrics.verdict import NOT_EVALUATED
from spikeproof.rules import Surrogate
from spikeproof.rules.atan import ATan
from spikeproof.rules.gaussian import Gaussian
from spikeproof.rules.rectangle import Rectangle
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.rules.triangle import Triangle
from spikeproof.tensors import image_keys
from spikeproof.types import Rule

__all__ = ["Found", "Under", "table"]

COMPARED = 64
"""Test images on which logits and gradients are compared, those that are attacked first among them."""

SHOWN = 16
"""Images of the training set that `wrap` is given."""

SURROGATES: dict[str, Surrogate] = {
    "ATan 2": ATan(),
    "sigmoid 4": Sigmoid(),
    "triangle 1": Triangle(),
    "rectangle 2": Rectangle(),
    "Gaussian 2": Gaussian(),
}


@dataclass(frozen=True)
class Under:
    """What a tier found under one rule. left: the share after all attacks, None where there is no number; plain: after
    PGD alone; word: the verdict's; ran: audits; absent: by code, why an audit of the tier could not run; left_out:
    attacks; failure: why there is none of this."""

    rule: str
    left: float | None = None
    plain: float | None = None
    word: str = ""
    ran: int = 0
    absent: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    failure: str = ""


@dataclass(frozen=True)
class Found:
    """One network. right: the share of the attacked images that the owner's object gets right; logits and gradient:
    the differences; rule: that of training; where: what it was computed with; failure: why there is no more."""

    network: str
    package: str
    images: int
    seed: int
    where: str
    right: float = 0.0
    logits: float = 0.0
    gradient: float = 0.0
    rule: str = ""
    notes: list[str] = field(default_factory=list)
    under: dict[str, Under] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str = ""


def digits(split: str, count: int) -> tuple[Tensor, Tensor, Tensor]:
    return Digits().load(split).at(torch.arange(count))  # type: ignore[arg-type]


def where() -> str:
    """What rounds here."""
    return f"torch {torch.__version__} on {torch.backends.cpu.get_cpu_capability()}, one thread"


def said_of(rule: Rule) -> str:
    """In a table: a rule of this package with its sharpness, or that no rule of it is the network's."""
    if not isinstance(rule, Surrogate):
        return "its own, which no rule here is"
    return f"{type(rule).__name__} {rule.alpha:g}{', through the reset' if rule.through_reset else ''}"


def slopes(logits: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(F.cross_entropy(logits, y), x)[0]


def apart(victim: Wrapped, owned: Owned, network: nn.Module, count: int) -> tuple[float, float]:
    """How far the logits of the victim are from the owner's, and its gradients, of the owner's largest."""
    x, y, ids = digits("test", count)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = victim(mine, victim.rule or Own(), image_keys(0, ids))
    expected = owned.logits(network, theirs)
    one, other = slopes(found, y, mine), slopes(expected, y, theirs)
    most = float(other.abs().max())
    far = float((found - expected).detach().abs().max())
    return far, float((one - other).abs().max()) / most if most else float("nan")


def rules_of(victim: Wrapped) -> dict[str, Rule]:
    """The network's own, and the surrogates, which leave the reset as this network has it where it takes no other."""
    others = {
        name: rule if victim.supports(WhiteBox(rule)) else replace(rule, through_reset=True)
        for name, rule in SURROGATES.items()
    }
    return {"own": victim.rule or Own(), **others}


def summed(found: Examination, rule: Rule) -> Under:
    """What an examination says. An audit that no part of the tier is about has not been asked for, and is no loss."""
    audits = [row for row in found.findings if row["code"] != "attacks"]
    absent = {
        row["code"]: row["says"]
        for row in audits
        if row["colour"] == "not run" and not row["says"].startswith(("not in the tier", "give "))
    }
    stages = [row["detail"]["stages"] for row in found.findings if row["code"] == "attacks"]
    numbered = found.verdict.word != NOT_EVALUATED
    return Under(
        said_of(rule),
        found.robust.share if numbered else None,
        found.robust.share + found.gap.share if numbered and found.gap else None,
        found.verdict.word,
        sum(row["colour"] != "not run" for row in audits),
        absent,
        [str(name) for names in stages if isinstance(names, list) for name in names],
    )


def examined(victim: Wrapped, asked: argparse.Namespace) -> Iterator[tuple[str, Under]]:
    """A tier under each rule; two names of the same rule are one examination."""
    x, y, ids = digits("test", asked.images)
    known: dict[Rule, Under] = {}
    for name, rule in rules_of(victim).items():
        if rule not in known:
            try:
                found = spikeproof.evaluate(
                    victim, x, y, ids=ids, tier=asked.tier, eps=asked.eps, rule=rule, seed=asked.seed
                )
                known[rule] = summed(found, rule)
            except SpikeproofError as error:
                known[rule] = Under(said_of(rule), failure=str(error))
        yield name, known[rule]


def found(name: str, asked: argparse.Namespace) -> Found:
    """One network, trained, wrapped, compared and attacked; a refusal is what was found."""
    start, one = time.perf_counter(), Found(name, "", asked.images, asked.seed, where())
    try:
        owned = OWNED[name]()
        one = replace(one, package=f"{owned.package} {version(owned.package)}" if owned.package else "")
        network = trained(owned, asked.seed)
        x, y, _ = digits("test", asked.images)
        with torch.no_grad():
            right = float((owned.logits(network, x).argmax(1) == y).float().mean())
        victim = spikeproof.wrap(network, digits("train", SHOWN)[0], **owned.told)
        logits, gradient = apart(victim, owned, network, max(COMPARED, asked.images))
        one = replace(one, right=right, logits=logits, gradient=gradient, rule=said_of(victim.rule or Own()),
                      notes=list(victim.notes))  # fmt: skip
        under = dict[str, Under]()
        for rule, under[rule] in examined(victim, asked):
            print(f"  {name}, {rule}: {cell(under[rule])}, {time.perf_counter() - start:.0f} s", file=sys.stderr)
        one = replace(one, under=under)
    except (SpikeproofError, ImportError) as error:
        one = replace(one, failure=f"{type(error).__name__}: {error}")
    return replace(one, seconds=round(time.perf_counter() - start, 1))


def all_found(asked: argparse.Namespace) -> Iterator[Found]:
    """From the file `out` what is there already."""
    lines = asked.out.read_text("utf-8").splitlines() if asked.out.exists() else []
    known = {(one := loaded(line)).network: one for line in lines if json.loads(line)["asked"] == terms(asked)}
    for number, name in enumerate(asked.only, start=1):
        print(f"{number} of {len(asked.only)}: {name}", file=sys.stderr, flush=True)
        if name not in known:
            known[name] = found(name, asked)
            asked.out.parent.mkdir(parents=True, exist_ok=True)
            with asked.out.open("a", encoding="utf-8") as growing:
                print(json.dumps({**asdict(known[name]), "asked": terms(asked)}), file=growing)
        yield known[name]


def terms(asked: argparse.Namespace) -> list[object]:
    """What a result is of, besides its network."""
    return [asked.images, asked.eps, asked.tier, asked.seed]


def loaded(line: str) -> Found:
    fields = json.loads(line)
    del fields["asked"]
    return Found(**{**fields, "under": {name: Under(**of) for name, of in fields["under"].items()}})


def cell(under: Under) -> str:
    """Percent left, by PGD alone in brackets; the verdict's word; audits that could not run."""
    if under.failure:
        return "refused"
    numbers = [None if share is None else f"{100 * share:.1f}" for share in (under.left, under.plain)]
    left = "no number" if numbers[0] is None else f"{numbers[0]} ({numbers[1] or '-'})"
    return f"{left} {under.word}, {len(under.absent)}"


def difference(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


def table(every: Sequence[Found]) -> list[str]:
    """A line of Markdown for each network, and below what stands in the way of a reading of it."""
    heads = ["network", "framework", "right", "logits", "gradient", "own", *SURROGATES]
    lines = [
        *caption(every),
        f"| {' | '.join(heads)} |",
        "| --- | --- | ---: | ---: | ---: |" + " --- |" * (len(SURROGATES) + 1),
    ]
    for one in every:
        package = one.package or "plain torch"
        if one.failure:
            lines.append(f"| {_safe(one.network)} | {package} | {_safe(one.failure)} |" + " |" * (len(heads) - 3))
            continue
        row = [
            _safe(one.network), package, f"{100 * one.right:.1f}", difference(one.logits), difference(one.gradient),
            *(cell(one.under[name]) for name in ("own", *SURROGATES)),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(row)} |")
    return [*lines, "", *remarks(every)]


def caption(every: Sequence[Found]) -> list[str]:
    """What is in the columns, and what it was computed with."""
    of = sorted({f"{one.images} images, seed {one.seed}, {one.where}" for one in every})
    return [
        f"{'; '.join(of)}. *right*: percent of the attacked images that the owner's object gets right. *logits*: the "
        "largest difference from the owner's object. *gradient*: the same under the rule of training, of the largest "
        "slope. Then under each rule: worst-case robust accuracy in percent (left by PGD-20 alone), the verdict, and "
        "how many audits of the tier could not run.",
        "",
    ]


def remarks(every: Sequence[Found]) -> list[str]:
    """Rules of training, and the reasons of audits, attacks and rules that could not be run, each with its places."""
    rules, reasons = dict[str, list[str]](), dict[str, list[str]]()
    for one in every:
        if not one.failure:
            rules.setdefault(f"rule of training {one.rule}", []).append(one.network)
        here = dict[str, list[str]]()
        for name, under in one.under.items():
            for reason in reasons_of(under):
                here.setdefault(reason, []).append(name)
        for reason, names in here.items():
            where = "" if len(names) == len(one.under) else f" ({', '.join(names)})"
            reasons.setdefault(reason, []).append(f"{one.network}{where}")
    said = {**rules, **reasons}
    return [f"- {_safe(reason)}: {_safe('; '.join(places))}" for reason, places in said.items()]


def reasons_of(under: Under) -> list[str]:
    """Why something that a tier would have was not done."""
    reasons = [f"{code} could not run, {why}" for code, why in under.absent.items()]
    reasons += [f"attacks left out, {', '.join(under.left_out)}"] if under.left_out else []
    return [*reasons, *([f"refused, {under.failure}"] if under.failure else [])]


def _safe(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(OWNED), choices=list(OWNED), metavar="NAME",
                        help=f"of: {'; '.join(OWNED)}".replace("%", "%%"))  # fmt: skip
    parser.add_argument("--images", type=int, default=16, help="that are attacked")
    parser.add_argument("--eps", default="0.1")
    parser.add_argument("--tier", default="quick")
    parser.add_argument("--seed", type=int, default=0, help="of training and attacks")
    parser.add_argument("--out", type=Path, default=Path("runs/owners/results.jsonl"))
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    every = list(all_found(asked))
    print("\n".join(table(every)))
    for one in every:
        if one.failure:
            print(f"NOT DONE: {one.network}: {one.failure}", file=sys.stderr)


if __name__ == "__main__":
    main()
