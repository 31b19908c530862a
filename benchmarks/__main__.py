"""`python -m benchmarks`: every measurement, `benchmarks/results.json` and the table in `docs/performance.md`.

With `--device cuda` the same on a GPU, into `benchmarks/results-gpu.json` and a table of its own on that page.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from benchmarks.jobs import EPS
from benchmarks.page import ROOT, processor, written

MARKS = {
    "cpu": ("<!-- made by make bench -->", "<!-- end -->"),
    "cuda": ("<!-- made by make bench-gpu -->", "<!-- end of the GPU's -->"),
}

PEERS = ("spikingjelly", "paper", "snntorch", "norse", "norse_folded")
NAMES = {
    "spikeproof": "spikeproof",
    "plain": "spikeproof, fast paths off",
    "floor": "convolutions alone, the better layout of each",
    "spikingjelly": "SpikingJelly 2",
    "spikingjelly_torch": "SpikingJelly 2, its kernels off",
    "paper": "the paper's procedure",
    "snntorch": "snnTorch 1",
    "norse": "Norse 1.1, cells",
    "norse_folded": "Norse 1.1, sequence modules",
    "torchattacks": "torchattacks on SpikingJelly 2",
}

REST = 0.03
"""Seconds between two turns: threads of the contender before may look for work for some milliseconds yet."""


@dataclass(frozen=True)
class Measurement:
    """Contenders that take turns at one job. memory: whether the peak of each is measured too; busy: how many other
    processes keep a core each, where they can."""

    name: str
    kind: str
    work: str
    batch: int
    contenders: Sequence[str]
    steps: int = 10
    memory: bool = False
    busy: int = 0


def measurements(device: str) -> list[Measurement]:
    gradient: tuple[str, ...] = ("spikeproof", "plain", "floor", *PEERS)
    if device == "cuda":
        gradient += ("spikingjelly_torch",)
    pgd, two = ("spikeproof", "torchattacks"), ("spikeproof", "spikingjelly")
    found = [
        Measurement("W1.input_gradient", "input_gradient", "W1", 16, gradient),
        Measurement("W1.input_gradient.b64", "input_gradient", "W1", 64, ("plain", *two), memory=True),
        Measurement("W1.input_gradient.b10", "input_gradient", "W1", 10, two),
        Measurement("W2.input_gradient.b64", "input_gradient", "W2", 64, two),
        Measurement("W2.input_gradient.b10", "input_gradient", "W2", 10, two),
        Measurement("W1.pgd20", "pgd20", "W1", 16, pgd),
        Measurement("W1.pgd20_survivors", "pgd20_survivors", "W1", 16, pgd),
        Measurement("W2.pgd20", "pgd20", "W2", 64, pgd),
        Measurement("W2.pgd20_survivors", "pgd20_survivors", "W2", 64, pgd),
        Measurement("W1.training_step", "training_step", "W1", 16, two),
        Measurement("W2.quick", "quick", "W2", 64, ("spikeproof",)),
        *(Measurement(f"W2.hard.b{batch}", "hard", "W2", batch, ("spikeproof",)) for batch in (10, 64)),
    ]
    for busy in (1, 2) if device == "cpu" else ():
        name = f"W1.input_gradient.busy{busy}"
        found.append(Measurement(name, "input_gradient", "W1", 16, two, busy=busy))
    for steps in (4, 10, 20, 50):
        found.append(Measurement(f"growth.T{steps}", "input_gradient", "W1", 16, two, steps, memory=True))
    for batch in (4, 32) if device == "cpu" else (256, 1024):
        found.append(Measurement(f"growth.B{batch}", "input_gradient", "W1", batch, two, memory=True))
    return found


class _Worker:
    """A contender's process, which waits on its standard input."""

    def __init__(self, contender: str, one: Measurement, threads: int, device: str) -> None:
        kind = one.kind.removesuffix("_survivors") if contender == "torchattacks" else one.kind
        own = {"plain": "spikeproof", "spikingjelly_torch": "spikingjelly"}.get(contender, contender)
        given = (own, kind, one.work, one.batch, one.steps, threads, device)
        switches = {"SPIKEPROOF_FAST": "0" if contender == "plain" else "1"}
        if contender == "spikingjelly_torch":  # else it takes its kernels in CUDA, or Triton's, wherever they run
            switches["SJ_IF_CUDA_IMPLEMENTATION"] = "torch"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *map(str, given)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **switches},
        )  # fmt: skip
        self._first: float | None = None

    @property
    def first(self) -> float:
        """Seconds until the first run was done; waits for it."""
        if self._first is None:
            (self._first,) = self._answer()
        return self._first

    def _answer(self) -> list[float]:
        assert self._process.stdout is not None
        return [float(word) for word in self._process.stdout.readline().split()]

    def ask(self, word: str) -> list[float]:
        """Seconds of one run; or MB at the peak, of tensors and resident."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.communicate()


def measure(one: Measurement, rounds: int, threads: int, device: str) -> dict[str, Any]:
    """Medians and all times in ms of each contender, its first run in s, and its peak memory in MB where asked for."""
    workers = {}
    for name in one.contenders:
        workers[name] = _Worker(name, one, threads, device)
        if device == "cpu":  # a GPU's contenders get ready side by side: an expensive machine waits for imports
            assert workers[name].first
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(one.busy)]
    try:
        firsts = {name: round(worker.first, 2) for name, worker in workers.items()}
        times: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                time.sleep(REST)
                times[name].append(1e3 * worker.ask("run")[0])
        peaks = {name: worker.ask("memory") for name, worker in workers.items()} if one.memory else {}
    finally:
        for neighbour in beside:
            neighbour.kill()
            neighbour.wait()
        for worker in workers.values():
            worker.close()
    return {
        "batch": one.batch,
        "steps": one.steps,
        "busy": one.busy,
        "median_ms": {name: round(statistics.median(found), 2) for name, found in times.items()},
        "times_ms": {name: [round(t, 2) for t in found] for name, found in times.items()},
        "first_run_s": firsts,
        "peak_mb": {name: round(tensors, 1) for name, (tensors, _) in peaks.items()},
        "resident_mb": {name: round(resident, 1) for name, (_, resident) in peaks.items()},
    }


def ratios(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """A peer's time over ours, so that larger is better; the floor the other way round; memory ours over theirs."""

    def over(name: str, peer: str) -> float:
        median = found[name]["median_ms"]
        return float(median[peer] / median["spikeproof"])

    told = {f"W1.input_gradient.vs_{peer}": over("W1.input_gradient", peer) for peer in PEERS}
    told["W1.input_gradient.vs_plain"] = over("W1.input_gradient", "plain")
    told["W1.input_gradient.over_floor"] = 1 / over("W1.input_gradient", "floor")
    told["W1.input_gradient.b64.vs_spikingjelly"] = over("W1.input_gradient.b64", "spikingjelly")
    for name in found:
        if found[name].get("busy"):
            told[f"{name}.vs_spikingjelly"] = over(name, "spikingjelly")
    for work in ("W1", "W2"):  # of an image among the last ten, over that of one among the first 64
        kinds = {"input_gradient": "last_ten", **({"hard": "last_ten_of_quick"} if work == "W2" else {})}
        for kind, name in kinds.items():
            few, many = (found[f"{work}.{kind}.b{b}"]["median_ms"]["spikeproof"] / b for b in (10, 64))
            told[f"{work}.{name}.over_first"] = few / many
        for kind in ("pgd20", "pgd20_survivors"):
            told[f"{work}.{kind}.vs_torchattacks"] = over(f"{work}.{kind}", "torchattacks")
    told["W1.training_step.vs_spikingjelly"] = over("W1.training_step", "spikingjelly")
    for name, what in (("W1.peak_memory", "peak_mb"), ("W1.peak_resident", "resident_mb")):
        peak = found["W1.input_gradient.b64"][what]
        told[f"{name}.vs_spikingjelly"] = peak["spikeproof"] / peak["spikingjelly"]
    slopes = {name: _slope(found, name) for name in ("spikeproof", "spikingjelly")}
    told["W1.memory_slope_in_T.vs_spikingjelly"] = slopes["spikeproof"] / slopes["spikingjelly"]
    return {name: round(ratio, 3) for name, ratio in told.items()}


