"""The deciding numbers of a study's page once more, from the packed files, with numpy and SciPy alone.

`PYTHONPATH=src:tests python -m oracles.trade_off results/defences-digits` prints them beside the page's own.
"""

from __future__ import annotations

import json
import lzma
import re
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

SITES = {"image": 0, "encoded": 1}
FIELDS = {
    "kind", "split", "image", "predicted", "label", "evaluation", "eps", "fooled", "side", "scalar", "batchnorm",
    "order", "site", "summed",
}  # fmt: skip
"""What is read here of a row."""
MEASURES = ("gini", "zero_share", "l1")
"""And of its sums."""


@dataclass
class Network:
    """One file: what tells its configuration, and what was measured of it, image by image."""

    name: str
    seed: int
    unit: str
    rest: str
    pool: str
    robust: dict[int, float]
    clean: dict[int, float]
    gini: dict[int, float]
    zeros: dict[int, float]
    l1: dict[int, float]


def expanded(column: Any, size: int) -> list[Any]:
    if isinstance(column, list):
        return column
    if "all" in column:
        return [column["all"]] * size
    inner = {name: expanded(one, size) for name, one in column["each"].items() if name in MEASURES}
    return [{name: values[n] for name, values in inner.items()} for n in range(size)]


def rows(table: Any) -> list[dict[str, Any]]:
    found = []
    for number, kind in enumerate(table["kinds"]):
        size = sum(count for which, count in table["order"] if which == number)
        columns = {name: expanded(column, size) for name, column in kind.items() if name in FIELDS}
        found += [{name: values[n] for name, values in columns.items()} for n in range(size)]
    return found


def network(path: Path) -> Network:
    tree = json.loads(lzma.decompress(path.read_bytes()))
    config = tree["config"]
    at, eps = config["headline"]["evaluation"], float(Fraction(str(config["headline"]["eps"])))
    robust: dict[int, float] = {}
    clean = {}
    for row in rows(tree["rows"]):
        if row["kind"] == "clean" and row["split"] == "test":
            clean[row["image"]] = float(row["predicted"] == row["label"])
        if row["kind"] == "attack" and row["evaluation"] == at and abs(row["eps"] - eps) < 1e-6:
            stands = row["predicted"] == row["label"] and not row["fooled"]
            robust[row["image"]] = min(robust.get(row["image"], 1.0), float(stands))
    gradients = [
        row for row in rows(tree["gradients"])
        if (row["side"], row["scalar"], row["batchnorm"]) == ("input", "ce", "eval")
    ]  # fmt: skip
    layers = sorted({(row["order"], row["site"]) for row in gradients if row["site"] not in SITES})
    behind = layers[1][1]

    def of(site: str, measure: str) -> dict[int, float]:
        return {row["image"]: row["summed"][measure] for row in gradients if row["site"] == site}

    names, spec = [config["encoder"]["name"]] if config["encoder"]["name"] == "low_pass" else [], config["defence"]
    while spec:
        names, spec = [*names, spec["name"]], spec.get("base")
    rest = {name: value for name, value in config.items() if name not in ("name", "seed", "model")}
    rest["model"] = {name: value for name, value in config["model"].items() if name != "pool"}
    return Network(
        config["name"], config["seed"], " ".join(sorted({*names} - ({"vanilla"} if len(names) > 1 else set()))),
        json.dumps(rest, sort_keys=True), config["model"]["pool"], robust, clean,
        of("image", "gini"), of(behind, "zero_share"), of("image", "l1"),
    )  # fmt: skip


def name_of(path: Path) -> str:
    """Of its cell, from the first bytes of a file."""
    with lzma.open(path) as file:
        return re.findall(rb'"config":{"name":"([^"]*)"', file.read(1000))[0].decode()


def learnt(networks: list[Network]) -> list[Network]:
    best = max(np.mean([*one.clean.values()]) for one in networks)
    return [one for one in networks if np.mean([*one.clean.values()]) >= best / 2]


