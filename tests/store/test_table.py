"""Rows as tables: the same rows, in a fraction of the memory, made and written one after another."""

from __future__ import annotations

import json
import lzma
import tracemalloc
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from spikeproof.errors import SpikeproofError
from spikeproof.lines import Lines
from spikeproof.store.store import Cell, Draft
from spikeproof.store.table import Table, table_of

RESULTS = Path(__file__).parents[2] / "results"
SPENT = {"forwards": 21, "backwards": 20}


def made(count: int) -> Iterator[dict[str, Any]]:
    """Rows as an attack writes them, each with texts of its own as a file has them."""
    return map(json.loads, written(count))


@cache
def written(count: int) -> list[str]:
    """The lines of the file, made once and before anybody looks at the memory."""
    lines = []
    for image in range(count):
        row = {
            "kind": "attack", "evaluation": "panel", "protocol": "panel", "surface": "pixels", "norm": "linf",
            "eps": 0.05, "eps_text": "0.05", "attack": f"pgd-{image % 7}", "tier": "quick", "group": "white box",
            "image": image, "label": image % 10, "predicted": image % 9, "attacked": image % 8,
            "fooled": image % 3 == 0, "distance": image / 7, "margin": image / 11, **SPENT,
        }  # fmt: skip
        lines.append(json.dumps({**row, **({"skipped": True} if image % 5 == 0 else {})}))
    return lines


def peak(what: Any) -> tuple[Any, float]:
    """What a call gives, and the MB that it held at most."""
    tracemalloc.start()
    try:
        return what(), tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_a_table_of_many_rows_is_small() -> None:
    written(10_000)
    rows, dear = peak(lambda: list(made(10_000)))
    table, cheap = peak(lambda: table_of(made(10_000)))
    assert cheap < dear / 4
    assert table == rows
    assert sum(1 for row in table if row["fooled"]) == sum(1 for row in rows if row["fooled"])
    _, walked = peak(lambda: sum(len(row) for row in table))
    assert walked < 0.1


def test_a_stage_is_closed_batch_by_batch(tmp_path: Path) -> None:
    folder = tmp_path / "cell.partial"
    folder.mkdir()
    draft = Draft("cell", folder)
    rows = list(made(4_000))
    for start in range(0, len(rows), 100):
        draft.append("attack", rows[start : start + 100])
    _, held = peak(lambda: draft.close("attack", 40))
    size = sum(len(json.dumps(row)) for row in rows) / 1e6
    assert held < size / 3
    assert draft.done("attack")
    assert draft.stage("attack") == rows


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"5", "a int"), (b"[1]", "a list"), (b"{", "Expecting"), (b'{"a": "\xff"}', "utf-8"),
        (b"[" * 100_000, "recursion"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: bytes, words: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"kind": "clean"}\n' + line + b"\n")
    with pytest.raises(SpikeproofError, match=r"rows.jsonl:2.*" + words):
        Cell("key", tmp_path).rows()


def test_a_packed_table_is_what_its_rows_give() -> None:
    """Those of the repository were packed by another code, which held all rows."""
    path = min((RESULTS / "pooling-digits").glob("*.json.xz"))
    tree = json.loads(lzma.decompress(path.read_bytes()))
    for name in ("rows", "gradients", "history"):
        assert json.dumps(table_of(Table(tree[name])).tree) == json.dumps(tree[name])


def test_rows_are_equal_as_lists_are() -> None:
    rows = list(made(20))
    assert table_of(rows) == rows
    assert Lines(rows) == table_of(rows)
    assert table_of(rows) != rows[:-1]
    assert table_of(rows) != [*rows[:-1], {}]
    assert table_of([]) == []
    assert table_of(rows) != "rows"
