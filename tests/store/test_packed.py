"""Packed cells: small, plain, and the same page."""

from __future__ import annotations

import json
import lzma
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinycell import SMALLEST, smallest
from tinypanel import panelled

from spikeproof import report
from spikeproof.commands import main
from spikeproof.errors import SpikeproofError
from spikeproof.limits import PACKED_VALUES
from spikeproof.lines import ABSENT, Lines
from spikeproof.store import packed
from spikeproof.store.packed import PackedCell, pack, packed_cells
from spikeproof.store.store import Cell, Store
from spikeproof.store.table import Table, _values, table_of
from spikeproof.study.config import cell_from
from spikeproof.study.run import Machine, run_cell


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells, one with a panel; not to be changed."""
    folder = tmp_path_factory.mktemp("packed")
    for config in (smallest(name="plain"), panelled(name="panel", model=SMALLEST)):
        run_cell(cell_from(config), Store(folder), Machine(progress=False))
    return folder


def test_every_row_comes_back_in_its_order(root: Path, tmp_path: Path) -> None:
    cells = Store(root).cells()
    written = pack(cells, tmp_path)
    assert [path.name for path in written] == [f"{cell.key}.json.xz" for cell in cells]
    for cell, back in zip(cells, packed_cells(tmp_path), strict=True):
        assert (back.key, back.config, back.summary) == (cell.key, cell.config, cell.summary)
        assert json.dumps([*back.rows()]) == json.dumps([*cell.rows()])
        assert json.dumps([*back.history()]) == json.dumps([*cell.history()])
        slim = [{k: v for k, v in row.items() if k != "steps"} for row in cell.gradients()]
        assert json.dumps([*back.gradients()]) == json.dumps(slim)
        whole = sum(path.stat().st_size for path in cell.folder.iterdir())
        assert (tmp_path / f"{cell.key}.json.xz").stat().st_size < whole / 10


@pytest.mark.usefixtures("no_pdf")
def test_the_page_is_the_same(root: Path, tmp_path: Path) -> None:
    pack(Store(root).cells(), tmp_path / "small")
    own = report.write(Store(root).cells(), tmp_path / "own", title="A title")
    assert main(["report", str(tmp_path / "small"), "--title", "A title"]) == 0
    assert (tmp_path / "small" / "report.html").read_bytes() == own.read_bytes()
    for figure in (tmp_path / "own" / "figures").glob("*.svg"):
        assert (tmp_path / "small" / "figures" / figure.name).read_bytes() == figure.read_bytes()


def test_the_same_cells_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    one, other = (pack(Store(root).cells(), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_the_verb_says_what_it_wrote(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", str(root), str(tmp_path / "small")]) == 0
    assert capsys.readouterr().out.startswith(f"2 cells in {tmp_path / 'small'}, 0.0")
    assert main(["pack", str(tmp_path / "nowhere"), str(tmp_path / "small")]) == 2


@pytest.mark.parametrize("damage", ["torn", "flipped", "another format", "renamed", "not JSON"])
def test_a_damaged_file_is_named(root: Path, tmp_path: Path, damage: str) -> None:
    path = pack(Store(root).cells(), tmp_path)[0]
    data = path.read_bytes()
    if damage == "torn":
        path.write_bytes(data[:-20])
    elif damage == "flipped":
        path.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    elif damage == "renamed":
        path = path.rename(path.with_name(f"{'0' * 16}.json.xz"))
    else:
        tree = {**json.loads(lzma.decompress(data)), "format": 2}
        path.write_bytes(lzma.compress(b"[" if damage == "not JSON" else json.dumps(tree).encode()))
    with pytest.raises(SpikeproofError, match=path.name):
        PackedCell(path).rows()
    assert main(["report", str(tmp_path)]) == 1


def test_a_damaged_cell_is_not_packed(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "runs")
    rows = next(iter((tmp_path / "runs").glob("cells/*/rows.jsonl")))
    rows.write_bytes(rows.read_bytes()[:-20])
    assert main(["pack", str(tmp_path / "runs"), str(tmp_path / "small")]) == 1
    assert not (tmp_path / "small").exists()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | st.text("ab"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["x", "y", "all", "each"]), inner),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES), max_size=8))
def test_any_rows_survive(rows: list[dict[str, Any]]) -> None:
    table = json.loads(json.dumps(table_of(rows).tree))
    assert json.dumps([*Table(table)]) == json.dumps(rows)


KINDS = st.sampled_from(["clean", "attack", "robust"])
MADE = st.fixed_dictionaries(
    {"kind": KINDS, "image": st.integers(0, 9), "label": st.integers(0, 1)},
    optional={"skipped": st.booleans(), "summed": st.fixed_dictionaries({"l1": st.floats(0, 1), "l2": st.just(1.0)})},
)
OBJECTS = st.fixed_dictionaries({"l1": st.none() | st.floats(0, 1)}, optional={"l2": st.just(1.0), "gini": st.none()})


@given(st.lists(MADE, max_size=12), st.booleans())
def test_columns_are_the_fields_of_the_rows(rows: list[dict[str, Any]], mixed: bool) -> None:
    """Against a list of rows, gone through anew for everything; mixed: no table is of one kind."""
    table = json.loads(json.dumps(table_of(rows).tree))
    if mixed:
        for number, columns in enumerate(table["kinds"]):
            size = sum(count for kind, count in table["order"] if kind == number)
            columns["kind"] = _values(columns["kind"], size)
    lines, fields = Table(table), ("label", "image", "skipped", "summed")
    for kind in ("robust", "clean", "attack", "none"):
        mine = [row for row in rows if row["kind"] == kind]
        assert lines.columns(fields, kind, frozenset({"image"})) == [[r.get(name) for r in mine] for name in fields]
        assert lines.of(kind, frozenset({"image"})) == mine
    assert lines.columns(fields, None, frozenset()) == [[row.get(name) for row in rows] for name in fields]
    assert (len(lines), [*lines], lines[1:]) == (len(rows), rows, rows[1:])


@given(st.lists(st.fixed_dictionaries({"summed": OBJECTS}, optional={"skipped": st.booleans()}), max_size=6))
def test_inner_columns_are_the_fields_of_the_objects(rows: list[dict[str, Any]]) -> None:
    table = json.loads(json.dumps(table_of(rows).tree))
    names = {name for row in rows for name in row["summed"]}
    for lines in (Lines(rows), Table(table)):
        found = lines.inner("summed", frozenset({"summed"}))
        assert found == {name: [row["summed"].get(name, ABSENT) for row in rows] for name in names}


@given(st.lists(MADE | st.fixed_dictionaries({"kind": KINDS}) | st.fixed_dictionaries({"image": st.just(1)})))
def test_what_lacks_a_field_is_refused_as_in_a_list(rows: list[dict[str, Any]]) -> None:
    table = json.loads(json.dumps(table_of(rows).tree))
    for ask in (
        lambda some: some.of("clean", frozenset({"image"})),
        lambda some: some.columns(("kind",), "clean", frozenset({"image"})),
        lambda some: some.inner("summed", frozenset({"summed"})),
    ):
        said = []
        for some in (Lines(rows), Table(table)):
            try:
                ask(some)
                said.append("nothing")
            except SpikeproofError as error:
                said.append(str(error).split(",")[0])
        assert said[0] == said[1]


@pytest.mark.usefixtures("undrawn")
def test_a_page_unpacks_every_cell_once_and_names_it_before(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(Store(root).cells(), tmp_path)
    read: list[PackedCell] = []
    whole = packed._checked

    def counted(cell: PackedCell) -> dict[str, Any]:
        read.append(cell)
        return whole(cell)

    monkeypatch.setattr(packed, "_checked", counted)
    cells = packed_cells(tmp_path)
    assert [cell.config["name"] for cell in cells] == ["panel", "plain"]
    assert read == []
    report.write(cells, tmp_path / "page", title="A title")
    assert read == cells


def test_a_configuration_that_is_not_at_the_beginning_is_found(tmp_path: Path) -> None:
    table = {"order": [], "kinds": []}
    long = {"name": "k", "notes": "n" * 2 * packed._BEGINNING}
    summary = {"key": "k", "provenance": {}, "results": {}, "files": {}}
    assert claims(tmp_path, table, config=long, summary=summary).config == long
    first = json.dumps({"format": 1, "key": "k", "config": {"name": "other"}}, separators=(",", ":"))
    rest = json.dumps(
        {"config": {"name": "k"}, "summary": summary, **dict.fromkeys(("rows", "gradients", "history"), table)}
    )
    (tmp_path / "k.json.xz").write_bytes(lzma.compress(f"{first[:-1]},{rest[1:]}".encode()))
    cell = PackedCell(tmp_path / "k.json.xz")
    assert cell.config == {"name": "other"}
    with pytest.raises(SpikeproofError, match="two configurations"):
        cell.rows()


def test_a_page_is_made_without_torch_and_without_distributions(root: Path, tmp_path: Path) -> None:
    """They take seconds to import, and a page is made of rows."""
    pack(Store(root).cells(), tmp_path)
    script = (
        "import sys; from spikeproof.commands import main; assert main(['report', sys.argv[1]]) == 0; "
        "print(sorted({'torch', 'scipy.stats', 'spikeproof.types'} & sys.modules.keys()))"
    )
    said = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


# --- what is claimed, and what is there ---


def claims(folder: Path, table: Any, **more: Any) -> PackedCell:
    """A packed cell that says so of its rows."""
    empty = {"order": [], "kinds": []}
    tree = {"format": 1, "key": "k", "config": {}, "summary": {}, "rows": table, "gradients": empty, "history": empty}
    (folder / "k.json.xz").write_bytes(lzma.compress(json.dumps({**tree, **more}).encode()))
    return PackedCell(folder / "k.json.xz")


@pytest.mark.parametrize(
    "table",
    [
        {"order": [[0, 10**9]], "kinds": [{"a": {"all": 1}}]},
        {"order": [[0, 10**9]], "kinds": [{}]},
        {"order": [[0, PACKED_VALUES - 1]], "kinds": [{"a": {"all": 1}}]},
        {"order": [[0, PACKED_VALUES // 4]], "kinds": [{"a": {"each": {"b": {"all": 1}}}, "c": {"all": 2}}]},
        {"order": [[0, 2]], "kinds": [{"a": {"all": 1}}]},
        {"order": [[0, 1]] * 10 + [[0, 10**12]], "kinds": [{"a": {"each": {"b": {"each": {"c": {"all": 1}}}}}}]},
        {"order": [[0, PACKED_VALUES // 10 + 1]], "kinds": [{f"f{n}": {"all": 1} for n in range(10)}]},
        {"order": [[0, 3]], "kinds": [{"a": [1, 2]}]},
        {"order": [[0, 1]], "kinds": [{"a": [1, 2]}]},
        {"order": [[0, 2]], "kinds": [{"a": {"each": {"b": [1]}}}]},
        {"order": [[1, 1]], "kinds": [{"a": [1]}]},
        {"order": [[-1, 1]], "kinds": [{"a": [1]}]},
        {"order": [[0, -1]], "kinds": [{"a": []}]},
        {"order": [[0, 1.5]], "kinds": [{"a": [1]}]},
        {"order": [[0, True]], "kinds": [{"a": [1]}]},
        {"order": [[0]], "kinds": [{"a": [1]}]},
        {"order": 3, "kinds": [{"a": [1]}]},
        {"order": [[0, 1]], "kinds": [{"a": "text"}]},
        {"order": [[0, 1]], "kinds": [{"a": {"neither": 1}}]},
        {"order": [[0, 1]], "kinds": [3]},
        {"order": [], "kinds": {}, "more": 1} | {"kinds": None},
        [],
        None,
    ],
    ids=lambda table: json.dumps(table)[:50],
)
def test_rows_that_are_not_as_many_as_is_claimed_are_refused_before_they_are_made(tmp_path: Path, table: Any) -> None:
    cell = claims(tmp_path, table)
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(SpikeproofError, match=r"k\.json\.xz.*to mend: pack the study again"):
        cell.rows()
    assert time.process_time() - started < 1.0
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    "config", [3, None, [], "text", {"name": "\x1b[2J"}, {"name": "\ud800"}, {"name": 3}], ids=ascii
)
def test_a_configuration_that_no_cell_has_is_refused(tmp_path: Path, config: Any) -> None:
    cell = claims(tmp_path, {"order": [], "kinds": []}, config=config)
    with pytest.raises(SpikeproofError, match=r"k\.json\.xz.*to mend: pack the study again") as error:
        str(cell.config)
    str(error.value).encode()
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(SpikeproofError):
        str(Cell("k", tmp_path).config)


def test_a_file_that_unpacks_to_gigabytes_is_refused_at_the_limit(tmp_path: Path) -> None:
    block = lzma.compress(b"0" * 10_000_000)
    packing = lzma.LZMACompressor(preset=0)
    bomb = b"".join([*(packing.compress(b" " * 10_000_000) for _ in range(30)), packing.flush()])
    deep = lzma.compress(b"[" * 100_000 + b"]" * 100_000)
    for data in (bomb, block * 50, deep, lzma.compress(b"{}", format=lzma.FORMAT_ALONE), lzma.compress(b"{}")[:-4]):
        (tmp_path / "k.json.xz").write_bytes(data)
        tracemalloc.start()
        started = time.process_time()
        with pytest.raises(SpikeproofError, match=r"k\.json\.xz"):
            PackedCell(tmp_path / "k.json.xz").rows()
        assert time.process_time() - started < 1.0
        assert tracemalloc.get_traced_memory()[1] < 200e6
        tracemalloc.stop()