def partial(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> float:
    table = np.corrcoef(stats.rankdata(np.stack([x, y, z]), axis=1))
    xy, xz, yz = table[0, 1], table[0, 2], table[1, 2]
    return float((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))


def correlations(networks: list[Network], replicates: int) -> dict[str, tuple[float, tuple[float, float], np.ndarray]]:
    """name -> value, Student's interval over seeds, and resamples of whole defences and seeds."""
    seeds = sorted({one.seed for one in networks})
    mean = {name: [[np.mean([*getattr(one, name).values()]) for one in networks if one.seed == s] for s in seeds]
            for name in ("robust", "clean", "gini", "zeros", "l1")}  # fmt: skip
    units = [[one.unit for one in networks if one.seed == s] for s in seeds]

    def statistic(name: str, s: int, chosen: np.ndarray) -> float:
        x, y, z, clean = (np.array(mean[kind][s])[chosen] for kind in (name.split()[1], "robust", "l1", "clean"))
        if name.startswith("clean"):
            return float(np.corrcoef(stats.rankdata(np.stack([x, clean]), axis=1))[0, 1])
        shape = partial(x, y, z)
        return shape if name.startswith("shape") else abs(partial(z, y, x)) - abs(shape)

    generator = np.random.default_rng(11)
    found = {}
    every = sorted(set(units[0]))
    size = len(seeds)
    drawn = [(generator.choice(every, len(every)), generator.integers(0, size, size)) for _ in range(replicates)]
    for name in ("shape gini", "shape zeros", "lead gini", "clean gini"):
        own = [statistic(name, s, np.arange(len(units[s]))) for s in range(len(seeds))]
        interval = stats.ttest_1samp(own, 0.0).confidence_interval(0.95)
        again = [
            np.mean([
                statistic(name, s, np.concatenate([np.flatnonzero(np.array(units[s]) == unit) for unit in some]))
                for s in those
            ])
            for some, those in drawn
        ]  # fmt: skip
        found[name] = float(np.mean(own)), (float(interval.low), float(interval.high)), np.array(again)
    return found


def pools(networks: list[Network]) -> dict[str, tuple[float, tuple[float, float], float]]:
    """Kind -> max less average pool, its interval over seeds and images, and p by flips of the seeds' signs."""
    found = {}
    for kind in ("gini", "zeros", "robust", "clean"):
        at = {(one.rest, one.seed, one.pool): getattr(one, kind) for one in networks}
        rests = sorted(
            {rest for rest, _, pool in at if pool == "max"} & {rest for rest, _, pool in at if pool == "avg"}
        )
        seeds = sorted({seed for _, seed, _ in at})
        images = sorted(set.intersection(*(set(at[r, s, p]) for r in rests for s in seeds for p in ("max", "avg"))))
        table = np.array([
            [np.mean([at[r, s, "max"][i] - at[r, s, "avg"][i] for r in rests]) for i in images] for s in seeds
        ])  # fmt: skip
        errors = [stats.sem(table.mean(1)) ** 2, stats.sem(table.mean(0)) ** 2]
        freedom = sum(errors) ** 2 / sum(e**2 / (n - 1) for e, n in zip(errors, table.shape, strict=True))
        reach = stats.t.isf(0.025, freedom) * np.sqrt(sum(errors))
        test = stats.permutation_test((table.mean(1),), np.mean, permutation_type="samples", n_resamples=np.inf)
        middle = float(table.mean())
        found[kind] = middle, (middle - float(reach), middle + float(reach)), float(test.pvalue)
    return found


if __name__ == "__main__":
    from spikeproof.report._summary import headline_of, summarise
    from spikeproof.report._tradeoff import answer
    from spikeproof.store.packed import packed_cells

    folder = Path(sys.argv[1])
    networks = learnt([network(path) for path in sorted(folder.glob("*.json.xz"))])
    for name, (value, seeds, again) in correlations(networks, 2000).items():
        p = 2 * min(np.mean(again <= 0), np.mean(again >= 0))
        ends = np.round(np.quantile(again, (0.025, 0.975)), 3)
        print(f"{name}: {value:+.4f}, seeds {np.round(seeds, 4)}, units {ends}, p {p:.4f}")
    cells = packed_cells(folder)
    page = answer(summarise(cells, headline_of(cells)))
    for claim in () if page is None else page.claims:
        print(claim.verdict, claim.says, claim.measure, *claim.estimate[:3], claim.p)
