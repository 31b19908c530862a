"""Inputs of anybody: they lower an entry by exactly the images that they break, and what may not count is refused."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small import trained
from torch import Tensor

from spikeproof import commands
from spikeproof.attacks.pgd import PGD
from spikeproof.board.again import keep, made_again
from spikeproof.board.entry import Entry, read
from spikeproof.board.subject import Subject, subject
from spikeproof.board.verify import Found, accept, verify
from spikeproof.data.digits import Digits
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import margin
from spikeproof.rules.atan import ATan
from spikeproof.store.store import Cell
from spikeproof.study.run import Machine
from spikeproof.tensors import exact
from spikeproof.threats.linf import Linf
from spikeproof.victims.scene import Scene

QUIET = Machine(progress=False)
EPS = 1 / 20
BOARD = (Path(__file__).parents[2] / "docs" / "board.md").read_text(encoding="utf-8")


def images(ids: list[int]) -> tuple[Tensor, Tensor]:
    """Pixels and labels of the digits of these ids, straight from the data."""
    data = Digits().load("test")
    place = {id: number for number, id in enumerate(data.ids.tolist())}
    x, y, _ = data.at(torch.tensor([place[id] for id in ids]))
    return x, y


def answers(x: Tensor) -> list[int]:
    """Of the network itself, one image at a time, without anything of the board."""
    with torch.no_grad():
        keys = torch.zeros(1, dtype=torch.int64)
        return [int(trained()(one[None], exact, keys).argmax()) for one in x]


def given(path: Path, x: Tensor, ids: list[int] | None) -> Path:
    np.savez(path, inputs=x.numpy(), **({} if ids is None else {"ids": np.array(ids)}))
    return path


def judged(entry: Entry, path: Path) -> Found:
    return verify(entry, path, QUIET)


@pytest.fixture
def stronger(entry: Entry) -> tuple[list[int], Tensor]:
    """What the smoke tier left standing, attacked with more steps and another loss."""
    ids = sorted(entry.standing)
    x, y = images(ids)
    keys = torch.arange(len(ids))
    f = Scene(trained(), x, y, keys, "pixels", survivors=True).objective(margin)
    return ids, PGD(steps=60)(f, x, Linf(EPS), WhiteBox(ATan()), keys).detach()


def test_a_stronger_attack_lowers_by_exactly_what_it_breaks(
    entry: Entry, stronger: tuple[list[int], Tensor], tmp_path: Path
) -> None:
    ids, x = stronger
    _, y = images(ids)
    fell = [id for id, label, said in zip(ids, y.tolist(), answers(x), strict=True) if label != said]
    assert fell, "an attack that breaks nothing would show nothing"
    found = judged(entry, given(tmp_path / "a.npz", x, ids))
    assert (sorted(found.broken), sorted(found.new), found.unlike) == (fell, fell, ())
    assert found.before is not None
    assert found.after is not None
    assert found.before.correct - found.after.correct == len(fell)
    assert f"lowered by {len(fell)} images" in str(found)

    lower = accept(entry, found, by="somebody", how="PGD-60")
    assert read(entry.path).tree == lower.tree
    assert lower.standing == entry.standing - {*fell}
    again = judged(lower, tmp_path / "a.npz")
    assert (sorted(again.broken), again.new) == (fell, ())
    with pytest.raises(SpikeproofError, match="inputs that lower"):
        accept(lower, again, by="somebody", how="")


def test_what_the_panel_broke_is_made_again_to_the_image(entry: Entry, tmp_path: Path) -> None:
    of = subject(entry, QUIET, weights=None, root=None, trust=False)
    ids, x = made_again(of, entry.tree)
    outcomes = entry["outcomes"]
    assert ids.tolist() == [id for id, fell in zip(outcomes["ids"], outcomes["fallen"], strict=True) if fell >= 0]
    clean, y = images(ids.tolist())
    assert all(label != said for label, said in zip(y.tolist(), answers(x), strict=True))
    assert float((x - clean).abs().max()) <= EPS + 1e-6
    found = judged(entry, given(tmp_path / "a.npz", x, ids.tolist()))
    assert (sorted(found.broken), found.new) == (sorted(ids.tolist()), ())
    assert "not lowered" in str(found)


@pytest.mark.parametrize("kind", ["floats", "bytes"])
def test_kept_inputs_break_what_is_said_of_them(entry: Entry, tmp_path: Path, kind: str) -> None:
    of = subject(entry, QUIET, weights=None, root=None, trust=False)
    said = keep(of, entry.tree, tmp_path / "kept.safetensors", kind)  # type: ignore[arg-type]
    found = judged(entry, tmp_path / "kept.safetensors")
    assert said["images"] == found.inputs == len(found.broken) > 0
    with pytest.raises(SpikeproofError, match="surface 'events'"):
        keep(of, entry.tree, tmp_path / "kept.safetensors", "bits")


def over(x: Tensor, ids: list[int]) -> tuple[Tensor, list[int] | None]:
    x = x.clone()
    x[[1, 4], 0, 0, 0] = (x[[1, 4], 0, 0, 0] + 0.5) % 1.0
    return x, ids


def rolled(x: Tensor, ids: list[int]) -> tuple[Tensor, list[int] | None]:
    return x, [*ids[1:], ids[0]]


def brighter(x: Tensor, ids: list[int]) -> tuple[Tensor, list[int] | None]:
    x = x.clone()
    x[2] += 1.5
    x[3, 0, 0, 0] = float("nan")
    return x, ids


REFUSED: dict[str, Callable[[Tensor, list[int]], tuple[Tensor, list[int] | None]]] = {
    r"within Linf 0\.05 of their own image, got 2 of 40 over budget, the farthest by 0\.5, at 1, 4 \(from 0\)": over,
    r"got 40 of 40 over budget, .* \(40 within that of another image\), at 0, 1, 2, 3, 4, \.\.\.": rolled,
    r"inputs in \[0,1\], got 2 of 40 with other values, or NaN, at 2, 3": brighter,
    r"inputs \(n, 1, 8, 8\), got 40 of shape \(8, 8, 1\)": lambda x, ids: (x.permute(0, 2, 3, 1), ids),
    r"inputs \(n, 1, 8, 8\), got 0": lambda x, ids: (x[:0], None),
    r"images of the entry, got 2 of 40 of other images, at 0, 39": lambda x, ids: (x, [10**6, *ids[1:-1], -1]),
    r"one input for each image, got 1 of 40 .*, at 1 ": lambda x, ids: (x, [ids[0], ids[0], *ids[2:]]),
    r"each of the 40 images, or ids, got 39": lambda x, ids: (x[1:], None),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_may_not_count_is_refused_with_its_number(entry: Entry, tmp_path: Path, says: str) -> None:
    ids = entry["outcomes"]["ids"]
    x, named = REFUSED[says](images(ids)[0], ids)
    with pytest.raises(SpikeproofError, match=says):
        judged(entry, given(tmp_path / "a.npz", x, named))


def test_clean_images_in_the_order_of_the_entry_break_nothing(entry: Entry, tmp_path: Path) -> None:
    ids = entry["outcomes"]["ids"]
    found = judged(entry, given(tmp_path / "a.npz", images(ids)[0], None))
    assert (found.inputs, found.broken, found.unlike) == (40, (), ())


def test_other_weights_or_none_are_refused(entry: Entry, tmp_path: Path) -> None:
    path = given(tmp_path / "a.npz", images(entry["outcomes"]["ids"])[0], None)
    weights = tmp_path / "tiny.weights.safetensors"
    weights.rename(tmp_path / "moved.safetensors")
    with pytest.raises(UsageError, match="--weights"):
        judged(entry, path)
    verify(entry, path, QUIET, weights=tmp_path / "moved.safetensors")
    (tmp_path / "moved.safetensors").write_bytes(b"others")
    with pytest.raises(SpikeproofError, match=r"files\.weights\.sha256"):
        verify(entry, path, QUIET, weights=tmp_path / "moved.safetensors")


def test_code_of_others_is_not_imported(entry: Entry, tmp_path: Path) -> None:
    path = given(tmp_path / "a.npz", images(entry["outcomes"]["ids"])[0], None)
    harmful = {**entry["config"], "encoder": {"name": "harmful_module:Encoder"}}
    with pytest.raises(UsageError, match="--trust"):
        judged(Entry(entry.path, {**entry.tree, "config": harmful}), path)


def test_the_command_line(
    cell: Cell, stronger: tuple[list[int], Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a cell to an entry with its files, lowered by somebody, and shown."""
    folder = tmp_path / "board"
    made = ["entry", str(cell.folder), "--into", str(folder), "--weights", "--inputs", "floats", "--quiet"]
    assert commands.main(made) == 0
    (path,) = folder.glob("*.json")
    assert capsys.readouterr().out.strip() == str(path)
    assert commands.main(["verify", str(path), str(path.with_suffix(".inputs.safetensors")), "--quiet"]) == 0
    assert "not lowered" in capsys.readouterr().out
    inputs = given(tmp_path / "a.npz", stronger[1], stronger[0])
    assert commands.main(["verify", str(path), str(inputs), "--by", "some <b>body</b>", "--quiet"]) == 0
    assert "written into" in capsys.readouterr().out
    assert commands.main(["board", str(folder)]) == 0
    assert "some &lt;b&gt;body&lt;/b&gt;" in (folder / "board.html").read_text(encoding="utf-8")
    (folder / "other.json").write_text("{}", encoding="utf-8")
    capsys.readouterr()
    assert commands.main(["board", str(folder)]) == 1
    assert "not shown: other.json: " in capsys.readouterr().err


