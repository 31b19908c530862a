"""Published budgets are evaluations that a configuration takes."""

from __future__ import annotations

import pytest
from tinycell import tiny

from spikeproof.errors import UsageError
from spikeproof.study.config import cell_from
from spikeproof.study.published import PUBLISHED, published

EVENTS = {"data": {"name": "digits_events", "frames": 3}, "encoder": {"name": "frames"}, "steps": 3}


def test_every_one_is_taken_and_says_whose_it_is() -> None:
    """Its attack is played on a toy where a configuration is read, so that options and threats fit."""
    cell = cell_from(tiny(**EVENTS, evaluations=[published(name, images=4) for name in PUBLISHED]))
    assert [(one.name, one.norm, [float(eps) for eps in one.eps]) for one in cell.evaluations] == [
        (name, one.norm, [float(eps) for eps in one.eps]) for name, one in PUBLISHED.items()
    ]
    assert {one.surface for one in cell.evaluations} == {"events"}
    assert all(one.source and one.of for one in PUBLISHED.values())


def test_a_name_that_is_none_is_told_the_others() -> None:
    with pytest.raises(UsageError, match=r"published budgets, got 'sda'; valid: .*sda-cifar10dvs"):
        published("sda")
