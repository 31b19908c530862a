"""The types of rows, the rows that cells write, and those that lie packed in this repository: one shape."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from made import made
from tinycell import tiny

import spikeproof
from spikeproof import rows as types
from spikeproof.errors import SpikeproofError
from spikeproof.lines import Lines
from spikeproof.rows import AttackRow, AuditRow, CleanRow, RobustRow, columns, fault, of_kind, refuse_foreign
from spikeproof.store.packed import PackedCell
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import cell_from
from spikeproof.study.inspection import fault as wrong
from spikeproof.study.run import Machine, run_cell

RESULTS = Path(__file__).parent.parent / "results"

CLEAN, ATTACK, AUDIT = made("clean"), made("attack"), made("audit")
CORRUPTION = made("corruption", predicted=[1, 1, 1, 1, 0])
PLACE = {"image": 0, "label": 0, "scalar": "ce", "batchnorm": "eval", "order": 7, "size": 64}
SITE = {**PLACE, "site": "conv1", "side": "input", "summed": {"l1": 2.0, "gini": None}}
WEIGHT = {**PLACE, "site": "weights", "side": "weight", "summed": {"l1": 2.0}, "masked_share": 0.5}
EPOCH = {"epoch": 1, "loss": 0.5, "validation_loss": 0.25, "validation_accuracy": 1.0}
LAYER = {"size": 9, "support": 0.5, "product": 0.5, "count": 1.0, "density": 0.25, "delta": 0.5}
SUPPORT = {"kind": "support", "image": 0, "label": 0, "layers": {"conv1": LAYER}}
ENERGY = {"kind": "energy", "image": 0, "label": 0, "steps": 4, "layers": {"a": [1, 2, 3]}, "sites": {"s": [1, 2]}}


@pytest.mark.parametrize(
    "row",
    [CLEAN, ATTACK, AUDIT, AUDIT | {"value": 0.5}, made("robust"), CORRUPTION, SITE, WEIGHT, EPOCH, SUPPORT, ENERGY,
     SITE | {"steps": {"l1": [1.0, None]}}, ATTACK | {"distance": 0}, ATTACK | {"tier": "quick", "group": "first"}],
)  # fmt: skip
def test_a_row_of_its_type_is_whole_and_lacks_what_is_taken_away(row: dict[str, Any]) -> None:
    assert fault(row) is None
    assert fault(json.loads(json.dumps(row))) is None
    for name in row.keys() - {"kind", "epoch", "side", "steps", "tier", "group"}:
        assert fault({k: v for k, v in row.items() if k != name}) == f"no {name}"
    assert fault(row | {"invented": 1}) == "an unknown invented"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (CLEAN | {"split": "tests"}, "split: 'tests'"),
        (CLEAN | {"image": True}, "image: True"),
        (CLEAN | {"image": 1.0}, "image: 1.0"),
        (CLEAN | {"margin": None}, "margin: None"),
        (CLEAN | {"margin": False}, "margin: False"),
        (ATTACK | {"fooled": 1}, "fooled: 1"),
        (ATTACK | {"protocol": "paperback"}, "protocol: 'paperback'"),
        (ATTACK | {"split": "test"}, "an unknown split"),
        (AUDIT | {"colour": "amber"}, "colour: 'amber'"),
        (AUDIT | {"value": "0.5"}, "value: '0.5'"),
        (CORRUPTION | {"predicted": [1, None]}, "predicted: [1, None]"),
        (SUPPORT | {"layers": {"conv1": {**LAYER, "size": 0.5}}}, "layers: {'conv1': "),
        (SUPPORT | {"layers": {"conv1": {"size": 9}}}, "layers: {'conv1': "),
        (SITE | {"summed": {"l1": "2"}}, "summed: {'l1': '2'}"),
        (SITE | {"masked_share": 0.5}, "an unknown masked_share"),
        (WEIGHT | {"steps": {}}, "an unknown steps"),
        (EPOCH | {"epoch": 1.5}, "epoch: 1.5"),
        ({"kind": "clear"}, "kind: 'clear'"),
    ],
)
def test_a_value_that_does_not_fit_is_named(row: dict[str, Any], what: str) -> None:
    assert str(fault(row)).startswith(what)


def test_foreign_rows_are_refused_with_the_field_and_the_place() -> None:
    refuse_foreign([CLEAN, ATTACK])
    with pytest.raises(SpikeproofError, match=r"got an unknown colour in row 2; to mend: .*run the cell anew"):
        refuse_foreign([CLEAN, CLEAN | {"colour": "red"}])


def test_one_kind_is_chosen_and_a_row_that_lacks_a_field_is_refused() -> None:
    rows = [CLEAN, made("attack", image=1), AUDIT, made("attack", image=2)]
    assert [row["image"] for row in of_kind(rows, AttackRow)] == [1, 2]
    short: Any = {k: v for k, v in CLEAN.items() if k != "label"}
    assert [row["image"] for row in of_kind([*rows, short], AttackRow)] == [1, 2]
    with pytest.raises(SpikeproofError, match="a row with the field 'label'"):
        of_kind([*rows, short], CleanRow)
    unnamed: Any = {"image": 0}
    with pytest.raises(SpikeproofError, match="a row with the field 'kind'"):
        of_kind([*rows, unnamed], CleanRow)


def test_lines_are_gone_through_once_and_columns_are_fields_of_rows() -> None:
    class Counted(list[Any]):
        times = 0

        def __iter__(self) -> Iterator[Any]:
            self.times += 1
            return super().__iter__()

    rows = Counted([CLEAN, made("attack", image=1), AUDIT, made("attack", image=2), CLEAN | {"image": 5}])
    lines = Lines(rows)
    for kind in (AttackRow, CleanRow, AttackRow, AuditRow, RobustRow):
        assert of_kind(lines, kind) == of_kind([*list.__iter__(rows)], kind)
    images, groups = columns(lines, AttackRow, "image", "group")
    assert (images, groups) == ([1, 2], [row.get("group") for row in of_kind(lines, AttackRow)])
    assert columns(lines, RobustRow, "image") == [[]]
    assert rows.times == 1


# --- what cells write ---


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    """Two cells that between them write every protocol and examination, with random and with plain code."""
    panel = {"name": "panel", "protocol": "panel", "tier": "smoke", "eps": [0.1], "batch_size": 5}
    everything = tiny(
        name="all",
        evaluations=[*tiny()["evaluations"], panel],
        encoder={"name": "direct"},
        recipe={"epochs": 1, "batch_size": 8, "lr": 0.01, "validation_share": 0.2, "select": "robust"},
        generalisation={"corruption_images": 2, "corruptions": ["jpeg"], "robust_images": 4, "steps": 1},
        energy={"images": 2},
        theory={"images": 2, "weight_images": 1, "draws": 2, "steps": 1},
    )
    random = tiny(name="random", encoder={"name": "poisson"}, gradients={"images": 1, "weight_images": 1})
    store = Store(tmp_path_factory.mktemp("rows"))
    return [run_cell(cell_from(tree), store, Machine(progress=False)) for tree in (everything, random)]


def lines(cell: Any) -> Iterator[Mapping[str, Any]]:
    yield from cell.rows()
    yield from cell.gradients()
    yield from cell.history()


def written(row: Mapping[str, Any]) -> str:
    """The name of its type."""
    if "kind" in row:
        return f"{row['kind'].capitalize()}Row"
    return "HistoryRow" if "epoch" in row else "WeightRow" if row["side"] == "weight" else "SiteRow"


def faults(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return [f"{what}: {row}" for row in rows if (what := fault(row))]


def test_every_row_that_a_cell_writes_has_its_type_and_every_field_of_a_type_is_written(cells: list[Cell]) -> None:
    fields: dict[str, set[str]] = {}
    for cell in cells:
        assert faults(lines(cell)) == []
        for row in lines(cell):
            fields.setdefault(written(row), set()).update(row)
    for name, found in fields.items():
        wanted = getattr(types, name)
        # What it shares with rows of panels and of the paper's protocol; and its code here is not random.
        foreign = {"tier", "group", "attacked_deployed", "draws_right"} if name == "RobustRow" else set()
        assert found | foreign == set(wanted.__annotations__), name
    kinds = {name for name in types.__all__ if name.endswith("Row")} - {"Row", "GradientRow"}
    assert set(fields) == kinds


@pytest.mark.parametrize("folder", sorted(path for path in RESULTS.glob("*") if path.is_dir()), ids=lambda p: p.name)
def test_packed_rows_have_their_types(folder: Path) -> None:
    paths = sorted(folder.glob("*.json.xz"))
    assert paths
    for path in paths[:: max(1, len(paths) // 4)]:
        rows = list(lines(PackedCell(path)))
        # One of each shape in each file is tried: a column has one type.
        shapes = {(written(row), *((k, type(v)) for k, v in row.items())): row for row in rows}
        assert faults(shapes.values()) == []


@pytest.mark.parametrize("folder", sorted(path for path in RESULTS.glob("*") if path.is_dir()), ids=lambda p: p.name)
def test_packed_rows_give_their_summary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what was said of the numbers, by the rule of their version; today's rule says something else."""
    cell = PackedCell(sorted(folder.glob("*.json.xz"))[0])
    assert wrong(cell) is None
    old = cell.provenance["spikeproof"] != spikeproof.__version__
    assert old == (folder.name == "paper-cifar10-short")
    if old:
        monkeypatch.setattr(spikeproof, "__version__", "0.1.0")
        said = str(wrong(cell))
        assert "verdict" in said or "panels" in said or not cell.summary["results"]["panels"]
        monkeypatch.undo()
    cell.summary["results"]["evaluations"][0]["worst"]["forwards"] += 1
    said = str(wrong(cell))
    assert "evaluations[0].worst.forwards" in said
    assert ("(it is of spikeproof 0.1.0" in said) == old
