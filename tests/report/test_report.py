"""The page and its figures: whole, self-contained, the same twice, and honest about what is missing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from spikeproof.errors import SpikeproofError
from spikeproof.report import write

Make = Callable[..., Any]
FIGURES = ("tradeoff", "curves", "layers", "training")


@pytest.fixture(autouse=True)
def no_fonts() -> None:
    """Here the figures are real."""


@pytest.fixture(scope="module")
def cells(make_cell: Make) -> list[Any]:
    return [
        make_cell("max-vanilla", paper=True, sparsity=0.5),
        make_cell("avg-vanilla", pool="avg", strength=40.0),
        make_cell("max-at", defence="adversarial", accuracy=0.8, strength=10.0, blind=3),
    ]


@pytest.fixture(scope="module")
def page(cells: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(cells, tmp_path_factory.mktemp("study"), title="Pools & <defences>")


def text_of(page: Path) -> str:
    """What a reader reads: every text node, spaces joined; it fails where the page is not well-formed."""
    return " ".join(" ".join(ElementTree.fromstring(page.read_text(encoding="utf-8")).itertext()).split())


def test_the_page_is_well_formed_and_names_every_cell_and_its_numbers(page: Path, cells: list[Any]) -> None:
    text = text_of(page)
    assert page.name == "report.html"
    for cell in cells:
        assert text.count(cell.config["name"]) >= 4  # hover title, table of cells, sparsity, configuration
    # max-at: 16 of 20 right when clean; 0.8 (1 - 10 * 8/255) of 20 survive: images 0 to 10.
    assert "55.0 % [31.5, 76.9]" in text
    assert "Every vanilla cell is broken (under 20.0 %) at eps 8/255 by PGD: the evaluation bites." in text
    assert "max-at: the gradient that the attacks follow is zero everywhere for 3 of 16 attacked images" in text


def test_nothing_is_fetched_and_no_script_runs_but_the_page_s_own(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    namespaces = re.findall(r'xmlns(?::\w+)?="https?://[^"]*"', text)
    assert text.count("http://") + text.count("https://") == len(namespaces)
    for loader in ("<link", "@import", "<img", "<iframe", "url(http", " src="):
        assert loader not in text
    root = ElementTree.fromstring(text)
    (script,) = [element.text or "" for element in root.iter() if element.tag == "script"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(e.attrib["content"] for e in root.iter("meta") if e.get("http-equiv"))
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert not set("<&") & set(script)  # it reads the same as HTML and as XML
    assert not [name for element in root.iter() for name in element.attrib if name.startswith("on")]


def test_every_id_is_unique_and_every_reference_is_met(page: Path) -> None:
    root = ElementTree.fromstring(page.read_text(encoding="utf-8"))
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', page.read_text(encoding="utf-8"))
    assert len(used) > 100
    assert set(used) <= set(ids)


def test_each_mark_of_the_trade_off_has_a_hover_title(page: Path, cells: list[Any]) -> None:
    svg = ElementTree.fromstring((page.parent / "figures" / "tradeoff.svg").read_text(encoding="utf-8"))
    titles = {
        element.attrib["id"]: element[0].text
        for element in svg.iter()
        if len(element) and element[0].tag.endswith("}title")
    }
    assert list(titles) == [f"tradeoff-mark-{n}" for n in range(len(cells))]
    assert titles["tradeoff-mark-0"] == (
        "max-vanilla: clean test accuracy 90.0\xa0% [68.3, 98.8], worst-case robust accuracy 10.0\xa0% [1.2, 31.7], "
        "left by the plain attack 10.0\xa0%, Gini of the input gradient 0.75"
    )
    assert svg.attrib["role"] == "group"
    named = [e for e in svg.iter() if e.get("tabindex") == "0"]
    assert [e.get("aria-label") for e in named] == list(titles.values())


def test_two_writes_give_the_same_bytes(page: Path, cells: list[Any], tmp_path: Path) -> None:
    again = write(cells, tmp_path, title="Pools & <defences>")
    names = ["report.html", *(f"figures/{name}.{suffix}" for name in FIGURES for suffix in ("svg", "pdf"))]
    for name in names:
        assert (page.parent / name).read_bytes() == (again.parent / name).read_bytes(), name
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == sorted(names)


@pytest.mark.usefixtures("undrawn")
def test_a_write_over_an_old_page_leaves_no_figure_that_is_no_longer_true(make_cell: Make, tmp_path: Path) -> None:
    write([make_cell("full")], tmp_path, title="t")
    bare = replace(make_cell("bare", gradients=False), epochs=[])
    write([bare], tmp_path, title="t")
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == [
        "curves.pdf", "curves.svg", "tradeoff.pdf", "tradeoff.svg"
    ]  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_the_pdf_is_a_pdf_without_a_date(page: Path, name: str) -> None:
    content = (page.parent / "figures" / f"{name}.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"CreationDate" not in content


@pytest.mark.usefixtures("no_pdf")
def test_names_and_titles_are_escaped_and_never_read_as_formulas(make_cell: Make, tmp_path: Path) -> None:
    page = write([make_cell("<b>&"), make_cell("$\\frac$ 名")], tmp_path, title="<script>alert(1)</script>")
    raw = page.read_text(encoding="utf-8")
    assert "<b>" not in raw
    assert raw.count("<script") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in raw
    assert "&lt;b&gt;&amp;" in raw
    assert "<b>&: clean test accuracy" in text_of(page)
    assert "$\\frac$ 名" in text_of(page)


def test_no_global_state_of_matplotlib_is_left_changed(make_cell: Make, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    write([make_cell("a")], tmp_path, title="t")
    assert dict(mpl.rcParams) == before
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_cells_with_nothing_but_clean_rows_still_make_a_page(make_cell: Make, tmp_path: Path) -> None:
    bare = replace(make_cell("bare", gradients=False, attacks=False), epochs=[], provenance={})
    text = text_of(write([bare], tmp_path, title="t"))
    assert "No cell was measured at the headline (pixels, eps 0.03137)" in text
    assert text.count("not measured") >= 4 + 3  # four figures, and entries of the table
    assert "Two protocols" not in text
    assert not list((tmp_path / "figures").iterdir())


@pytest.mark.usefixtures("no_pdf")
def test_a_cell_without_gradients_or_without_attacks_stands_beside_the_others(make_cell: Make, tmp_path: Path) -> None:
    cells = [make_cell("whole"), make_cell("no-gradients", gradients=False), make_cell("no-attacks", attacks=False)]
    text = text_of(write(cells, tmp_path, title="t"))
    assert "Not measured at the headline (pixels, Linf, eps 8/255), and so in no comparison: no-attacks." in text
    assert "Gini of the input gradient not measured" in text
    marks = re.findall(r'id="(tradeoff-mark-\d)"', (tmp_path / "figures" / "tradeoff.svg").read_text(encoding="utf-8"))
    assert marks == ["tradeoff-mark-0", "tradeoff-mark-1"]


@pytest.mark.usefixtures("undrawn")
def test_a_study_without_a_headline_says_so(make_cell: Make, tmp_path: Path) -> None:
    cell = make_cell("a")
    del cell.config["headline"]
    text = text_of(write([cell], tmp_path, title="t"))
    assert "No cell names a headline evaluation" in text
    assert not (tmp_path / "figures" / "curves.svg").exists()


@pytest.mark.usefixtures("undrawn")
def test_many_cells_are_numbered_and_named_beside_the_figure(make_cell: Make, tmp_path: Path) -> None:
    cells = [make_cell("same", seed=seed, strength=10.0 + 3 * seed) for seed in range(10)]
    page = write(cells, tmp_path, title="t")
    text = text_of(page)
    assert all(f"same · seed {seed}" in text for seed in range(10))
    assert "The intervals of so many cells stand in the tables alone." in text


def test_the_two_protocols_stand_side_by_side_with_the_sentence_that_parts_them(page: Path) -> None:
    text = text_of(page)
    assert "These are different threats" in text
    root = ElementTree.fromstring(page.read_text(encoding="utf-8"))
    grid = next(e for e in root.iter("div") if e.get("aria-label") == "Two protocols")
    (row,) = ([" ".join(cell.itertext()) for cell in row] for row in grid.iter("tr") if row[0].get("scope") == "row")
    # 0.9 (1 - 10 * 6/255) of 20 images survive the paper's attack, 13.8; the deployed network keeps half of those.
    assert row[0] == "max-vanilla"
    assert [entry.split("%")[0].strip() for entry in row[3:6]] == ["70.0", "70.0", "35.0"]
    assert row[2] == "encoded, Linf, 6/255"
    assert row[7] == "pixels, Linf, 8/255"
    assert row[8].startswith("10.0")


def test_an_undefined_measure_is_left_out_of_the_mean_and_counted(page: Path) -> None:
    root = ElementTree.fromstring(page.read_text(encoding="utf-8"))
    label = "Sparsity of the input gradient, batch-norm in eval mode"
    grid = next(e for e in root.iter("div") if e.get("aria-label") == label)
    first = next(row for row in grid.iter("tr") if row[0].get("scope") == "row")
    entries = ["|".join(cell.itertext()) for cell in first]
    # Three images have a zero share of 0.5 and a Gini of 0.75; the fourth is all zero and has no Gini.
    assert entries[:5] == ["max-vanilla", "image", "ce", "4", "62.5\xa0%"]
    assert entries[12] == "0.75|1 undefined"


@pytest.mark.parametrize(
    ("mend", "message"),
    [
        (lambda cell: [], "at least one cell"),
        (lambda cell: [cell, cell], "2 cells with the key"),
        (lambda cell: [replace(cell, attack_rows=cell.attack_rows * 2)], "damaged"),
        (lambda cell: [replace(cell, config={**cell.config, "headline": {"eps": 1}})], "a headline with an evaluation"),
        (
            lambda cell: [replace(cell, config={"headline": {"evaluation": "pixels", "eps": "1/0"}})],
            "a headline with an evaluation",
        ),
    ],
)
def test_what_cannot_be_reported_is_refused(make_cell: Make, tmp_path: Path, mend: Any, message: str) -> None:
    with pytest.raises(SpikeproofError, match=message):
        write(mend(make_cell("a")), tmp_path / "out", title="t")
    assert not (tmp_path / "out" / "report.html").exists()
