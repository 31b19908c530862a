"""What a summary says of a panel: its verdict, its cascade, and no number where the evaluation does not hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import made

from spikeproof.errors import SpikeproofError
from spikeproof.metrics import robustness

Row = dict[str, Any]
SHARES = ("robust", "survived", "asr_conditional", "asr_all", "deployed")
HEAD = {"evaluation": "panel", "eps": 0.25, "eps_text": "1/4", "tier": "quick"}


def audit(code: str, colour: str = "green", breaks: str = "nothing", **changes: Any) -> Row:
    said = {"name": f"name of {code}", "value": 0.5, "limit": 0.25, "n": 4, "says": "s", "means": "m", "mend": "e"}
    row = {"code": code, "colour": colour, **said, "breaks": breaks, "detail": {}, **HEAD} | changes
    return made("audit", damaged=colour == "amber", **row)


SLACK = audit("D22", breaks="unsettled", detail={"expected": 0.25})


def attack(image: int, name: str, fooled: bool, *, skipped: bool = False, right: bool = True, **changes: Any) -> Row:
    row = {
        **HEAD, "protocol": "panel", "surface": "pixels", "norm": "Linf", "attack": name,
        "group": "first" if name in ("fgsm", "pgd") else "black box", "image": image, "label": 0,
        "predicted": int(not right), "fooled": fooled, "forwards": 0 if skipped else 10, "backwards": 0,
    }  # fmt: skip
    return made("attack", **(row | ({"skipped": True} if skipped else {}) | changes))


def cascade(outcomes: list[tuple[bool, list[bool]]]) -> list[Row]:
    """Per image: is it right when clean, and would each of fgsm, pgd (these see all), spsa and square break it?"""
    rows = []
    for place, name in enumerate(("fgsm", "pgd", "spsa", "square")):
        for image, (right, breaks) in enumerate(outcomes):
            skipped = not right or (place > 1 and any(breaks[:place]))
            rows.append(attack(image, name, skipped or breaks[place], skipped=skipped, right=right))
    return rows


def panel_of(rows: list[Row]) -> dict[str, Any]:
    (found,) = json.loads(json.dumps(robustness.summarise(rows)))["panels"]
    return dict(found)


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.booleans(), min_size=4, max_size=4)), min_size=1, max_size=12
    )
)  # fmt: skip
def test_the_cascade_is_brute_force_and_ends_at_the_worst_case(outcomes: list[tuple[bool, list[bool]]]) -> None:
    rows = [*cascade(outcomes), SLACK]
    panel = panel_of(rows)
    before = sum(right for right, _ in outcomes)
    for place, stage in enumerate(panel["stages"]):
        left = sum(right and not any(breaks[: place + 1]) for right, breaks in outcomes)
        run = sum(right and (place < 2 or not any(breaks[:place])) for right, breaks in outcomes)
        broken = sum(right and breaks[place] and (place < 2 or not any(breaks[:place])) for right, breaks in outcomes)
        assert (stage["left"]["correct"], stage["left"]["total"]) == (left, len(outcomes))
        assert (stage["attacked"], stage["broken"], stage["newly_broken"]) == (run, broken, before - left)
        assert stage["forwards"] == 10 * run
        before = left
    assert panel["stages"][-1]["left"]["correct"] == robustness.robust(rows, "panel", 0.25).correct


def test_a_stage_that_went_on_from_the_survivors_has_no_accuracy_of_its_own() -> None:
    rows = [*cascade([(True, [True, False, False, False]), (True, [False] * 4)]), SLACK]
    (entry,) = robustness.summarise(rows)["evaluations"]
    assert entry["attacks"]["fgsm"]["robust"]["correct"] == 1
    assert entry["attacks"]["pgd"]["robust"]["correct"] == 2
    assert [entry["attacks"][name]["alone"] for name in entry["attacks"]] == [True, True, False, False]
    assert all(entry["attacks"]["square"][name] is None for name in SHARES)
    assert entry["attacks"]["square"]["forwards"] == 10
    assert (entry["verdict"], entry["worst"]["robust"]["correct"]) == ("unsettled", 1)


def test_a_panel_that_is_not_evaluated_has_no_share_after_an_attack() -> None:
    rows = [audit("D13"), *cascade([(True, [False] * 4), (False, [False] * 4)]), audit("D3", "red", "not evaluated")]
    found = robustness.summarise(rows)
    (entry,), (panel,) = found["evaluations"], found["panels"]
    assert (entry["verdict"], panel["verdict"], panel["red"]) == ("not evaluated", "not evaluated", ["D3"])
    for numbers in (entry["worst"], *entry["attacks"].values()):
        assert all(numbers[name] is None for name in SHARES)
        assert numbers["forwards"] > 0
    assert all(stage["left"] is None for stage in panel["stages"])
    assert entry["clean"]["correct"] == 1


def test_a_panel_without_attacks_is_told_with_its_audits() -> None:
    found = robustness.summarise([audit("D13", "red", "not evaluated"), audit("D14"), audit("D9", "not run")])
    (panel,) = found["panels"]
    assert found["evaluations"] == []
    assert not panel["attacked"]
    assert {name: panel[name] for name in HEAD} == HEAD
    assert (panel["red"], panel["green"], panel["absent"], panel["stages"]) == (["D13"], ["D14"], ["D9"], [])
    assert panel["audits"][0]["says"] == "s"


def test_the_three_readings_of_a_panel() -> None:
    """Of eight images seven are right; the plain attack leaves four of them, others break two of these. Three of four
    planted examples are found."""
    stands, early, late = [False] * 4, [False, True, False, False], [False, False, False, True]
    outcomes = [(False, stands), *[(True, stands)] * 2, *[(True, early)] * 3, *[(True, late)] * 2]
    power = audit("D21", breaks="unsettled", value=0.75, n=4)
    panel = panel_of(
        [*cascade(outcomes), power, audit("D22", breaks="unsettled", value=0.5, detail={"expected": 0.25})]
    )
    assert (panel["gap"]["correct"], panel["gap"]["total"]) == (2, 8)
    assert (panel["power"]["correct"], panel["power"]["total"]) == (3, 4)
    assert panel["slack"] == {"expected": 0.25, "high": 0.5}
    bare = panel_of([*cascade(outcomes), audit("D1"), audit("D21", "not run", value=None)])
    assert (bare["gap"]["correct"], bare["power"], bare["slack"]) == (2, None, None)
    withheld = panel_of([*cascade(outcomes), power, audit("D3", "red", "not evaluated")])
    assert (withheld["gap"], withheld["power"], withheld["slack"]) == (None, None, None)


def test_panels_are_listed_by_ascending_eps_and_attacks_without_audits_are_not_evaluated() -> None:
    rows = [audit("D13", eps=0.5, eps_text="1/2"), *cascade([(True, [False] * 4)])]
    assert [(p["eps"], p["verdict"]) for p in robustness.summarise(rows)["panels"]] == [
        (0.25, "not evaluated"), (0.5, "unsettled")
    ]  # fmt: skip


def test_every_reader_of_rows_passes_over_audits() -> None:
    clean = {"kind": "clean", "split": "test", "image": 0, "label": 0, "predicted": 0, "margin": 1.0}
    plain = attack(0, "pgd", False, evaluation="pixels", protocol="pixels")
    rows = [audit("D13"), clean, plain, audit("D14")]
    found = robustness.clean(rows, "test")
    assert found is not None
    assert found.total == 1
    assert [e.evaluation for e in robustness.evaluations(rows)] == ["pixels"]
    assert robustness.robust(rows, "pixels", 0.25).correct == 1
    summary = robustness.summarise(rows)
    assert summary["evaluations"][0]["verdict"] is None
    assert summary["evaluations"][0]["worst"]["robust"]["correct"] == 1
    assert robustness.summarise([clean, plain])["panels"] == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([audit("D13"), audit("D13")], "one row for audit D13 of evaluation panel"),
        ([audit("D13"), audit("D14", tier="smoke")], "one tier for each evaluation and eps"),
        ([audit("D13"), *cascade([(True, [False] * 4)] * 2)[:-1]], "a row of attack square for image 1"),
        ([{k: v for k, v in audit("D13").items() if k != "colour"}], "the field 'colour'"),
        ([audit("D13", "amber")], "a colour of audit D13"),
        ([audit("D13"), {k: v for k, v in attack(0, "pgd", False).items() if k != "group"}], "the field 'group'"),
    ],
)
def test_damaged_rows_of_a_panel_are_refused_by_name(rows: list[Row], message: str) -> None:
    with pytest.raises(SpikeproofError, match=message):
        robustness.summarise(rows)
