"""what a study could decide, before it runs: power by simulation, the seeds it needs, and hours"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._given import study_file
from spikeproof.errors import UsageError

if TYPE_CHECKING:
    from spikeproof.report import planning
    from spikeproof.study.config import CellConfig

_SEEDS = (3, 5, 8, 10, 15)
_WANTED = 0.8


def options(parser: ArgumentParser) -> None:
    parser.add_argument("file", help="a study's YAML, or a shipped one")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where finished cells tell what one costs")
    parser.add_argument("--trials", type=int, default=60, help="simulated studies for each number")


def run(options: Namespace) -> int:
    if options.trials < 1:
        raise UsageError("trials >= 1", options.trials)
    file = study_file(options.file)
    from spikeproof.report import planning
    from spikeproof.study.config import load_study

    study = load_study(file)
    cells = study.cells()
    images = max((_judged(cell) for cell in cells), default=0)
    of = planning.layout([cell.resolved() for cell in cells], images)
    print(planning.told(of, len(cells)))
    for line in planning.obstacles(of):
        print(line)
    _correlations(of, options.trials)
    _pairs(of, options.trials)
    print(_hours([cell.name for cell in cells], options.out))
    return 0


def _correlations(of: planning.Layout, trials: int) -> None:
    """Power at three sizes with the seeds that the study has."""
    if not of.ranked or of.seeds < 3:
        return
    from spikeproof.report import planning

    power = {rho: planning.power_of_correlation(of, rho, seeds=of.seeds, trials=trials) for rho in (0.3, 0.5, 0.7)}
    told = [f"{chance:.0%} at {rho}" for rho, chance in power.items()]
    print(f"a partial correlation is decided with a chance of {', '.join(told)}")


def _judged(cell: CellConfig) -> int:
    """Images at the headline, which decides the claims; 0 for all of them."""
    at = None if cell.headline is None else cell.headline.evaluation
    specs = [spec for spec in cell.evaluations if at in (None, spec.name)]
    return max((spec.images or cell.test_images or 0 for spec in specs), default=0)


def _pairs(of: planning.Layout, trials: int) -> None:
    """Power at three sizes, and the least seeds at which it is high enough."""
    if len(of.pairs) < 2:
        return
    from spikeproof.report import planning

    images = of.images or 200
    for difference in (0.03, 0.05, 0.1):
        found = {
            seeds: planning.power_of_pairs(of, difference, seeds=seeds, images=images, trials=trials)
            for seeds in sorted({*_SEEDS, max(3, of.seeds)})
        }
        own = found.get(of.seeds, 0.0)
        least = next((f"{seeds} seeds" for seeds, power in found.items() if power >= _WANTED), "more than 15 seeds")
        print(
            f"a difference of {100 * difference:.0f} points between pools is decided with a chance of {own:.0%}; "
            f"{_WANTED:.0%} takes {least}"
        )


def _hours(names: list[str], out: Path) -> str:
    """What the study takes, by what its finished cells took."""
    from spikeproof.store.store import Store

    took = [
        (cell.provenance.get("train_seconds") or 0.0) + (cell.provenance.get("evaluate_seconds") or 0.0)
        for cell in (Store(out).cells() if out.is_dir() else [])
        if cell.config.get("name") in names
    ]
    if not took:
        return f"hours: unknown, for no cell of this study is finished in {out}"
    hours = len(names) * sum(took) / len(took) / 3600
    return f"hours: {hours:.1f} for {len(names)} cells one after another, by the {len(took)} that are finished in {out}"
