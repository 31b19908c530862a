"""`benchmarks/owners.py` on networks that need no framework: what a row says is so, and a refusal is a row."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import owners
from benchmarks.owned import OWNED, Owned, trained
from torch import Tensor, nn

import spikeproof
from spikeproof.data.digits import Digits
from spikeproof.errors import SpikeproofError
from spikeproof.rules.rectangle import Rectangle
from spikeproof.rules.sigmoid import Sigmoid

LOOP = "own: a loop"


def asked(out: Path, **other: Any) -> argparse.Namespace:
    options = {"only": [LOOP], "images": 4, "eps": "0.1", "tier": "smoke", "seed": 0, "out": out, **other}
    return argparse.Namespace(**options)


def test_a_row_is_what_the_calls_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held against the network trained again, and evaluated by hand under one of the rules."""
    monkeypatch.setattr(owners, "SURROGATES", {"rectangle 2": Rectangle(), "sigmoid 4": Sigmoid()})
    (one,) = owners.all_found(asked(tmp_path / "found.jsonl", eps="0.02"))
    assert (one.logits, one.failure, one.package) == (0.0, "", "")
    assert one.gradient <= 1e-5
    assert one.rule == "Rectangle 2"
    assert one.under["own"] == one.under["rectangle 2"]
    assert set(one.under) == {"own", *owners.SURROGATES}
    network = trained(OWNED[LOOP](), 0)
    x, y, ids = Digits().load("test").at(torch.arange(4))
    assert one.right == (network(x).argmax(1) == y).float().mean()
    victim = spikeproof.wrap(network, Digits().load("train").at(torch.arange(8))[0])
    by_hand = spikeproof.evaluate(victim, x, y, ids=ids, tier="smoke", eps="0.02", rule=Sigmoid(), seed=0)
    under = one.under["sigmoid 4"]
    assert under.left == by_hand.robust.share == min(by_hand.left().values())
    assert one.right > under.left
    assert under.plain == by_hand.left()["pgd-10"]
    assert under.word == by_hand.verdict.word
    assert under.ran == len(by_hand.verdict.red) + len(by_hand.verdict.green)


def test_what_is_there_is_not_run_again_but_under_other_terms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, runs = tmp_path / "deep" / "found.jsonl", list[str]()

    def found(name: str, of: argparse.Namespace) -> owners.Found:
        runs.append(name)
        under = {"own": owners.Under("ATan 2", 0.25, 0.5, "unsettled", 3, {"D1": "why"}, ["a"])}
        return owners.Found(name, "", of.images, of.seed, "here", notes=["n"], under=under)

    monkeypatch.setattr(owners, "found", found)
    first = list(owners.all_found(asked(out, only=["a", "b"])))
    again = list(owners.all_found(asked(out, only=["b", "c", "a"])))
    assert runs == ["a", "b", "c"]
    assert [one for one in again if one.network != "c"] == first[::-1]
    list(owners.all_found(asked(out, only=["a"], eps="0.2")))
    assert runs == ["a", "b", "c", "a"]


class Forgets(nn.Module):
    """Remembers its last call."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.mem = nn.Linear(64, 10), torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        out = self.fc(x.flatten(1)) + self.mem
        self.mem = out.detach().mean()
        return out  # type: ignore[no-any-return]


def test_a_refusal_is_a_row_and_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Owned:
        raise ImportError("no such framework")

    forgets = Owned(Forgets, lambda network, x: network(x), "", batches=1)
    monkeypatch.setattr(owners, "OWNED", {"forgets": lambda: forgets, "absent": absent})
    every = list(owners.all_found(asked(tmp_path / "x.jsonl", only=["forgets", "absent"])))
    assert every[0].failure.startswith("SpikeproofError")
    assert every[1].failure == "ImportError: no such framework"
    text = "\n".join(owners.table(every))
    assert "| absent | plain torch | ImportError: no such framework |" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {row.count("|") - row.count("\\|") for row in rows} == {12}


def test_a_rule_that_is_refused_is_a_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any, rule: Any, **options: Any) -> Any:
        raise SpikeproofError("another rule", str(rule))

    monkeypatch.setattr(spikeproof, "evaluate", refuses)
    (one,) = owners.all_found(asked(tmp_path / "x.jsonl"))
    assert all(under.failure.startswith("expected another rule") for under in one.under.values())
    assert "| refused |" in "\n".join(owners.table([one]))


def test_the_table_says_what_could_not_run_and_where() -> None:
    """`*` and `|` of names and reasons are no Markdown."""
    lost = owners.Under("ATan 2", None, None, "not evaluated", 1, {"D2": "a|b"})
    left = owners.Under("ATan 2", 0.125, 0.5, "unsettled", 9)
    names = ("own", *owners.SURROGATES)
    one = owners.Found("(N,T,*)", "snntorch 1", 8, 0, "here", 0.75, 2e-7, 1e-6, "ATan 2",
                       under={name: lost if name == "own" else left for name in names})  # fmt: skip
    lines = owners.table([one])
    row = next(line for line in lines if line.startswith("| (N"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:6] == ["(N,T,\\*)", "snntorch 1", "75.0", "2.0e-07", "1.0e-06", "no number not evaluated, 1"]
    assert cells[6:] == ["12.5 (50.0) unsettled, 0"] * 5
    assert "- D2 could not run, a\\|b: (N,T,\\*) (own)" in lines


def test_the_document_holds_what_the_command_prints() -> None:
    root = Path(owners.__file__).parents[1]
    rows = (root / "benchmarks" / "owners.jsonl").read_text(encoding="utf-8").splitlines()
    every = [owners.loaded(row) for row in rows]
    assert [one.network for one in every] == list(OWNED)
    assert "\n".join(owners.table(every)) in (root / "docs" / "results-byo.md").read_text(encoding="utf-8")
