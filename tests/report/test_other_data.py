"""Cells of one network whose events were binned in two ways: told apart everywhere, and the difference is named."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

from spikeproof.report._configurations import configurations_table
from spikeproof.report._data import by_data, data_name, data_words
from spikeproof.report._design import design
from spikeproof.report._reading import read, warnings
from spikeproof.report._same_images import same_images_table
from spikeproof.report._summary import Headline, Summary, headline_of, summarise
from spikeproof.report.cite import cited


def facts(values: str) -> dict[str, Any]:
    binning = {"frames": 5, "by": "number", "sensor": [34, 34], "cells": [17, 17]}
    return {"name": "N-MNIST", "samples": 100, "whole": 1000, "a_class": [10, 10], "shape": [5, 2, 17, 17],
            "values": values, "binning": binning}  # fmt: skip


@pytest.fixture
def binned(make_cell: Callable[..., Any]) -> Callable[..., Any]:
    def make(name: str, binary: bool, accuracy: float, **others: Any) -> Any:
        made = make_cell(name, accuracy=accuracy, strength=5.0, **others)
        made.config["data"] = {
            "name": "nmnist",
            "root": f"/at/{name[0]}",
            "frames": 5,
            "by": "number",
            "binary": binary,
        }
        values = "binary" if binary else "counts"
        made.provenance.update({"data": {"test": values}, "samples": {"test": facts(values)}})
        return made

    return make


def summaries(cells: list[Any]) -> list[Summary]:
    return summarise(cells, headline_of(cells))


def headline(cells: list[Summary]) -> Headline:
    found = cells[0].headline
    assert found is not None
    return Headline(found["evaluation"], found["eps"])


@pytest.fixture
def mixed(binned: Callable[..., Any]) -> list[Summary]:
    return summaries([
        binned("a", True, 0.9, pool="max"), binned("b", True, 0.8, pool="avg"),
        binned("c", False, 0.95, pool="max"), binned("d", False, 0.7, pool="avg"),
    ])  # fmt: skip


def test_a_warning_names_the_difference_and_no_sentence_ranks_across_it(
    mixed: list[Summary], binned: Callable[..., Any]
) -> None:
    said = warnings(mixed, headline(mixed))[0]
    assert "binary: True and False" in said
    assert "root" not in said
    assert "/at/" not in said
    sentences = read(mixed, headline(mixed))
    highest = [sentence for sentence in sentences if "The highest" in sentence]
    assert len(highest) == 2
    assert all(sentence.startswith("On nmnist (frames 5, by number, ") for sentence in highest)
    alike = summaries([binned("a", True, 0.9), binned("b", True, 0.8)])
    assert not any("do not see the same data" in one for one in warnings(alike, headline(alike)))


def test_ranks_are_taken_apart_and_pairs_on_the_same_images_are_of_one_binning(mixed: list[Summary]) -> None:
    grid = design(mixed)
    assert [*map(len, by_data(mixed))] == [2, 2]
    assert len(grid.architectures) == 2
    assert {"not binary" in name for name in grid.architectures} == {True, False}
    # One seed's networks begin with the same weights over both binnings: no two independent signs.
    assert len({one.start for one in grid.configurations}) == 1
    table = same_images_table(mixed)
    assert table is not None
    assert {(row[0].main, row[1].main) for row in table.rows} == {("a", "b"), ("c", "d")}


def test_differences_from_the_undefended_one_are_of_one_binning(binned: Callable[..., Any]) -> None:
    cells = [
        binned(f"{name}-s{seed}", binary, accuracy, seed=seed, defence=defence)
        for seed in (0, 1)
        for name, binary, accuracy, defence in (("a", True, 0.9, "vanilla"), ("b", True, 0.8, "sr"),
                                                ("c", False, 0.7, "sr"))
    ]  # fmt: skip
    found = configurations_table(summaries(cells))
    assert found is not None
    centre, table = found
    assert centre == "a"
    place = [name for name, _ in table.columns].index("input l1 over that of a, mean of ratios")
    told = {row[0].main: row[place].main for row in table.rows}
    assert told["b"] == "1"
    assert told["c"] == "not measured"


def test_lines_and_methods_say_binning_and_subset(binned: Callable[..., Any]) -> None:
    found = cited([binned("a", False, 0.9)], header=True)
    (line,) = csv.DictReader(io.StringIO(found["table.csv"]))
    assert (line["test_samples"], line["test_samples_whole"], line["values"]) == ("100", "1000", "counts")
    assert (line["steps"], line["framed_by"], line["cells"], line["sensor"]) == ("5", "number", "17x17", "34x34")
    assert "nmnist (frames 5, by number, not binary)" in found["table.tex"]
    assert "100 of 1,000 test samples, 10 a class" in found["methods.txt"]


def test_a_cell_of_an_older_version_says_that_nothing_is_recorded(make_cell: Callable[..., Any]) -> None:
    old = make_cell("old")
    assert "samples" not in old.provenance
    (summary,) = summaries([old])
    assert data_words(summary) == ["samples and binning: not recorded"]
    assert data_name(summary) == "digits"
    (line,) = csv.DictReader(io.StringIO(cited([old], header=True)["table.csv"]))
    assert line["values"] == line["test_samples"] == ""
