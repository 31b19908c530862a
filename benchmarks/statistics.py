"""How often the intervals of a page hold the truth, how often its verdicts are false, and how often they find what is
there: `python -m benchmarks.statistics [--trials N] [--only coverage|nulls|power]`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from spikeproof.metrics.association import associations
from spikeproof.metrics.multiple import LEVEL, holm
from spikeproof.metrics.paired import crossed, flips
from spikeproof.metrics.resampling import Bounds, Estimate, Floats, draws, student
from spikeproof.report import planning

FAMILIES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "normal": lambda generator, shape: generator.normal(size=shape),
    "uniform": lambda generator, shape: (generator.random(shape) - 0.5) * 12**0.5,
    "Beta(1/2, 1/2)": lambda generator, shape: (generator.beta(0.5, 0.5, shape) - 0.5) * 8**0.5,
    "two points": lambda generator, shape: generator.choice([-1.0, 1.0], shape),
}
"""Luck of the seeds, with a standard deviation of 1."""


def coverage(trials: int) -> None:
    """Student's interval of the seeds' means, with nothing else and with shared images, and the crossed one: where
    images matter, and where they do not."""
    print(
        "| luck of a seed, an image | seeds | family | Student, no images | Student, shared images | seeds and images |"
    )
    for luck_of_seeds, luck_of_images in ((0.03, planning.SPREAD["image"]), (0.05, 0.0)):
        for seeds in (3, 5, 10):
            for name, luck in FAMILIES.items():
                generator = np.random.default_rng(seeds)
                held = np.zeros(3)
                for _ in range(trials):
                    plain = luck(generator, (seeds, 1))
                    noise = planning.SPREAD["rest"] * generator.normal(size=(seeds, 200))
                    table = luck_of_seeds * plain + luck_of_images * generator.normal(size=(1, 200)) + noise
                    found = student(plain[:, 0]), student(table.mean(1)), crossed(table)
                    held += [_holds(bounds) for bounds in found]
                told = " | ".join(f"{100 * share:.1f}" for share in held / trials)
                print(f"| {luck_of_seeds}, {luck_of_images} | {seeds} | {name} | {told} |", flush=True)


def _holds(bounds: Bounds | None) -> bool:
    return bounds is not None and bounds.low <= 0 <= bounds.high


def grid(units: int, each: int) -> planning.Layout:
    """`units` defences with `each` values of their knob, three seeds, one architecture, two pairs of pools."""
    names = tuple(f"defence {n // each}" for n in range(units * each))
    return planning.Layout(np.zeros(units * each, dtype=np.int64), names, "defences", (0, 0), 3, 200, True)


def nulls(trials: int) -> None:
    """Pages on which nothing goes with anything, two measures and five outcomes: how many have any verdict."""
    print("| defences | values of a knob | seeds | pages with a false verdict, % | ... without Holm, % |")
    for units, each, seeds in ((8, 2, 3), (16, 5, 3), (19, 4, 5), (16, 5, 10)):
        false = sum((np.array(page(grid(units, each), seeds, trial)) for trial in range(trials)), np.zeros(2))
        print(
            f"| {units} | {each} | {seeds} | {100 * false[0] / trials:.1f} | {100 * false[1] / trials:.1f} |",
            flush=True,
        )


def page(of: planning.Layout, seeds: int, trial: int) -> tuple[bool, bool]:
    """Whether any of 12 correlations and a claim on pools has a verdict; and without the correction."""
    generator = np.random.default_rng(trial)
    x, outcomes, z = planning.tables(of, 0.0, generator, seeds=seeds, outcomes=5)
    other = planning.tables(of, 0.0, generator, seeds=seeds)[0]
    drawn = draws(list(of.units), of.strata, seeds, replicates=planning.REPLICATES, seed=trial)
    found = associations({0: x, 1: other}, dict(enumerate(outcomes)), z, of.strata, drawn)
    asked = [one.plain if outcome else one.shape for (_, outcome), one in found.items()]
    asked += [one.lead for (_, outcome), one in found.items() if not outcome]
    luck = 0.02 * generator.normal(size=(seeds, 1)) + 0.15 * generator.normal(size=(1, 200))
    table = luck + 0.3 * generator.normal(size=(seeds, 200))
    bounds, signs = crossed(table), flips(table.mean(1))
    p = [signs.p, *(1.0 if one.tail is None else one.tail.p for one in asked)]
    sides = [bounds is not None and bounds.side != 0, *map(_apart, asked)]
    return any(s and c <= LEVEL for s, c in zip(sides, holm(p), strict=True)), any(
        s and one <= LEVEL for s, one in zip(sides, p, strict=True)
    )


def _apart(found: Estimate) -> bool:
    """Whether both intervals lie on one side of 0."""
    sides = [bounds.side for bounds in (found.over_seeds, found.over_units) if bounds is not None]
    return sides in ([1, 1], [-1, -1])


def power(trials: int) -> None:
    """Of correlations by defences, and of pairs by seeds."""
    print("| defences x values, seeds | 0.3 | 0.5 | 0.7 | 0.9 |")
    for units, each, seeds in ((8, 2, 3), (16, 5, 3), (19, 4, 5), (16, 5, 10), (30, 2, 3)):
        of = grid(units, each)
        told = [planning.power_of_correlation(of, rho, seeds=seeds, trials=trials) for rho in (0.3, 0.5, 0.7, 0.9)]
        print(f"| {units} x {each}, {seeds} | " + " | ".join(f"{100 * share:.0f}" for share in told) + " |", flush=True)
    print("| pairs, architectures, seeds, images | 2 points | 3 | 5 | 10 |")
    for pairs, seeds, images in (((0, 0), 5, 200), ((0, 0), 8, 200), ((0, 0), 10, 200), ((0, 1, 2), 3, 1000)):
        of = grid(1, 1)._replace(pairs=pairs, ranked=False)
        told = [
            planning.power_of_pairs(of, size, seeds=seeds, images=images, trials=trials)
            for size in (0.02, 0.03, 0.05, 0.1)
        ]
        row = f"{len(pairs)}, {len(set(pairs))}, {seeds}, {images}"
        print(f"| {row} | " + " | ".join(f"{100 * share:.0f}" for share in told) + " |", flush=True)


PARTS = {"coverage": coverage, "nulls": nulls, "power": power}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    for name, part in PARTS.items():
        if given.only in (None, name):
            print(f"\n{name}, {given.trials} trials")
            part(given.trials)
