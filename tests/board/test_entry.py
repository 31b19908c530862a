"""An entry on disk: read back as it was written, and refused with file and field where a number is not what its
outcomes give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spikeproof.board.entry import read, written
from spikeproof.errors import SpikeproofError


def test_what_is_written_is_read_and_counted(tree: dict[str, Any], tmp_path: Path) -> None:
    written(tmp_path / "one.json", tree)
    entry = read(tmp_path / "one.json")
    assert entry.tree == tree
    assert (entry.standing, entry.total, entry.verdict, entry.fell) == ({13, 14, 15, 16}, 8, "supported", 0)
    assert entry.worst is not None
    assert (entry.worst.correct, entry.worst.total) == (4, 8)


def test_what_others_broke_counts_and_may_unsettle(tree: dict[str, Any], tmp_path: Path) -> None:
    """The slack foresaw two of eight images: with the third it was too small."""
    one = {"by": "somebody", "how": "", "date": "2026-11-28", "inputs": "1" * 64}
    tree["lowered"] = [{**one, "ids": [13]}, {**one, "ids": [16]}]
    entry = written(tmp_path / "one.json", tree)
    assert (entry.standing, entry.fell, entry.verdict) == ({14, 15}, 2, "supported")
    tree["lowered"][1]["ids"] = [16, 15]
    entry = written(tmp_path / "one.json", tree)
    assert (entry.standing, entry.verdict) == ({14}, "unsettled")
    assert entry.worst is not None
    assert entry.worst.correct == 1


def changed(at: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(tree: dict[str, Any]) -> None:
        *path, last = at.split(".")
        for name in path:
            tree = tree[int(name) if isinstance(tree, list) else name]
        tree[int(last) if isinstance(tree, list) else last] = value

    return change


LOWERED = [{"by": "x", "how": "", "date": "2026-11-28", "inputs": "1" * 64, "ids": [13]}]

UNFIT = {
    "result.clean.correct": changed("result.clean.correct", 8),
    "result.clean.share": changed("result.clean.share", 0.9),
    "result.worst.low": changed("result.worst.low", 0.0),
    "result.worst.total": changed("result.worst.total", 9),
    "outcomes.labels": changed("outcomes.labels", [0]),
    "outcomes.ids": changed("outcomes.ids", [10, 10, 12, 13, 14, 15, 16, 17]),
    "outcomes.fallen[7]": changed("outcomes.fallen", [0, 0, 1, -1, -1, -1, -1, 0]),
    "outcomes.fallen[6]": changed("outcomes.fallen", [0, 0, 1, -1, -1, -1, 2, -1]),
    "identity.outcomes": changed("outcomes.predicted", [0, 1, 2, 3, 4, 5, 6, 1]),
    "attacks[0].newly_broken": changed("attacks.0.newly_broken", 3),
    "seeds[0]": changed("seeds.0.verdict", "unsettled"),
    "seeds": changed("seeds.0.key", "f" * 16),
    "lowered[1].ids": changed("lowered", [*LOWERED, *LOWERED]),
    "lowered[0].ids": changed("lowered", [{**LOWERED[0], "ids": [10]}]),
    "result.verdict": changed("audits.0.colour", "red"),
    "result.worst": changed("result.worst", None),
    "config.name": changed("config.name", "another"),
    "threat": changed("threat.eps_text", "8/255"),
    "data.images": changed("data.images", 0),
    "identity.key": changed("identity.key", "no key"),
    "config": changed("config", []),
}


@pytest.mark.parametrize("field", UNFIT)
def test_a_field_that_does_not_fit_is_named(tree: dict[str, Any], tmp_path: Path, field: str) -> None:
    UNFIT[field](tree)
    path = tmp_path / "one.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(SpikeproofError) as caught:
        read(path)
    assert caught.value.expected.startswith(f"{field} ") or caught.value.expected.startswith(f"{field}.share ")
    assert "one.json" in str(caught.value)
    with pytest.raises(SpikeproofError):
        written(tmp_path / "two.json", tree)
    assert not (tmp_path / "two.json").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"), ("[]", "which is no object"), ("{", "Expecting property name"),
        ('{"schema": "spikeproof-entry-0"}', "got 'spikeproof-entry-0'"), ('{"schema": 1}', "got 1"),
        ("{}", "got None"),
        ('{"schema": "a", "schema": "b"}', "'schema' twice"), ('{"a": NaN}', "NaN"), ("[" * 100_000, "recursion"),
        ('{"a": "\\ud800"}', "surrogates"), ("1" * 5000, "4300"),
    ],
    ids=range(11),
)  # fmt: skip
def test_what_is_no_entry_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "one.json").write_text(text, encoding="utf-8")
    with pytest.raises(SpikeproofError, match=r"one\.json") as caught:
        read(tmp_path / "one.json")
    assert says in str(caught.value)


def test_files_beside_an_entry_are_those_that_it_means(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["files"]["weights"] |= {"file": "w.safetensors"}
    written(tmp_path / "one.json", tree)
    read(tmp_path / "one.json")  # they are elsewhere
    (tmp_path / "w.safetensors").write_bytes(b"others")
    with pytest.raises(SpikeproofError, match=r"files\.weights\.sha256"):
        read(tmp_path / "one.json")