def _slope(found: dict[str, dict[str, Any]], contender: str) -> float:
    """MB a step, between the fewest and the most steps."""
    few, many = found["growth.T4"], found["growth.T50"]
    return float(many["peak_mb"][contender] - few["peak_mb"][contender]) / (many["steps"] - few["steps"])


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    told, found, about = results["ratios"], results["measurements"], results["about"]
    lines = [
        f"`{about['command']}`, {about['date']}: {about['machine']}, torch {about['torch']}, "
        f"{about['threads']} threads, medians of {about['rounds']} rounds in which the contenders take turns, each in "
        "a process of its own. The same weights for all, seed 0: W1 untrained, W2 trained on digits for three epochs.",
        "",
        "| measurement | " + "contender | median ms | over spikeproof | first run, s | peak MB: tensors, resident |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in found.items():
        ours = one["median_ms"]["spikeproof"]
        for contender, median in one["median_ms"].items():
            beside = f", beside {one['busy']} busy processes" if one.get("busy") else ""
            label = f"{name} (B = {one['batch']}, T = {one['steps']}{beside})" if contender == "spikeproof" else ""
            peak = ", ".join(str(one[what][contender]) for what in ("peak_mb", "resident_mb") if one[what])
            ratio = "1" if contender == "spikeproof" else f"{median / ours:.2f}"
            first = f"{one['first_run_s'][contender]:.1f}"
            lines.append(f"| {label} | {NAMES[contender]} | {median:.1f} | {ratio} | {first} | {peak} |")
    lines += ["", "| ratio | |", "| --- | --- |", *(f"| {name} | {ratio:.2f} |" for name, ratio in told.items())]
    eps = ", ".join(f"{work} {value:.4g}" for work, value in EPS.items())
    quick = found["W2.quick"]
    speed = 1000 * quick["batch"] / quick["median_ms"]["spikeproof"]
    lines += [
        "",
        f"PGD-20 at eps {eps} (L-inf), labels the network's own answers. The tier `quick` on W2: {speed:.1f} images a "
        f"second. The scan in C is built once a machine, in {about['build_s']:.1f} s, and cached.",
    ]
    return "\n".join(lines)


def _build_seconds() -> float:
    """What building the scan in C takes, into an empty cache; a process that finds it there pays nothing of this."""
    code = (
        "from time import perf_counter as now; from spikeproof import native; t = now(); native.available(); "
        "print(now() - t)"
    )
    with tempfile.TemporaryDirectory() as empty:
        where = {**os.environ, "XDG_CACHE_HOME": empty}
        told = subprocess.run([sys.executable, "-c", code], env=where, capture_output=True, text=True, check=True)
    return float(told.stdout)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 2))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", default="", help="measurements whose name begins so, printed and not written")
    options = parser.parse_args(None if arguments is None else list(arguments))
    gpu, card = options.device == "cuda", "no GPU"
    if gpu:
        import torch  # here, because the parent of a CPU's contenders needs none of its memory

        if not torch.cuda.is_available():
            parser.error("--device cuda needs a GPU that torch sees")
        card = torch.cuda.get_device_name()
    found = {}
    for one in measurements(options.device):
        if one.name.startswith(options.only):
            print(f"{one.name} ...", file=sys.stderr, flush=True)
            found[one.name] = measure(one, options.rounds, options.threads, options.device)
            print(json.dumps({k: found[one.name][k] for k in ("median_ms", "peak_mb")}), file=sys.stderr, flush=True)
    if options.only:
        return
    packages = ("torch", "spikingjelly", "snntorch", "norse", "torchattacks")
    results = {
        "about": {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "command": "make bench-gpu" if gpu else "make bench",
            "machine": f"{processor()}, {os.cpu_count()} cores, {card}",
            "threads": options.threads,
            "rounds": options.rounds,
            "build_s": round(_build_seconds(), 2),
            **{name: version(name) for name in packages},
        },
        "ratios": ratios(found),
        "measurements": found,
    }
    where = ROOT / "benchmarks" / ("results-gpu.json" if gpu else "results.json")
    where.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    written(table(results), MARKS[options.device])
    print(table(results))


if __name__ == "__main__":
    main()
