"""What a paper says of cells: the page's own numbers, every setting, and names that stay names wherever they stand."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spikeproof import report
from spikeproof.commands import cite, main
from spikeproof.report._escape import formula_free, latex, plain
from spikeproof.report.cite import FORMATS, cited
from spikeproof.store.packed import packed_cells

ROOT = Path(__file__).parents[2]
PACKED = sorted((ROOT / "results" / "paper-cifar10-short").glob("*.xz"))[0]
Make = Callable[..., Any]


def columns(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of the cells that lie in the repository."""
    folder = tmp_path_factory.mktemp("shipped")
    shutil.copy(PACKED, folder)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one of few rows."""
    folder = tmp_path_factory.mktemp("small")
    shutil.copy(min((ROOT / "results" / "pooling-digits").glob("*.xz")), folder)
    return folder


# --- numbers ---


def test_a_line_has_the_numbers_that_the_rows_give(make_panel_cell: Make, panel_of: Make) -> None:
    """18 of 20 right when clean, 7 left: Clopper and Pearson's ends of 7 in 20 are 0.1539 and 0.5922."""
    cell = make_panel_cell("net_1", panel_of())
    found = cited([cell], header=True)
    (line,) = columns(found["table.csv"])
    assert [line[name] for name in ("robust", "robust_low", "robust_high")] == ["35.0", "15.4", "59.2"]
    assert [line[name] for name in ("clean_attacked", "images", "key")] == ["90.0", "20", cell.key]
    assert (line["verdict"], line["robust_is"], line["eps"]) == ("supported", "measured", "0.15")
    tex = found["table.tex"].splitlines()
    assert tex[1:3] == [r"\begin{tabular}{lllllllllll}", r"\toprule"]
    assert tex[-2:] == [r"\bottomrule", r"\end{tabular}"]
    row = tex[5]
    assert row.startswith(r"net\_1 & digits & ")
    assert row.endswith(r" \\")
    assert r"& 35.0~\% [15.4, 59.2] & supported &" in row
    assert len(row.split(" & ")) == 11
    assert "Robust accuracy: 35.0\u00a0% [15.4, 59.2]; verdict supported (gap" in found["methods.txt"]


@pytest.mark.parametrize(
    ("red", "verdict", "robust_is", "said"),
    [(("D22",), "unsettled", "an upper bound", r"$\leq$ 35.0~\%"), (("D3",), "not evaluated", "not evaluated", ""),
     (("D13",), "not evaluated", "not evaluated", "")],
)  # fmt: skip
def test_what_may_not_be_said_is_not_said(
    red: tuple[str, ...], verdict: str, robust_is: str, said: str, make_panel_cell: Make, panel_of: Make
) -> None:
    found = cited([make_panel_cell("a", panel_of(red))], header=True)
    (line,) = columns(found["table.csv"])
    assert (line["verdict"], line["robust_is"]) == (verdict, robust_is)
    if verdict == "not evaluated":
        assert [line[name] for name in ("robust", "robust_low", "robust_high")] == ["", "", ""]
        assert "35.0" not in "".join(found.values())
        assert found["table.tex"].count("not evaluated") >= 2
        assert "not evaluated" in found["methods.txt"]
    else:
        assert said in found["table.tex"]
        assert "(an upper bound)" in found["methods.txt"]


def test_without_an_audit_there_is_no_verdict(make_cell: Make) -> None:
    found = cited([make_cell("a")], header=True)
    (line,) = columns(found["table.csv"])
    assert (line["verdict"], line["robust_is"], line["gap"]) == ("not audited", "measured", "")
    many = columns(cited([make_cell("a", paper=True)], header=True, every=True)["table.csv"])
    assert [(one["evaluation"], one["eps"]) for one in many] == [
        *(("pixels", eps) for eps in ("2/255", "8/255", "16/255")), ("paper", "6/255"),
    ]  # fmt: skip
    assert line in [{**one, "key": line["key"]} for one in many]


@pytest.mark.usefixtures("undrawn")
def test_the_numbers_are_written_as_on_the_page(make_panel_cell: Make, panel_of: Make, tmp_path: Path) -> None:
    cells = [make_panel_cell("a", panel_of(("D22",))), make_panel_cell("b", panel_of(kept=3, images=23), images=23)]
    page = report.write(cells, tmp_path, title="t").read_text(encoding="utf-8")
    for line in columns(cited(cells, header=True)["table.csv"]):
        for name in ("clean_test", "clean_attacked", "robust", "gap"):
            ends = f"[{line[f'{name}_low']}, {line[f'{name}_high']}]"
            assert re.search(rf"{re.escape(line[name])}\u00a0%.{{0,80}}{re.escape(ends)}", page, re.DOTALL), (
                name,
                line,
            )
        assert f"\u2264 {line['slack_high']}\u00a0%" in page