def test_a_subject_is_what_the_panel_saw(entry: Entry) -> None:
    of: Subject = subject(entry, QUIET, weights=None, root=None, trust=False)
    assert sorted(of.batch.ids.tolist()) == entry["outcomes"]["ids"]
    assert (of.threat, of.events) == (Linf("1/20"), False)


def test_the_lines_of_the_document_make_a_file_that_is_judged(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", BOARD, flags=re.DOTALL)
    ids = entry["outcomes"]["ids"]
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        given = {"victim": trained(), "images": images(ids)[0], "ids": torch.tensor(ids)}
        exec(compile(code, "board.md", "exec"), given)
    assert judged(entry, tmp_path / "mine.npz").inputs == 40


def test_the_document_names_verbs_and_options_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", BOARD, flags=re.DOTALL) for line in block.splitlines()]
    named = [shlex.split(line)[1:] for line in lines]
    named += [shlex.split(line)[1:] for line in re.findall(r"`(spikeproof [^`]+)`", BOARD)]
    assert {words[0] for words in named} >= {"entry", "verify", "board", "evaluate"}
    helps: dict[str, str] = {}
    for verb in {words[0] for words in named}:
        with pytest.raises(SystemExit):
            commands.main([verb, "--help"])
        helps[verb] = capsys.readouterr().out
    missing = [
        (words[0], one) for words in named for one in words if one.startswith("--") and one not in helps[words[0]]
    ]
    assert missing == []
