"""Whose folders are written into, and that no link there leads elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import racers

from spikeproof.errors import SpikeproofError
from spikeproof.files import write_bytes
from spikeproof.store.store import Store

KEY = "0123456789abcdef"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_of_two_users_neither_leads_the_other_elsewhere() -> None:
    script = str(Path(__file__).parents[1] / "strangers.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 cases" in done.stdout
    assert done.stdout.count("to mend: ") >= 9, done.stdout


def letter(tmp_path: Path) -> Path:
    (tmp_path / "letter").write_text("dear", encoding="utf-8")
    return tmp_path / "letter"


def test_a_link_under_the_temporary_name_of_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / f".rows.{os.getpid()}.tmp").symlink_to(letter(tmp_path))
    write_bytes(tmp_path / "rows", b"new")
    assert (tmp_path / "rows").read_bytes() == b"new"
    assert not (tmp_path / "rows").is_symlink()
    assert letter(tmp_path).read_text(encoding="utf-8") == "dear"


@pytest.mark.parametrize("batches", [0, 1])
def test_a_link_in_place_of_a_growing_stage_is_not_followed(tmp_path: Path, batches: int) -> None:
    draft, file = Store(tmp_path / "runs").draft(KEY), letter(tmp_path)
    for _ in range(batches):
        draft.append("clean", [])
    (draft.folder / "clean.part").unlink(missing_ok=True)
    if not batches:
        assert draft.batches("clean") == []
    (draft.folder / "clean.part").symlink_to(file)
    with pytest.raises(SpikeproofError, match=r"clean\.part"):
        draft.append("clean", [])
    assert file.read_text(encoding="utf-8") == "dear"


def test_a_link_in_place_of_the_weights_is_not_followed(tmp_path: Path) -> None:
    draft, file = Store(tmp_path / "runs").draft(KEY), letter(tmp_path)
    for stage in ("rows", "gradients", "history"):
        draft.write_stage(stage, [])
    (draft.folder / "model.safetensors").symlink_to(file)
    (tmp_path / "weights").write_bytes(b"weights")
    cell = Store(tmp_path / "runs").finish(draft, {}, {"provenance": {}, "results": {}}, "", tmp_path / "weights")
    assert (cell.folder / "model.safetensors").read_bytes() == b"weights"
    assert file.read_text(encoding="utf-8") == "dear"


@pytest.mark.parametrize("draft", [f"cells/{KEY}.partial", f"models/{KEY}.partial"])
def test_a_draft_that_is_a_link_is_refused_also_one_s_own(tmp_path: Path, draft: str) -> None:
    """What a draft does not know is deleted in the end."""
    home = letter(tmp_path).parent
    path = tmp_path / "runs" / draft
    path.parent.mkdir(parents=True)
    path.symlink_to(home)
    store = Store(tmp_path / "runs")
    with pytest.raises(SpikeproofError, match=r"got a link.*delete it"):
        store.draft(KEY) if draft.startswith("cells") else store.model_draft(KEY)
    assert sorted(found.name for found in home.iterdir()) == ["letter", "runs"]


def test_nothing_is_more_open_than_the_user_has_files_be(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"weights")
    before = os.umask(0o077)
    try:
        for name in ("locks", "leases"):
            if name == "leases":
                (tmp_path / name / "locks").mkdir(parents=True)
                (tmp_path / name / "locks" / "leased").touch()
            racers.cell_of(tmp_path / name, 0.0)
    finally:
        os.umask(before)
    made = [path for name in ("locks", "leases") for path in (tmp_path / name).rglob("*")]
    assert len(made) > 15
    assert [path for path in made if path.stat().st_mode & 0o077] == []
