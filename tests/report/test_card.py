"""The card beside a network: what its panels say, and no number where the evaluation does not hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from spikeproof.metrics.robustness import summarise
from spikeproof.store.card import card

Make = Callable[..., Any]


def card_of(cell: Any) -> str:
    config = {**cell.config, "neuron": {"name": "if"}, "encoder": {"name": "direct"}, "steps": 4, "weights": None}
    return card(config, {"results": summarise(cell.rows()), "provenance": cell.provenance})


def test_a_card_without_a_panel_has_no_verdict(make_cell: Make) -> None:
    text = card_of(make_cell("a"))
    assert "| pixels | pixels | pixels | Linf | 8/255 | 10.0 % (95 % interval 1.2 to 31.7, n = 20) |" in text
    assert "trusted" not in text


def test_a_panel_stands_with_its_verdict(make_panel_cell: Make, panel_of: Make) -> None:
    rows = [panel_of(), panel_of(("D22",), text="0.3"), panel_of(("D3",), text="0.6"), panel_of(("D13",), text="0.9")]
    text = card_of(make_panel_cell("a", *rows))
    found = [line for line in text.splitlines() if line.startswith("| panel")]
    assert found == [
        "| panel | panel | pixels | Linf | 0.15 | 35.0 % (95 % interval 15.4 to 59.2, n = 20) |",
        "| panel | panel | pixels | Linf | 0.3 | at most 35.0 % (95 % interval 15.4 to 59.2, n = 20), unsettled |",
        "| panel | panel | pixels | Linf | 0.6 | not evaluated |",
        "| panel | panel | - | - | 0.9 | not evaluated |",
    ]
    assert "- panel, eps 0.15, tier quick: **supported** (not run: D18 positive control)." in text
    assert "**unsettled** (red: D22 slack; not run: D18 positive control)." in text
    assert "- panel, eps 0.9, tier quick: **not evaluated** (red: D13 determinism; no attack was run)." in text


def test_a_card_of_a_panel_that_is_not_evaluated_has_no_number_but_the_clean_ones(
    make_panel_cell: Make, panel_of: Make
) -> None:
    text = card_of(make_panel_cell("a", panel_of(("D3",))))
    assert re.findall(r"[\d.]+ %", text) == ["90.0 %", "95 %"]  # the clean accuracy and the level of its interval
