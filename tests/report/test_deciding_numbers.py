"""The numbers that decide, on the packed rows, against a second implementation with numpy and SciPy alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracles import trade_off
from packed import RESULTS, study
from scipy.stats import binomtest

from spikeproof.report import _pairs, _tradeoff
from spikeproof.report._same_images import same_images_table
from spikeproof.report._summary import Summary, headline_of, summarise
from spikeproof.store.packed import PackedCell

KINDS = {"image gini": "gini", "stem zero_share": "zeros", "robust": "robust", "clean": "clean"}
NAMES = {
    ("Sparser gradients go with robustness, at fixed scale", "Gini at the input"): "shape gini",
    ("Sparser gradients go with robustness, at fixed scale", "zero share behind the first layer"): "shape zeros",
    ("It is the gradient's scale rather than its shape that goes with robustness", "Gini at the input"): "lead gini",
    ("Denser gradients go with clean test accuracy", "Gini at the input"): "clean gini",
}


def summaries(paths: list[Path]) -> list[Summary]:
    cells = [PackedCell(path) for path in paths]
    return summarise(cells, headline_of(cells))


def answers(summarised: list[Summary]) -> _tradeoff.Answers:
    found = _tradeoff.answer(summarised)
    assert found is not None
    return found


def test_pools_in_pairs() -> None:
    paths = sorted((RESULTS / "pooling-digits").glob("*.json.xz"))
    networks = [trade_off.network(path) for path in paths]
    page = answers(study("pooling-digits").found)
    pairs = {pair.kind: pair for pair in page.pairs if pair.group is None}
    for kind, (value, interval, p) in trade_off.pools(networks).items():
        pair = pairs[next(name for name, own in KINDS.items() if own == kind)]
        assert pair.estimate.value == pytest.approx(value)
        assert pair.estimate.over_seeds == pytest.approx(interval)
        assert pair.flips is not None
        assert pair.flips.p == pytest.approx(p)
    verdicts = {claim.says: claim.verdict for claim in page.claims if claim.says.startswith("Max pooling")}
    assert verdicts == {  # section 9 of the results: ten seeds can, five could not
        "Max pooling is sparser than average pooling": "supported",
        "Max pooling is more robust than average pooling": "contradicted",
        "Max pooling is less accurate on clean inputs than average pooling": "undecided",
    }
    assert set(_pairs.KINDS) == set(KINDS)


def test_two_networks_of_one_seed() -> None:
    """Section 10 of the results: of 100 images the average pool alone keeps 12, and the max pool alone none."""
    paths = sorted((RESULTS / "paper-cifar10-short").glob("*.json.xz"))
    by_name = {one.name: one for one in map(trade_off.network, paths)}
    one, other = by_name["sew-18-avg"], by_name["sew-18-max"]
    apart = [one.robust[image] - other.robust[image] for image in one.robust]
    first, second = sum(d > 0 for d in apart), sum(d < 0 for d in apart)
    assert (first, second) == (12, 0)
    found = study("paper-cifar10-short").found
    table = same_images_table(found)
    assert table is not None
    (row,) = (
        row for row in table.rows
        if row[2].main == "worst case" and {row[0].main, row[1].main} == {"sew-18-avg", "sew-18-max"}
    )  # fmt: skip
    counts = {row[0].main: row[4].main, row[1].main: row[5].main}
    assert counts == {"sew-18-avg": "12", "sew-18-max": "0"}
    assert row[6].small == f"{binomtest(first, first + second).pvalue:.2g} alone"
    open_ = {cell.label for cell in found if cell.bound}
    for one in table.rows:
        may_fall = [name for name in (one[0].main, one[1].main) if name in open_]
        said = f"unsettled: {' and '.join(may_fall)} may fall yet" if may_fall and one[2].main == "worst case" else ""
        assert one[2].caution == said
    assert open_


def test_correlations_over_defences() -> None:
    """Two values of each of eight defences, three seeds; the whole study is compared by the oracle's own command."""
    wanted = (
        "adversarial-eps-0.1", "adversarial-eps-0.15", "trades-1.0", "trades-6.0", "mart-1.0", "mart-6.0", "sr-0.001",
        "sr-0.01", "tgo-0.3", "tgo-1.0", "rat-0.125", "rat-0.06", "dsd-0.4", "dsd-0.8", "noise-0.1", "noise-0.2",
    )  # fmt: skip
    every = {trade_off.name_of(path): path for path in sorted((RESULTS / "defences-digits").glob("*.json.xz"))}
    paths = [every[f"{name}-s{seed}"] for name in wanted for seed in (0, 1, 2)]
    networks = trade_off.learnt([trade_off.network(path) for path in paths])
    own = trade_off.correlations(networks, 150)
    page = answers(summaries(paths))
    claims = {NAMES[key]: claim for claim in page.claims if (key := (claim.says, claim.measure)) in NAMES}
    assert set(claims) == set(own)
    for name, (value, interval, again) in own.items():
        found = claims[name].estimate
        assert found.value == pytest.approx(value, abs=1e-9)
        assert found.over_seeds == pytest.approx(np.clip(interval, -1, 1), abs=1e-9)
        if found.over_units is not None:
            assert found.over_units == pytest.approx(np.quantile(again, (0.025, 0.975)), abs=0.12)
