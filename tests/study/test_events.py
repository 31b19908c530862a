"""A study of events from its configuration to its page; and configurations that mix images and events, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tinycell import tiny

from spikeproof import report
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.store.store import Store
from spikeproof.study.config import cell_from
from spikeproof.study.run import Machine, run_cell

EVENTS = {"data": {"name": "digits_events", "frames": 3}, "encoder": {"name": "frames"}, "steps": 3}
FLIPS = {"norm": "flips", "surface": "events", "eps": [3]}
TOP = {"top": {"name": "top_events", "steps": 2}}


def test_a_cell_flips_events_and_its_page_says_so(tmp_path: Path) -> None:
    cell = cell_from(
        tiny(
            **EVENTS,
            train_images=30,
            test_images=6,
            gradients={"images": 2, "weight_images": 1, "batch_size": 2},
            recipe={"epochs": 1, "batch_size": 8, "lr": 0.01, "validation_share": 0.2},
            evaluations=[
                {"name": "panel", "protocol": "panel", "tier": "smoke", "images": 4, **FLIPS},
                {"name": "own", "attacks": TOP, "images": 4, **FLIPS},
                {"name": "ball", "norm": "linf", "eps": [0.1], "images": 4, "attacks": {"fgsm": {"name": "fgsm"}}},
            ],
        )
    )
    assert [one.surface for one in cell.evaluations] == ["events", "events", "relaxed"]
    done = run_cell(cell, Store(tmp_path), Machine(progress=False))
    rows = [row for row in done.rows() if row["kind"] == "attack"]
    assert {(row["evaluation"], row["surface"], row["norm"]) for row in rows} == {
        ("panel", "events", "flips"), ("own", "events", "flips"), ("ball", "relaxed", "Linf"),
    }  # fmt: skip
    assert {row["distance"] for row in rows if row["evaluation"] != "ball"} <= {0.0, 1.0, 2.0, 3.0}
    assert {row["size"] for row in done.gradients() if row["site"] == "image"} == {3 * 2 * 16 * 16}
    page = report.write([done], tmp_path / "page", title="Events").read_text(encoding="utf-8")
    assert "events, flips, 3.0" in page
    assert "relaxed, Linf, 0.1" in page
    for word in ("by: time", "frames: 3", "binary: true"):  # of the configuration that stands on the page
        assert word in page


@pytest.mark.parametrize(
    ("changes", "path", "told"),
    [
        ({"evaluations": [{"attacks": TOP, **FLIPS}]}, "surface", r"a surface of images.*'events'.*encoder to frames"),
        ({**EVENTS, "evaluations": [{"surface": "pixels"}]}, "surface", r"a surface of frames.*relaxed"),
        ({**EVENTS, "evaluations": [FLIPS]}, "fgsm", r"a ball.*got flips.*top_events"),
        ({**EVENTS, "evaluations": [{**FLIPS, "eps": [0.5], "attacks": TOP}]}, "", r"whole number of events"),
        ({**EVENTS, "evaluations": [{**FLIPS, "surface": "counts", "attacks": TOP}]}, "", r"surface to 'events'"),
        ({**EVENTS, "evaluations": [{"attacks": TOP}]}, "top", r"whole events for top events.*got Linf"),
        ({"data": {"name": "digits_events", "frames": 0}}, "frames", r"1\.\.10000"),
        ({**EVENTS, "theory": {"images": 2}}, "theory", r"theory\.images 0 for frames.*leave it out"),
        ({**EVENTS, "generalisation": {"corruption_images": 2}}, "corruption_images", r"0 for frames of events"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(changes: dict[str, Any], path: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as refused:
        cell_from(tiny(**changes))
    assert path in map(str, refused.value.path) or not path


def test_frames_that_are_not_the_steps_are_refused_with_both_ways_to_mend(tmp_path: Path) -> None:
    cell = cell_from(tiny(**{**EVENTS, "steps": 4}, evaluations=[{"attacks": TOP, **FLIPS}]))
    with pytest.raises(SpikeproofError, match=r"frame for each step.*steps: 3, or data\.frames: 4"):
        run_cell(cell, Store(tmp_path), Machine(progress=False))