# --- every setting ---


def leaves(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        return [name for value in tree.values() for name in leaves(value)] if tree else ["{}"]
    if isinstance(tree, list):
        return [name for value in tree for name in leaves(value)]
    return [str(tree)]


def test_a_paragraph_has_every_setting_and_version(shipped: Path) -> None:
    (cell,) = packed_cells(shipped)
    said = cited([cell])["methods.txt"]
    settings = said.partition("Every setting: ")[2]
    for value in leaves(cell.config):
        assert value in settings
    for path in ("data.name = image_folder", "steps = 10", "recipe.lr = 0.002", "evaluations.0.tier = quick"):
        assert path in settings
    for word in (cell.key, cell.provenance["torch"], cell.provenance["code"], cell.provenance["data"]["test"]):
        assert word in said
    for word in ("45,000 train", "5,000 test images", "T = 10", "Clopper and Pearson", "95 %", "tier quick", "seed 0"):
        assert word in said


# --- names ---

HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(HOSTILE)
@example("=cmd|' /C calc'!A0")
@example("@SUM(1)")
@example("  +1")
@example("\t=1")
@example('a,"b"\r\n=1')
@example("-2+3")
@example("\u202e=1")
@example("\ufeff=1")
def test_no_field_is_a_formula_and_every_field_is_one(name: str) -> None:
    kept = formula_free(name)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([kept, "after"])
    assert list(csv.reader(io.StringIO(text.getvalue()))) == [[kept, "after"]]
    first = kept.lstrip()[:1]
    assert first not in ("=", "+", "-", "@")
    assert text.getvalue().count("\n") == 1


@given(HOSTILE)
def test_no_letter_is_obeyed(name: str) -> None:
    for letter in plain(name):
        assert unicodedata.category(letter)[0] != "C"
    assert len(plain(name).splitlines()) <= 1


@given(HOSTILE)
@example(r"\input{/etc/passwd}")
@example("50% of $x_1^2$ & {more} #1 ~ \\\\")
def test_latex_sets_a_name_letter_by_letter(name: str) -> None:
    """Read back by a small reader of what is left: no command but those that stand for one letter."""
    commands = {
        r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
        r"\textgreater{}": ">", r"\textbar{}": "|", r"\char34{}": '"', r"\textasciigrave{}": "`", r"$\leq$": "\u2264",
        r"$\geq$": "\u2265", **{rf"\{letter}": letter for letter in "&%$#_{}"}, "~": "\u00a0",
    }  # fmt: skip
    pieces = "|".join(map(re.escape, sorted(commands, key=len, reverse=True)))
    read, left = [], latex(name)
    while left:
        met = re.match(pieces, left)
        if met is None:
            assert left[0] not in '\\{}$&#^_~%<>|"`'
        read.append(commands[met[0]] if met else left[0])
        left = left[len(met[0]) if met else 1 :]
    assert "".join(read) == plain(name)


def test_a_hostile_cell_is_cited_as_it_is_called(make_cell: Make) -> None:
    cell = make_cell('=HYPERLINK("x"),\\input{y}&z')
    found = cited([cell], header=True)
    (line,) = columns(found["table.csv"])
    assert line["name"] == '\'=HYPERLINK("x"),\\input{y}&z'
    row = found["table.tex"].splitlines()[5]
    assert len(re.split(r"(?<!\\)&", row)) == 11
    assert r"\input" not in row + found["methods.tex"]


# --- the verb ---


def test_the_verb_prints_or_writes_them(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(cite.ONLY) == FORMATS
    expected = cited(packed_cells(small), header=True)
    assert main(["cite", str(small), "--header"]) == 0
    assert capsys.readouterr().out == "\n".join(expected[name] for name in FORMATS[:3])
    assert main(["cite", str(small), "--header", "--out", str(tmp_path), "--only", "table.csv"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == expected["table.csv"]
    capsys.readouterr()
    assert main(["cite", str(tmp_path)]) == 2
    assert "expected finished cells" in capsys.readouterr().err


def test_it_needs_no_torch(small: Path) -> None:
    code = (
        "import sys\nfrom spikeproof.commands import main\n"
        f"assert main(['cite', {str(small)!r}]) == 0\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
