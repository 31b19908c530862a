"""Examinations of a cell: rows, summary, the same bytes after a stop, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tinycell import numbers, smallest, tiny

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.metrics import gradients
from spikeproof.store.store import Cell, Draft, Store
from spikeproof.study import run as study
from spikeproof.study.config import cell_from
from spikeproof.study.run import Machine, run_cell

QUIET = Machine(progress=False)
WANTED: dict[str, Any] = {
    "generalisation": {"corruption_images": 7, "corruptions": ["jpeg", "shot_noise"], "robust_images": 6, "steps": 2,
                       "batch_size": 4},
    "energy": {"images": 5, "batch_size": 3},
    "theory": {"images": 5, "weight_images": 3, "draws": 5, "steps": 2, "batch_size": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cell]:
    root = tmp_path_factory.mktemp("whole")
    return root, run_cell(cell_from(smallest(**WANTED)), Store(root), QUIET)


def test_a_cell_has_a_row_of_everything_it_was_asked_for(whole: tuple[Path, Cell]) -> None:
    rows = whole[1].rows()
    kinds = [row["kind"] for row in rows]
    counts = {kind: kinds.count(kind) for kind in ("corruption", "robust", "energy", "theory", "support")}
    assert counts == {"corruption": 14, "robust": 12, "energy": 5, "theory": 5, "support": 3}
    ids = {s: {r["image"] for r in rows if r["kind"] == "clean" and r["split"] == s} for s in ("train", "test")}
    for row in rows:
        if row["kind"] in counts:
            assert row["image"] in ids[row.get("split", "test")]


def test_its_summary_holds_the_scalars(whole: tuple[Path, Cell]) -> None:
    found = whole[1].summary["results"]
    assert found["generalisation"]["robust"]["train"]["total"] == 6
    assert set(found["generalisation"]["corruptions"]["kinds"]) == {"jpeg", "shot_noise"}
    assert -1 <= found["generalisation"]["clean"]["train_test"]["gap"] <= 1
    assert 0 <= found["energy"]["firing_rate"] <= 1
    assert found["theory"]["images"] == 5
    assert found["gradients"] == gradients.summarise(whole[1].gradients())
    assert found["gradients"]["eval"]["image"]["ce"]["l1"] >= 0


def test_a_plain_cell_has_none_of_them(tmp_path: Path) -> None:
    cell = run_cell(cell_from(smallest()), Store(tmp_path), QUIET)
    assert {row["kind"] for row in cell.rows()} == {"clean", "attack"}
    found = cell.summary["results"]
    assert (found["energy"], found["theory"]) == (None, None)
    assert (found["generalisation"]["robust"], found["generalisation"]["corruptions"]) == (None, None)


class Stopped(Exception):
    """As a kill, after so many batches."""


@pytest.mark.parametrize("batches", [11, 14, 20, 24])
def test_a_stopped_cell_goes_on_to_the_same_bytes(
    whole: tuple[Path, Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    append, left = Draft.append, [batches]

    def stopping(draft: Draft, stage: str, rows: list[dict[str, Any]]) -> None:
        append(draft, stage, rows)
        left[0] -= 1
        if left[0] == 0:
            raise Stopped

    monkeypatch.setattr(study.Draft, "append", stopping)
    with pytest.raises(Stopped):
        run_cell(cell_from(smallest(**WANTED)), Store(tmp_path), QUIET)
    run_cell(cell_from(smallest(**WANTED)), Store(tmp_path), QUIET)
    assert numbers(tmp_path) == numbers(whole[0])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"generalisation": {"corruptions": ["fog"]}}, "fog"),
        ({"generalisation": {"corruptions": []}}, "corruptions"),
        ({"generalisation": {"corruptions": ["jpeg", "jpeg"]}}, "corruptions"),
        ({"generalisation": {"corruption_images": -1}}, "corruption_images >= 0"),
        ({"generalisation": {"eps": 0}}, r"generalisation\.eps"),
        ({"generalisation": {"robust": 3}}, "robust"),
        ({"energy": {"images": -1}}, r"energy\.images >= 0"),
        ({"theory": {"draws": 0}}, r"theory\.draws >= 1"),
        ({"theory": {"eps": "1/2"}}, r"theory\.eps"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(change: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        cell_from(tiny(**change))


def test_all_corruptions_are_the_default() -> None:
    assert cell_from(tiny()).resolved()["generalisation"]["corruptions"] == parts.names("corruptions")
