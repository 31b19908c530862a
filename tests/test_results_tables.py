"""The tables of the results that are means over seeds are what the packed rows give."""

from __future__ import annotations

from statistics import fmean

import pytest
from benchmarks import tables
from oracles import trade_off


def test_the_tables_are_of_the_rows() -> None:
    text = tables.RESULTS.read_text(encoding="utf-8")
    assert len(tables.MARKED.findall(text)) >= 1
    assert tables.again(text) == text


def test_a_table_of_other_numbers_is_made_again() -> None:
    text = tables.RESULTS.read_text(encoding="utf-8")
    marked = tables.MARKED.search(text)
    assert marked is not None
    spoilt = marked[0].replace("1", "7")
    assert spoilt != marked[0]
    assert tables.again(text.replace(marked[0], spoilt)) == text


@pytest.mark.parametrize(
    ("value", "text"), [(9.95, "10.0"), (52.65, "52.6"), (97.05, "97.0"), (2.25, "2.2"), (0.1 + 0.2, "0.3")]
)
def test_a_half_is_rounded_once_to_the_even_digit(value: float, text: str) -> None:
    assert tables.rounded(value) == text
    assert tables.rounded(value + 1e-13) == tables.rounded(value - 1e-13) == text


def test_the_measures_are_the_rows_own() -> None:
    """Each against the second reading of the packed rows, image by image, which knows nothing of summaries."""
    folder = tables.ROOT / "results" / "pooling-digits"
    found = {(one.name, one.seed): one for one in tables.networks(folder)}
    for path in sorted(folder.glob("*.json.xz"))[::9]:
        own = trade_off.network(path)
        one = found[own.name.removesuffix(f"-s{own.seed}"), own.seed]
        for measure, values, scale in (
            (tables.worst(one.headline[1]), own.robust, 100),
            (tables.CLEAN, own.clean, 100),
            (tables.BEHIND, own.zeros, 100),
            (lambda one: one.gradient("image")["gini"], own.gini, 1),
            (lambda one: one.gradient("image")["l1"], own.l1, 1),
        ):
            assert measure(one) == pytest.approx(scale * fmean(values.values()), abs=1e-6 * scale)


def test_defences_in_the_order_of_their_knobs() -> None:
    names = ("sr-0.01", "sr-0.003", "adversarial+sr-0.01", "vanilla", "adversarial-random", "adversarial-eps-0.1",
             "adversarial-eps-0.05", "adversarial+dlif")  # fmt: skip
    found = tables.families(names)
    assert next(iter(found)) == "vanilla"
    assert [*found["sr"]] == ["0.003", "0.01"]
    assert [*found["adversarial-eps"].values()] == ["adversarial-eps-0.05", "adversarial-eps-0.1"]
    assert [*found][-2:] == ["adversarial+dlif", "adversarial+sr"]
    assert sorted(name for every in found.values() for name in every.values()) == sorted(names)
