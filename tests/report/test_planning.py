"""What a study can decide is said before it runs; simulated pages on which nothing goes with anything say nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks import statistics

from spikeproof import commands
from spikeproof.commands._given import study_file
from spikeproof.report import planning
from spikeproof.study.config import load_study


def layout(name: str, seeds: list[int] | None = None, tmp_path: Path | None = None) -> planning.Layout:
    text = study_file(name).read_text(encoding="utf-8")
    if seeds is None or tmp_path is None:
        return planning.layout([cell.resolved() for cell in load_study(study_file(name)).cells()], 200)
    changed = tmp_path / "changed.yaml"
    changed.write_text(
        "\n".join(line for line in text.splitlines() if not line.startswith("seeds:")) + f"\nseeds: {seeds}\n"
    )
    return planning.layout([cell.resolved() for cell in load_study(changed).cells()], 200)


def test_a_layout_is_that_of_the_page(tmp_path: Path) -> None:
    pools = layout("pooling-digits")
    assert (len(pools.units), pools.pairs, pools.seeds, pools.ranked) == (4, (0, 0), 10, False)
    assert not pools.hopeless
    assert layout("pooling-digits", list(range(5)), tmp_path).hopeless
    defences = layout("defences-digits")
    assert (len(set(defences.units)), defences.unit, defences.seeds, defences.ranked) == (21, "defences", 5, True)
    assert not defences.hopeless
    assert defences.claims == 12  # one pair of pools alone is not counted


def test_the_reasons_are_those_that_hold(tmp_path: Path) -> None:
    few, pools = planning.obstacles(layout("pooling-digits", list(range(5)), tmp_path))
    assert few == "no correlation can be decided: 4 configurations, and fewer than 6 are not resampled"
    assert pools.endswith("have a p of 0.062 at least, and the first of 4 claims needs 0.013: 8 seeds")
    assert planning.obstacles(layout("pooling-digits", list(range(8)), tmp_path)) == [few]
    (paper,) = planning.obstacles(layout("paper-cifar10"))
    assert paper == "1 of the 3 seeds that an interval needs: no claim can be decided"
    (correlations,) = planning.obstacles(layout("paper-cifar10", [0, 1, 2], tmp_path))
    assert "9 configurations in 6 architectures" in correlations  # its pools, depth by depth, can be decided


def test_power_grows_with_seeds_and_with_the_difference() -> None:
    of = statistics.grid(1, 1)._replace(ranked=False)
    power = [planning.power_of_pairs(of, 0.1, seeds=seeds, images=100, trials=20) for seeds in (5, 8)]
    assert power[0] == 0.0  # 2^-4 is more than any of four claims may have
    assert power[1] > 0.8
    assert planning.power_of_pairs(of, 0.0, seeds=8, images=100, trials=40) <= 0.05


def test_a_strong_correlation_is_found_and_none_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "REPLICATES", 1000)
    of = statistics.grid(16, 2)
    assert planning.power_of_correlation(of, 0.95, seeds=3, trials=6) > 0.5
    assert planning.power_of_correlation(of, 0.0, seeds=3, trials=6) == 0.0


def test_pages_without_an_effect_have_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """15 pages of 13 claims each, clustered by defences: at most 2 with any, where 0.75 are the most expected; the
    benchmark has more of them, and what they would be without correction."""
    monkeypatch.setattr(planning, "REPLICATES", 1000)
    of = statistics.grid(8, 2)
    told = np.array([statistics.page(of, 3, trial) for trial in range(15)])
    assert told[:, 0].sum() <= 2


def test_the_verb(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert commands.main(["plan", "pooling-digits", "--trials", "4", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("40 cells: 4 configurations, 10 seeds, 200 attacked images\nno correlation can be decided")
    assert "hours: unknown, for no cell of this study is finished" in out
    assert commands.main(["plan", "pooling-digits", "--trials", "0"]) == 2
