"""The store: plain files that a kill, a full disk or a careless hand cannot turn into wrong numbers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeproof.errors import SpikeproofError
from spikeproof.files import digest
from spikeproof.store.store import Cell, Draft, Store, key_of
from spikeproof.store.summary import same_seal, sealed, unsealed
from spikeproof.training.checkpoint import write_tensors

ROWS = [{"kind": "clean", "image": i, "margin": 0.1 * i, "text": "é\n"} for i in range(5)]
FILES = ["README.md", "config.yaml", "gradients.jsonl", "history.jsonl", "model.safetensors", "rows.jsonl",
         "summary.json"]  # fmt: skip


def finished(root: Path, key: str = "0123456789abcdef", name: str = "a cell") -> Cell:
    """A finished cell of made-up numbers."""
    store = Store(root)
    write_tensors(root / "weights", {"x": torch.arange(3.0)}, {})
    draft = store.draft(key)
    draft.write_stage("rows", ROWS)
    draft.write_stage("gradients", [])
    draft.write_stage("history", [{"epoch": 1, "loss": 0.5}])
    summary = {"provenance": {"torch": "1"}, "results": {"panels": [{"verdict": "unsettled"}]}}
    return store.finish(draft, {"name": name, "steps": 2}, summary, "# A card\n", root / "weights")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- keys ---


def test_a_key_is_the_value_and_not_the_order_it_is_written_in() -> None:
    tree = {"a": {"x": 1, "y": [1, 2.5, None]}, "b": "8/255", "c": True}
    turned = {"c": True, "b": "8/255", "a": {"y": [1, 2.5, None], "x": 1}}
    assert key_of(tree) == key_of(turned)
    assert len(key_of(tree)) == 16
    assert set(key_of(tree)) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "other",
    [
        {"a": {"x": 1, "y": [2.5, 1, None]}, "b": "8/255"},
        {"a": {"x": 1, "y": [1, 2.5, 0]}, "b": "8/255"},
        {"a": {"x": "1", "y": [1, 2.5, None]}, "b": "8/255"},
        {"a": {"x": 1, "y": [1, 2.5, None]}, "b": "4/255"},
        {"a": {"x": 1, "y": [1, 2.5, None]}},
        {"a": {"x": 1, "y": [1, 2.5, None]}, "b": "8/255", "c": None},
        {"a": {"x": 1, "y": [1, 2.5000000000000004, None]}, "b": "8/255"},
    ],
)
def test_any_other_value_has_another_key(other: dict[str, Any]) -> None:
    assert key_of(other) != key_of({"a": {"x": 1, "y": [1, 2.5, None]}, "b": "8/255"})


# --- stages that grow ---


def draft_of(tmp_path: Path) -> Draft:
    return Store(tmp_path).draft("0123456789abcdef")


def test_a_stage_grows_batch_by_batch_and_becomes_rows(tmp_path: Path) -> None:
    draft = draft_of(tmp_path)
    assert draft.batches("clean") == []
    draft.append("clean", ROWS[:2])
    draft.append("clean", [])
    draft.append("clean", ROWS[2:])
    assert draft.batches("clean") == [ROWS[:2], [], ROWS[2:]]
    assert not draft.done("clean")
    draft.close("clean", 3)
    assert draft.done("clean")
    assert draft.stage("clean") == ROWS
    assert names_in(draft.folder) == ["clean.jsonl", "clean.sha256", "owner"]


def lines_of(draft: Draft) -> tuple[Path, bytes]:
    draft.append("clean", ROWS[:2])
    draft.append("clean", ROWS[2:])
    path = draft.folder / "clean.part"
    return path, path.read_bytes()


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_torn_last_line_is_cut_off_and_done_again(tmp_path: Path, kept: float) -> None:
    draft = draft_of(tmp_path)
    path, data = lines_of(draft)
    first = data.index(b"\n") + 1
    path.write_bytes(data[: first + int(kept * (len(data) - first))])
    assert draft.batches("clean") == [ROWS[:2]]
    assert path.read_bytes() == data[:first]
    draft.append("clean", ROWS[2:])
    assert path.read_bytes() == data


def test_a_line_that_lacks_nothing_but_its_end_is_done_again(tmp_path: Path) -> None:
    draft = draft_of(tmp_path)
    path, data = lines_of(draft)
    path.write_bytes(data[:-1])
    assert draft.batches("clean") == [ROWS[:2]]
    draft.append("clean", ROWS[2:])
    assert draft.batches("clean") == [ROWS[:2], ROWS[2:]]


def test_a_damaged_line_that_is_still_json_is_cut_off_with_what_follows(tmp_path: Path) -> None:
    draft = draft_of(tmp_path)
    path, data = lines_of(draft)
    draft.append("clean", ROWS)
    spoilt = data.index(b'"', data.index(b"\n")) + 1  # a letter of a name in the second line
    path.write_bytes(data[:spoilt] + b"X" + path.read_bytes()[spoilt + 1 :])
    assert draft.batches("clean") == [ROWS[:2]]


@pytest.mark.parametrize("spoil", [lambda data: data.replace(b"0", b"1", 1), lambda data: data[:-1], lambda data: b""])
def test_a_damaged_stage_of_an_unfinished_cell_is_set_aside(tmp_path: Path, spoil: Any) -> None:
    draft = draft_of(tmp_path)
    draft.write_stage("clean", ROWS)
    path = draft.folder / "clean.jsonl"
    spoilt = spoil(path.read_bytes())
    assert spoilt != path.read_bytes()
    path.write_bytes(spoilt)
    assert not draft.done("clean")
    assert (draft.folder / "clean.jsonl.damaged-0").read_bytes() == spoilt
    draft.write_stage("clean", ROWS)
    assert draft.done("clean")
    assert draft.stage("clean") == ROWS


def test_a_stage_without_a_seal_is_no_stage(tmp_path: Path) -> None:
    draft = draft_of(tmp_path)
    draft.write_stage("clean", ROWS)
    (draft.folder / "clean.sha256").unlink()
    assert not draft.done("clean")


@pytest.mark.parametrize("junk", [b"\0" * 64, b"\0" * 64 + b"\n", b"\xff\xfe\n", b"[{]\n"])
def test_what_a_power_cut_leaves_behind_is_cut_off(tmp_path: Path, junk: bytes) -> None:
    draft = draft_of(tmp_path)
    path, data = lines_of(draft)
    path.write_bytes(data + junk)
    assert draft.batches("clean") == [ROWS[:2], ROWS[2:]]
    assert path.read_bytes() == data


def test_a_stage_that_was_closed_when_the_power_went_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = draft_of(tmp_path)
    lines_of(draft)

    real = Path.unlink

    def stop(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".part":
            raise KeyboardInterrupt
        real(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop)
        with pytest.raises(KeyboardInterrupt):
            draft.close("clean", 2)
    assert draft.done("clean")
    assert draft.stage("clean") == ROWS


def test_a_batch_that_the_disk_refuses_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = draft_of(tmp_path)
    path, data = lines_of(draft)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SpikeproofError, match=r"clean\.part.*free some space"):
            draft.append("clean", ROWS)
    assert path.read_bytes().startswith(data)


def test_a_broken_row_is_named_with_its_line(tmp_path: Path) -> None:
    draft = draft_of(tmp_path)
    draft.write_stage("clean", ROWS)
    path = draft.folder / "clean.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '{"image": ', encoding="utf-8")
    with pytest.raises(SpikeproofError, match=r"clean\.jsonl:6"):
        draft.stage("clean")


# --- what vanishes, and who else is there ---

START_AGAIN = "start again"


def part_removed(draft: Draft) -> None:
    (draft.folder / "clean.part").unlink()


def folder_removed(draft: Draft) -> None:
    shutil.rmtree(draft.folder)


def store_removed(draft: Draft) -> None:
    shutil.rmtree(draft.folder.parents[1])


def folder_made_anew(draft: Draft) -> None:
    shutil.rmtree(draft.folder)
    draft.folder.mkdir()


def part_emptied(draft: Draft) -> None:
    (draft.folder / "clean.part").write_bytes(b"")


def part_begun_again(draft: Draft) -> None:
    path = draft.folder / "clean.part"
    path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\n" if path.stat().st_size > 200 else b"")


def part_written_twice(draft: Draft) -> None:
    path = draft.folder / "clean.part"
    path.write_bytes(path.read_bytes() * 2)


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize(
    "spoil",
    [
        part_removed, folder_removed, store_removed, folder_made_anew, part_emptied, part_begun_again,
        part_written_twice,
    ],
)  # fmt: skip
def test_what_vanishes_after_any_batch_is_an_error_and_not_made_anew(tmp_path: Path, after: int, spoil: Any) -> None:
    draft = draft_of(tmp_path / "runs")

    def batches() -> None:
        for number in range(4):
            draft.append("clean", ROWS[number : number + 1])
            if number + 1 == after:
                spoil(draft)
        draft.close("clean", 4)

    with pytest.raises(SpikeproofError, match=START_AGAIN):
        batches()
    assert not list(tmp_path.rglob("clean.jsonl"))
    again = draft_of(tmp_path / "runs")
    for number in range(len(again.batches("clean")), 4):
        again.append("clean", ROWS[number : number + 1])
    again.close("clean", 4)
    assert again.stage("clean") == ROWS[:4]


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_stage_of_another_number_of_batches_is_not_closed(tmp_path: Path, batches: int) -> None:
    draft = draft_of(tmp_path)
    lines_of(draft)
    with pytest.raises(SpikeproofError, match=f"{batches} batches, each once"):
        draft.close("clean", batches)
    assert not draft.done("clean")


@pytest.mark.parametrize("order", [[0, 0], [1, 0], [0, 2], [0, 1, 1], [1]])
def test_batches_that_are_not_each_the_next_are_cut_off(tmp_path: Path, order: list[int]) -> None:
    draft = draft_of(tmp_path)
    path, _ = lines_of(draft)
    draft.append("clean", ROWS[:1])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[number] for number in order))
    expected = next((n for n, number in enumerate(order) if n != number), len(order))
    assert len(draft.batches("clean")) == expected
    assert path.read_bytes() == b"".join(lines[:expected])


@pytest.mark.parametrize("stage", ["rows", "gradients", "history"])
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_stage_that_is_not_as_it_was_written_is_not_sealed_into_a_cell(
    tmp_path: Path, stage: str, spoil: Any
) -> None:
    draft = draft_of(tmp_path)
    write_tensors(tmp_path / "weights", {"x": torch.arange(3.0)}, {})
    for name in ("rows", "gradients", "history"):
        draft.write_stage(name, ROWS)
    spoil(draft.folder / f"{stage}.jsonl")
    with pytest.raises(SpikeproofError, match=f"{stage}.jsonl.*{START_AGAIN}"):
        draft.stage(stage)
    with pytest.raises(SpikeproofError, match=f"{stage}.jsonl.*{START_AGAIN}"):
        Store(tmp_path).finish(draft, {}, {"provenance": {}, "results": {}}, "", tmp_path / "weights")
    assert Store(tmp_path).folders() == []


def test_a_run_that_another_has_taken_over_writes_nothing_more(tmp_path: Path) -> None:
    first = draft_of(tmp_path)
    first.append("clean", ROWS[:2])
    second = draft_of(tmp_path)
    for writes in (
        lambda: first.append("clean", ROWS[2:]),
        lambda: first.write_stage("rows", ROWS),
        lambda: first.close("clean", 1),
        lambda: Store(tmp_path).finish(first, {}, {"provenance": {}, "results": {}}, "", tmp_path),
    ):
        with pytest.raises(SpikeproofError, match=r"another one, begun since.*locks"):
            writes()
    assert second.batches("clean") == [ROWS[:2]]
    second.append("clean", ROWS[2:])
    second.close("clean", 2)
    assert second.stage("clean") == ROWS


def lost_the_race(root: Path, key: str, rows: list[dict[str, Any]]) -> Cell:
    """What becomes of a run that ends when another one has just ended."""
    store = Store(root)
    draft = store.draft(key)
    for name, some in (("rows", rows), ("gradients", []), ("history", [{"epoch": 1, "loss": 0.5}])):
        draft.write_stage(name, some)
    return store.finish(draft, {}, {"provenance": {"torch": "2"}, "results": {}}, "", root / "weights")


def test_who_is_second_at_the_end_takes_the_cell_of_the_first(tmp_path: Path) -> None:
    cell = finished(tmp_path)
    assert lost_the_race(tmp_path, cell.key, ROWS) == cell
    assert cell.provenance == {"torch": "1"}
    assert names_in(tmp_path / "cells") == [cell.key]


def test_two_runs_of_one_cell_with_other_rows_are_an_error_and_both_stay(tmp_path: Path) -> None:
    cell = finished(tmp_path)
    with pytest.raises(SpikeproofError, match=rf"{cell.key}.*others in rows\.jsonl.*{cell.key}\.partial"):
        lost_the_race(tmp_path, cell.key, ROWS[:-1])
    assert cell.rows() == ROWS
    assert names_in(tmp_path / "cells") == [cell.key, f"{cell.key}.partial"]


def test_who_is_second_to_a_damaged_cell_takes_its_place(tmp_path: Path) -> None:
    cell = finished(tmp_path)
    lose_a_row(cell.folder)
    assert lost_the_race(tmp_path, cell.key, ROWS).provenance == {"torch": "2"}
    assert names_in(tmp_path / "cells") == [cell.key, f"{cell.key}.damaged-0"]


# --- finished cells ---


def test_a_finished_cell_is_plain_files_with_their_digests(tmp_path: Path) -> None:
    cell = finished(tmp_path)
    assert names_in(cell.folder) == FILES
    assert cell.rows() == ROWS
    assert cell.gradients() == []
    assert cell.history() == [{"epoch": 1, "loss": 0.5}]
    assert cell.config == {"name": "a cell", "steps": 2}
    assert cell.provenance == {"torch": "1"}
    assert cell.summary["key"] == cell.key == cell.folder.name
    stated = cell.summary["files"]
    assert sorted(stated) == [name for name in FILES if name != "summary.json"]
    assert stated == {name: digest(cell.folder / name) for name in stated}
    assert cell.damage() is None


def test_what_killed_runs_left_does_not_come_along(tmp_path: Path) -> None:
    draft = Store(tmp_path).draft("0123456789abcdef")
    for name in (".rows.jsonl.4711.tmp", "clean.part", "clean.jsonl", ".summary.json.1.tmp"):
        (draft.folder / name).write_bytes(b"half")
    assert names_in(finished(tmp_path).folder) == FILES


def test_a_store_lists_its_finished_cells_by_name(tmp_path: Path) -> None:
    assert Store(tmp_path / "nowhere").cells() == []
    second = finished(tmp_path, "0" * 16, "b")
    first = finished(tmp_path, "f" * 16, "a")
    Store(tmp_path).draft("5" * 16)
    (tmp_path / "cells" / ("1" * 16 + ".damaged-0")).mkdir()
    assert Store(tmp_path).cells() == [first, second]


def test_a_cell_that_is_copied_elsewhere_is_the_same_cell(tmp_path: Path) -> None:
    cell = finished(tmp_path / "here")
    shutil.copytree(tmp_path / "here" / "cells", tmp_path / "there" / "cells")
    (copy,) = Store(tmp_path / "there").cells()
    assert copy.damage() is None
    assert (copy.rows(), copy.config, copy.summary) == (cell.rows(), cell.config, cell.summary)


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "rows.jsonl").read_bytes())
    data[20] ^= 1
    (folder / "rows.jsonl").write_bytes(data)


def lose_a_row(folder: Path) -> None:
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")


def lose_a_file(folder: Path) -> None:
    (folder / "history.jsonl").unlink()


def change_the_weights(folder: Path) -> None:
    write_tensors(folder / "model.safetensors", {"x": torch.zeros(3)}, {})


def change_the_configuration(folder: Path) -> None:
    (folder / "config.yaml").write_text("name: better\n", encoding="utf-8")


def lose_the_summary(folder: Path) -> None:
    (folder / "summary.json").unlink()


def tear_the_summary(folder: Path) -> None:
    (folder / "summary.json").write_bytes((folder / "summary.json").read_bytes()[:50])


def empty_the_summary(folder: Path) -> None:
    (folder / "summary.json").write_text("[]", encoding="utf-8")


def list_no_digests(folder: Path) -> None:
    (folder / "summary.json").write_text(json.dumps({"files": ["rows.jsonl"]}), encoding="utf-8")


def improve_the_verdict(folder: Path) -> None:
    summary = (folder / "summary.json").read_text(encoding="utf-8")
    (folder / "summary.json").write_text(summary.replace("unsettled", "supported"), encoding="utf-8")


def of_summary(change: Any, *, sealed_again: bool = False, indent: int | None = 1) -> Any:
    def spoil(folder: Path) -> None:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        change(summary)
        if sealed_again:
            del summary["seal"]
            (folder / "summary.json").write_bytes(sealed(summary))
        else:
            (folder / "summary.json").write_text(json.dumps(summary, indent=indent), encoding="utf-8")

    return spoil


def empty_the_rows(folder: Path, *, seal: bool) -> None:
    for name in ("rows.jsonl", "gradients.jsonl", "history.jsonl"):
        (folder / name).write_bytes(b"")
    of_summary(lambda summary: summary.update(files={}), sealed_again=seal)(folder)


def empty_the_rows_and_seal_them(folder: Path) -> None:
    empty_the_rows(folder, seal=True)


def empty_the_rows_and_list_none(folder: Path) -> None:
    empty_the_rows(folder, seal=False)


def drop_the_seal_and_a_digest(folder: Path) -> None:
    of_summary(lambda s: (s.pop("seal"), s["files"].pop("rows.jsonl")))(folder)


def change_the_card(folder: Path) -> None:
    (folder / "README.md").write_text("# 100 % robust\n", encoding="utf-8")


def be_another_cell(folder: Path) -> None:
    of_summary(lambda summary: summary.update(key="f" * 16), sealed_again=True)(folder)


def write_the_summary_otherwise(folder: Path) -> None:
    of_summary(lambda _: None, indent=None)(folder)


def a_later_date(folder: Path) -> None:
    of_summary(lambda summary: summary["provenance"].update(torch="2"))(folder)


DAMAGES = [
    flip_a_bit, lose_a_row, lose_a_file, change_the_weights, change_the_configuration, lose_the_summary,
    tear_the_summary, empty_the_summary, list_no_digests, improve_the_verdict, empty_the_rows_and_list_none,
    empty_the_rows_and_seal_them, drop_the_seal_and_a_digest, change_the_card, be_another_cell,
    write_the_summary_otherwise, a_later_date,
]  # fmt: skip


@pytest.mark.parametrize("spoil", DAMAGES)
def test_a_damaged_cell_is_set_aside(tmp_path: Path, spoil: Any) -> None:
    cell = finished(tmp_path)
    spoil(cell.folder)
    spoilt = {name: (cell.folder / name).read_bytes() for name in names_in(cell.folder)}
    with pytest.raises(SpikeproofError, match=r"a whole cell at .*run the study again: it is redone"):
        Store(tmp_path).cells()
    assert Store(tmp_path).finished(cell.key) is None
    aside = tmp_path / "cells" / f"{cell.key}.damaged-0"
    assert names_in(tmp_path / "cells") == [aside.name]
    assert {name: (aside / name).read_bytes() for name in names_in(aside)} == spoilt
    again = finished(tmp_path)
    assert Store(tmp_path).finished(again.key) == again
    spoil(again.folder)
    assert Store(tmp_path).finished(cell.key) is None
    assert names_in(tmp_path / "cells") == [aside.name, f"{cell.key}.damaged-1"]


@pytest.mark.parametrize("name", [*FILES])
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_any_file_cut_short_is_damage(tmp_path: Path, name: str, kept: float) -> None:
    cell = finished(tmp_path)
    data = (cell.folder / name).read_bytes()
    (cell.folder / name).write_bytes(data[: min(int(kept * len(data)), len(data) - 1)] if data else b"{}\n")
    assert cell.damage() is not None


def test_a_cell_of_a_version_without_seals_is_still_read(tmp_path: Path) -> None:
    cell = finished(tmp_path)
    of_summary(lambda s: (s.pop("seal"), s["files"].pop("README.md")))(cell.folder)
    assert cell.damage() is None
    assert Store(tmp_path).finished(cell.key) == cell


def test_a_seal_is_of_the_values_that_are_read_back(tmp_path: Path) -> None:
    tree: dict[str, Any] = {"key": "é", "results": {"a": 0.1, "b": [1e-300, None, True]}, "files": {"x": '"}\n'}}
    data = sealed(tree)
    found = unsealed(data)
    assert {**tree, "seal": found["seal"]} == found == json.loads(data)
    assert same_seal(found)
    assert not same_seal({**found, "files": {}})
    for at in range(0, len(data) - 1, 3):
        with pytest.raises(ValueError, match=r"."):
            unsealed(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_a_cell_that_is_not_finished_is_none(tmp_path: Path) -> None:
    Store(tmp_path).draft("0123456789abcdef")
    assert Store(tmp_path).finished("0123456789abcdef") is None
    assert names_in(tmp_path / "cells") == ["0123456789abcdef.partial"]


def test_a_place_where_nothing_can_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    store = Store(tmp_path / "taken")
    with pytest.raises(SpikeproofError, match="taken"), store.lock("key"):
        pass
    with pytest.raises(SpikeproofError, match="taken"):
        store.draft("key")
