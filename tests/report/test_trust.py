"""Panels on the page: the banner, the section, and no number where the evaluation does not hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from spikeproof.metrics.robustness import summarise
from spikeproof.report import _reading, write
from spikeproof.report import _summary as summaries

Make = Callable[..., Any]
IMAGES = 37
"""No other number of a page looks like a share of so many."""

PERCENT = re.compile("[0-9.]+\u00a0%")


@pytest.fixture(scope="module")
def panel(panel_of: Make) -> Make:
    """Red codes, and what differs -> the rows of one panel over 37 images."""
    return lambda *red, **changes: panel_of(red, **{"images": IMAGES, **changes})


def tree(page: Path) -> ElementTree.Element:
    return ElementTree.fromstring(page.read_text(encoding="utf-8"))


def words(element: ElementTree.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def banners(page: Path) -> list[str]:
    return [words(e) for e in tree(page).iter("div") if "banner" in e.get("class", "").split()]


def details(page: Path) -> list[ElementTree.Element]:
    return [e for e in tree(page).iter("details") if e.get("class") == "panel"]


def grid(page: Path, label: str) -> list[list[str]]:
    table = next(e for e in tree(page).iter("div") if e.get("aria-label") == label)
    return [[words(cell) for cell in row] for row in table.iter("tr") if row[0].get("scope") == "row"]


def shown(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def after_attacks(rows: list[dict[str, Any]]) -> set[str]:
    """Every share, as the page writes it, that the same attacks would have if no audit were red."""
    honest = [{**row, "colour": "green"} if row["kind"] == "audit" else row for row in rows]
    found = summarise(honest)
    numbers = [n for e in found["evaluations"] for n in (e["worst"], *e["attacks"].values())]
    shares = [n[name] for n in numbers for name in ("robust", "asr_conditional", "asr_all") if n[name] is not None]
    shares += [stage["left"] for one in found["panels"] for stage in one["stages"]]
    return {shown(share["share"]) for share in shares}


@pytest.mark.parametrize(
    ("red", "expected"),
    [
        ((), []),
        (("D22",), ["unsettled The attacks may miss"]),
        (("D3",), ["not evaluated The evaluation itself does not hold"]),
        (("D22", "D3"), ["not evaluated The evaluation itself does not hold"]),
        (("D13",), ["not evaluated The evaluation itself does not hold"]),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_a_banner_stands_exactly_where_a_verdict_is_not_supported(
    make_panel_cell: Make, panel: Make, tmp_path: Path, red: tuple[str, ...], expected: list[str]
) -> None:
    page = write([make_panel_cell("a", panel(*red), gradients=False)], tmp_path, title="t")
    found = banners(page)
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))
    if red:
        assert "a: panel, eps 0.15 . Red: " in found[0]
        assert ("No attack was run." in found[0]) == ("D13" in red)
    raw = page.read_text(encoding="utf-8")
    assert raw.index("<h1>") < (raw.index('class="banner') if red else len(raw))


@pytest.mark.usefixtures("undrawn")
def test_a_banner_names_every_red_audit_and_joins_the_budgets_that_came_out_alike(
    make_panel_cell: Make, panel: Make, tmp_path: Path
) -> None:
    rows = [panel("D22", "D9"), panel("D22", "D9", text="0.3"), panel("D22", text="0.6"), panel("D18", text="0.9")]
    found = banners(write([make_panel_cell("a", *rows, gradients=False)], tmp_path, title="t"))
    assert "a: panel, eps 0.9 . Red: D18 positive control." in found[0]
    assert "a: panel, eps 0.15, 0.3 . Red: D9 transfer, D22 slack." in found[1]
    assert "a: panel, eps 0.6 . Red: D22 slack." in found[1]


def test_a_panel_that_no_audit_spoke_of_is_not_evaluated(make_panel_cell: Make, panel: Make, tmp_path: Path) -> None:
    rows = [row for row in panel() if row["kind"] == "attack"]
    page = write([make_panel_cell("a", rows, gradients=False)], tmp_path, title="t")
    assert "No audit was run." in banners(page)[0]


@pytest.mark.parametrize(("red", "kept"), [("D3", 1), ("D18", 11)])
@pytest.mark.usefixtures("undrawn")
def test_no_number_of_a_panel_that_is_not_evaluated_is_anywhere(
    make_panel_cell: Make, panel: Make, tmp_path: Path, red: str, kept: int
) -> None:
    bad, good = panel(red, kept=kept), panel(kept=kept)
    bare: dict[str, Any] = {"gradients": False, "images": IMAGES, "paper": True}
    supported = make_panel_cell("a", good, **bare)
    seen = write([supported], tmp_path / "good", title="t").read_text(encoding="utf-8")
    # The clean shares, and what the paper's own protocol found, are no numbers of the panel; 20 % is a convention.
    others = summarise(row for row in supported.attack_rows if row.get("evaluation") != "panel")
    told = [*others["clean"].values(), *others["evaluations"][0]["worst"].values()]
    allowed = {shown(share["share"]) for share in told if isinstance(share, dict)} | {shown(0.2)}
    forbidden = after_attacks(bad) - allowed
    assert len(forbidden) > 5
    assert all(number in seen for number in forbidden)

    cell = replace(make_panel_cell("a", bad, **bare), epochs=[])
    page = write([cell], tmp_path / "bad", title="t")
    raw = page.read_text(encoding="utf-8")
    assert not [number for number in forbidden if number in raw]
    assert set(PERCENT.findall(raw)) <= allowed
    assert not (page.parent / "figures" / "tradeoff.svg").exists()
    assert not (page.parent / "figures" / "curves.svg").exists()
    (row,) = grid(page, "The verdict on every panel")
    assert row[5:8] == ["not evaluated"] * 3
    (row,) = grid(page, "All cells")
    assert row[4:8] == ["not evaluated"] * 4  # the worst case, FGSM, PGD-20, the area
    assert all(row[2] == "not evaluated" for row in grid(page, "Cascade of a: panel, eps 0.15"))
    (row,) = grid(page, "Two protocols")
    assert row[8] == "not evaluated"
    found = [row for row in grid(page, "Every evaluation of a") if row[0] == "panel"]
    assert [row[3] for row in found] == ["fgsm", "pgd-20", "worst case"]
    assert all(row[5:8] == ["not evaluated"] * 3 for row in found)


@pytest.mark.usefixtures("undrawn")
def test_an_unsettled_number_is_an_upper_bound_wherever_it_stands(
    make_panel_cell: Make, panel: Make, tmp_path: Path
) -> None:
    cells = [
        make_panel_cell("blind", panel("D22", kept=20), panel("D22", text="0.3", kept=3), images=IMAGES, paper=True),
        make_panel_cell("honest", panel(kept=9), panel(text="0.3", kept=2), images=IMAGES),
    ]
    page = write(cells, tmp_path, title="t")
    bound = f"≤ {shown(20 / 37)} [36.9, 70.5] unsettled: an upper bound"
    blind, honest = grid(page, "All cells")
    assert blind[4] == bound.replace("\u00a0", " ")
    assert blind[7].startswith("≤ 0.")
    assert "≤" not in "".join(honest)
    assert grid(page, "Two protocols")[0][8] == blind[4]
    evaluations = grid(page, "Every evaluation of blind")
    assert next(row[5] for row in evaluations if row[0] == "panel" and row[3] == "worst case") == blind[4]
    last = grid(page, "Cascade of blind: panel, eps 0.15")[-1]
    assert last[2] == "≤ 54.1 % 20 of 37 [36.9, 70.5] unsettled: an upper bound"
    (row, *_) = grid(page, "The verdict on every panel")
    assert row[5] == blind[4]
    assert row[6].startswith("≥ 41.2 %")
    assert row[7].startswith("≥ 45.9 %")
    text = words(tree(page))
    assert "The highest worst-case robust accuracy is that of blind, at most 54.1 %" in text
    assert "blind: clean test accuracy 91.9 % [78.1, 98.3], worst-case robust accuracy at most 54.1 %" in text
    assert "Unsettled, so an upper bound: blind." in text
    assert "Hollow: unsettled: an upper bound." in text


def test_cells_that_were_not_evaluated_are_in_no_comparison(make_panel_cell: Make, panel: Make) -> None:
    def read(*cells: Any) -> tuple[str, str]:
        headline = summaries.headline_of(cells)
        found = summaries.summarise(cells, headline)
        return " ".join(_reading.read(found, headline)), " ".join(_reading.warnings(found, headline))

    fine = [make_panel_cell(f"c{n}", panel(kept=3 + n), sparsity=0.1 * n) for n in range(5)]
    for n, cell in enumerate(fine):  # the plain PGD alone breaks what the whole panel does
        for row in cell.attack_rows:
            if row.get("attack") == "pgd-20":
                row["fooled"] = row["image"] >= 3 + n
    void, late = make_panel_cell("void", panel("D3", kept=30)), make_panel_cell("late", panel("D14"))
    reading, warnings = read(*fine, void, late)
    assert "Every vanilla cell that could be evaluated is broken" in reading
    assert "is that of c4," in reading
    assert "Over the 5 cells that have both, a sparser" in reading
    assert "Not evaluated at the headline (panel, Linf, eps 0.15)" in warnings
    assert "in no comparison and no figure: void and late." in warnings
    assert "Not measured" not in warnings
    reading, _ = read(void, late)
    assert reading == "No cell has a number at the headline (panel, Linf, eps 0.15): see what was not evaluated."
    reading, _ = read(void, make_panel_cell("at", panel(), defence="adversarial"))
    assert "No vanilla cell could be evaluated at eps 0.15" in reading


def test_unsettled_cells_are_left_out_of_the_correlation(make_panel_cell: Make, panel: Make) -> None:
    cells = [make_panel_cell(f"c{n}", panel(kept=3 + n), sparsity=0.1 * n) for n in range(5)]
    cells.append(make_panel_cell("blind", panel("D22", kept=20), sparsity=0.01))
    headline = summaries.headline_of(cells)
    reading = " ".join(_reading.read(summaries.summarise(cells, headline), headline))
    assert "Over the 5 cells that have both, less the 1 whose robust accuracy is unsettled" in reading
    assert "Spearman's rho 1.00" in reading


def test_a_curve_has_a_hole_where_a_budget_was_not_evaluated(make_panel_cell: Make, panel: Make) -> None:
    cell = make_panel_cell("a", panel(), panel("D3", text="0.3"), panel("D22", text="0.6", kept=1))
    (found,) = summaries.summarise([cell], summaries.headline_of([cell]))
    assert found.curve is not None
    assert [point is None for point in found.curve.points] == [False, False, True, False]
    assert found.curve.bounds == (False, False, False, True)
    assert found.curve.area is None
    cell = make_panel_cell("a", panel(), panel("D13", text="0.3"))  # no attack was run there
    (found,) = summaries.summarise([cell], summaries.headline_of([cell]))
    assert found.curve is not None
    assert found.curve.area is None


@pytest.mark.usefixtures("undrawn")
def test_the_section_tells_every_panel_in_full(make_panel_cell: Make, panel: Make, tmp_path: Path) -> None:
    cells = [make_panel_cell("a", panel("D22", absent=("D9", "D18")), panel("D14", text="0.3"), gradients=False)]
    page = write(cells, tmp_path, title="t")
    first, second = details(page)
    assert [row[:2] for row in grid(page, "Cascade of a: panel, eps 0.15")][-2:] == [
        ["from other", "transfer"], ["square-500", "black box"]
    ]  # fmt: skip
    assert grid(page, "Cascade of a: panel, eps 0.15")[0][2:] == [
        "51.4 % 19 of 37 [34.4, 68.1]", "34", "15", "15", "714", "680"
    ]  # fmt: skip
    assert "D22 slack : slack: said by D22. what a red D22 means. To mend: the mend of D22." in words(first)
    absent = "Not run: D9 transfer: transfer: said by D9 D18 positive control: positive control: said by D18"
    assert absent in words(first)
    audits = grid(page, "Audits of a: panel, eps 0.15")
    assert [row[0] for row in audits] == ["D13", "D14", "D1", "D2", "D3", "D6d", "D21", "D22"]
    assert audits[7][2:] == ["red", "0.25", "0.01", "20", "slack: said by D22"]
    assert "No attack was run" in words(second)
    assert "tier quick" in words(second)
    text = words(tree(page))
    for name in ("A₀ : images", "Aᵣ , the robust accuracy", "ASR_cond = (A₀", "ASR_all = 1"):
        assert name in text


@pytest.mark.usefixtures("undrawn")
def test_a_colour_is_always_a_word_too(make_panel_cell: Make, panel: Make, tmp_path: Path) -> None:
    page = write([make_panel_cell("a", panel("D22"), panel("D3", text="0.3"))], tmp_path, title="t")
    said = {"good": {"green", "supported"}, "warn": {"unsettled"}, "bad": {"red", "not evaluated"}}
    for element in tree(page).iter():
        if element.tag in ("td", "strong") and (tone := element.get("class")) in said:
            assert words(element) in said[str(tone)]


@pytest.mark.usefixtures("undrawn")
def test_panels_are_unfolded_where_they_are_few_and_not_supported(
    make_panel_cell: Make, panel: Make, tmp_path: Path
) -> None:
    page = write([make_panel_cell("a", panel("D22"), panel(text="0.3"), gradients=False)], tmp_path, title="t")
    assert [e.get("open") for e in details(page)] == ["open", None]
    many = [make_panel_cell(f"c{n}", panel("D22"), gradients=False) for n in range(4)]
    assert {e.get("open") for e in details(write(many, tmp_path, title="t"))} == {None}


@pytest.fixture(scope="module")
def mixed(make_panel_cell: Make, panel: Make) -> list[Any]:
    return [
        make_panel_cell("<i>&", panel("D22", "D3"), panel("D22", text="0.3"), images=IMAGES, attacks=True, paper=True),
        make_panel_cell("b", panel(), images=IMAGES),
        make_panel_cell("c", panel("D13")),
    ]


def test_a_page_with_panels_is_whole(mixed: list[Any], tmp_path: Path) -> None:
    page = write(mixed, tmp_path / "one", title="t")
    raw = page.read_text(encoding="utf-8")
    ids = [e.attrib["id"] for e in tree(page).iter() if "id" in e.attrib]
    used = re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', raw)
    assert len(ids) == len(set(ids))
    assert set(used) <= set(ids)
    assert {"panel-0-0", "panel-0-1", "panel-2-0"} <= set(used)
    assert raw.count("<script") == 1
    assert "<i>" not in raw
    assert "<i>&: panel, eps 0.15" in words(tree(page))
    assert raw == write(mixed, tmp_path / "two", title="t").read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_a_page_without_a_panel_has_nothing_of_this(make_cell: Make, tmp_path: Path) -> None:
    raw = write([make_cell("a")], tmp_path, title="t").read_text(encoding="utf-8")
    assert "banner" not in raw
    assert "trusted" not in raw
    assert "panel-" not in raw


@pytest.mark.usefixtures("undrawn")
def test_audits_that_reach_a_page_are_escaped(make_panel_cell: Make, panel: Make, tmp_path: Path) -> None:
    said = {name: f"<u>{name}</u>" for name in ("name", "says", "means", "mend")}
    rows = [{**row, **said} if row["kind"] == "audit" else row for row in panel("D22")]
    raw = write([make_panel_cell("a", rows, gradients=False)], tmp_path, title="t").read_text(encoding="utf-8")
    assert "<u>" not in raw
    assert all(f"&lt;u&gt;{name}&lt;/u&gt;" in raw for name in said)
