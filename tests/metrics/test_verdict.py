"""The verdict is a stated rule over the audits' colours and what a red one breaks, and over nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import made

from spikeproof import parts
from spikeproof.errors import SpikeproofError
from spikeproof.evaluation.audits import Audit
from spikeproof.metrics.verdict import NOT_EVALUATED, SUPPORTED, UNSETTLED, verdict_of


def audit(code: str, colour: str, breaks: str = "nothing") -> dict[str, Any]:
    return made("audit", damaged=colour not in ("green", "red", "not run"), code=code, colour=colour, breaks=breaks)


GREEN, RED, FATAL = audit("D1", "green"), audit("D2", "red"), audit("D3", "red", NOT_EVALUATED)
ABSENT = audit("D18", "not run", NOT_EVALUATED)
POWER, SLACK = audit("D21", "green", UNSETTLED), audit("D22", "green", UNSETTLED)
WEAK, LOOSE = audit("D21", "red", UNSETTLED), audit("D22", "red", UNSETTLED)
UNTESTED = audit("D21", "not run", UNSETTLED)


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([], NOT_EVALUATED),
        ([ABSENT], NOT_EVALUATED),
        ([GREEN], UNSETTLED),
        ([POWER, SLACK], SUPPORTED),
        ([GREEN, POWER, SLACK, ABSENT], SUPPORTED),
        ([RED, POWER, SLACK], SUPPORTED),
        ([WEAK, SLACK], UNSETTLED),
        ([SLACK], UNSETTLED),
        ([POWER], UNSETTLED),
        ([POWER, LOOSE], UNSETTLED),
        ([GREEN, UNTESTED, SLACK], UNSETTLED),
        ([RED, ABSENT], UNSETTLED),
        ([FATAL], NOT_EVALUATED),
        ([POWER, SLACK, FATAL], NOT_EVALUATED),
        ([POWER, SLACK, audit("D13", "green", NOT_EVALUATED)], SUPPORTED),
        ([POWER, SLACK, audit("attacks", "red", UNSETTLED)], UNSETTLED),
        ([POWER, SLACK, audit("attacks", "not run")], SUPPORTED),
    ],
)
def test_the_word_by_cases(rows: list[dict[str, Any]], word: str) -> None:
    assert verdict_of(rows).word == word


AUDITS = st.lists(
    st.builds(
        audit,
        st.sampled_from(["D1", "D2", "D21", "D22", "D3"]),
        st.sampled_from(["green", "red", "not run"]),
        st.sampled_from(["nothing", UNSETTLED, NOT_EVALUATED]),
    ),
    max_size=12,
)


@given(rows=AUDITS, others=st.integers(0, 3))
def test_the_word_follows_the_rule_and_every_code_is_told_once(rows: list[dict[str, Any]], others: int) -> None:
    found = verdict_of([*rows, *[made("attack")] * others])
    red = [row["breaks"] for row in rows if row["colour"] == "red"]
    green = {row["code"] for row in rows if row["colour"] == "green"}
    ran = any(row["colour"] != "not run" for row in rows)
    if not ran or NOT_EVALUATED in red:
        assert found.word == NOT_EVALUATED
    else:
        assert found.word == (SUPPORTED if {"D21", "D22"} <= green and UNSETTLED not in red else UNSETTLED)
    assert sorted([*found.red, *found.green, *found.absent]) == sorted(row["code"] for row in rows)


@given(rows=AUDITS, more=AUDITS)
def test_one_more_red_audit_never_makes_a_verdict_better(rows: list[Any], more: list[Any]) -> None:
    order = (SUPPORTED, UNSETTLED, NOT_EVALUATED)
    red = [row for row in more if row["colour"] == "red"]
    if verdict_of(rows).green:
        assert order.index(verdict_of([*rows, *red]).word) >= order.index(verdict_of(rows).word)


def test_a_colour_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SpikeproofError, match=r"a colour of audit D1, got 'amber'; valid: red, green, not run"):
        verdict_of([audit("D1", "amber")])


def test_the_verdict_says_what_was_red_and_what_was_not_run() -> None:
    assert str(verdict_of([GREEN, RED, ABSENT])) == "unsettled (red: D2; not run: D18)"
    assert str(verdict_of([POWER, SLACK])) == "supported (no audit is red)"


@pytest.mark.parametrize("name", parts.names("audits"))
def test_every_audit_says_what_a_red_one_breaks_in_words_that_the_rule_knows(name: str) -> None:
    found = parts.build("audits", {"name": name})
    assert isinstance(found, Audit)
    assert found.breaks in ("nothing", UNSETTLED, NOT_EVALUATED)
    assert (found.breaks == UNSETTLED) == (name in ("power", "slack"))
