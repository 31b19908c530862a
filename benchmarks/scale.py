"""What grows with a study, and by how much: `python -m benchmarks.scale [--only grid|rows|page] [--small]`.

Seconds are of the processor, in the command and all that it starts, and MB the most that its process held; so another
job beside it changes little. `grid`: a grid of so many cells planned, shown and started again, without a finished cell
and with all of them (copies of one that was made, under the keys and seals of the others). `rows`: one cell of so many
rows of attacks, closed, read, summed up and packed. `page`: `report` of so many packed cells, those of
results/defences-digits under other seeds and keys. Linux.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from spikeproof.files import digest
from spikeproof.metrics import robustness
from spikeproof.store.packed import pack
from spikeproof.store.store import Cell, Draft, key_of
from spikeproof.store.summary import sealed

__all__: list[str] = []

RESULTS = Path(__file__).parents[1] / "results" / "defences-digits"


_WATCHED = """
import atexit, runpy, sys
from pathlib import Path
out, *sys.argv = sys.argv[1:]
atexit.register(lambda: Path(out).write_text(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]))
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Writes what the process held at most, in kB. What `wait4` tells of it is never less than what its parent held."""


def spent(*words: object) -> tuple[float, float]:
    """Seconds of the processor and MB at most of `python -m WORDS`, which must succeed."""
    with tempfile.TemporaryFile() as said, tempfile.NamedTemporaryFile("r") as most:
        command = [sys.executable, "-c", _WATCHED, most.name, *map(str, words)]
        process = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(said.read().decode(errors="replace"))
        return used.ru_utime + used.ru_stime, int(most.read()) / 1000


def told(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def head(*titles: str) -> None:
    told(*titles)
    told(*["---"] * len(titles))


# --- a grid of many cells ---


def grid(sizes: tuple[int, ...], root: Path) -> None:
    head("cells", "planned, s", "status, none finished, s", "status, all finished, s", "started again, all finished, s")
    for size in sizes:
        folder, file = root / f"grid-{size}", root / f"grid-{size}.yaml"
        base = {
            "data": {"name": "digits"}, "train_images": 60, "test_images": 20, "steps": 2,
            "model": {"name": "small_sew_resnet", "width": 2}, "recipe": {"epochs": 1, "batch_size": 32},
            "gradients": {"images": 2, "weight_images": 1},
            "evaluations": [{"name": "pixels", "eps": [0.1], "attacks": {"fgsm": {"name": "fgsm"}}, "images": 10}],
        }  # fmt: skip
        # As grids are: up to a hundred seeds of each configuration.
        rates = {f"rate-{n}": {"recipe.lr": 0.001 + n / 10_000} for n in range(max(1, size // 100))}
        axes = {"rate": rates}
        file.write_text(
            yaml.safe_dump({"title": "scale", "base": base, "axes": axes, "seeds": list(range(min(size, 100)))})
        )
        words = ("spikeproof", "study", file, "--out", folder, "--threads", 1, "--quiet")
        planned, _ = spent(*words, "--plan")
        status = ("spikeproof", "status", file, "--out", folder)
        none, _ = spent(*status)
        finish(folder, root / "made")
        every, _ = spent(*status)
        again, _ = spent(*words, "--plan")
        told(size, *(f"{seconds:.1f}" for seconds in (planned, none, every, again)))


def finish(folder: Path, made: Path) -> None:
    """Copies of one finished cell for every cell that is planned."""
    called = json.loads((folder / "plan.json").read_bytes())["cells"]
    if not made.is_dir():
        from spikeproof.store.store import Store
        from spikeproof.study.config import load_study
        from spikeproof.study.run import Machine, run_cell

        study = load_study(folder.with_suffix(".yaml"))
        run_cell(study.cells()[0], Store(made), Machine(progress=False))
    (source,) = (Cell(path.name, path) for path in made.glob("cells/*") if "." not in path.name)
    for number, (name, key, _, _) in enumerate(called):
        new = folder / "cells" / key
        new.mkdir(parents=True)
        for path in source.folder.iterdir():
            if path.name not in ("config.yaml", "summary.json"):
                os.link(path, new / path.name)
        config = {**source.config, "name": name, "seed": number}
        (new / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        files = {**source.summary["files"], "config.yaml": digest(new / "config.yaml")}
        rest = {field: value for field, value in source.summary.items() if field not in ("key", "files", "seal")}
        (new / "summary.json").write_bytes(sealed({"key": key, **rest, "files": files}))


# --- a cell of many rows ---


def rows(sizes: tuple[int, ...], root: Path) -> None:
    head("rows", "rows.jsonl, MB", "closed, s", "MB", "read and summed up, s", "MB", "packed, s", "MB")
    for size in sizes:
        folder = root / f"rows-{size}"
        spent("benchmarks.scale", "--step", f"grow:{size}:{folder}")
        steps = [spent("benchmarks.scale", "--step", f"{step}:{size}:{folder}") for step in ("close", "read", "pack")]
        idle = spent("benchmarks.scale", "--step", f"idle:{size}:{folder}")
        each = (f"{value:.{digits}f}" for seconds, most in steps
                for value, digits in ((seconds - idle[0], 1), (most - idle[1], 0)))  # fmt: skip
        told(size, f"{(folder / 'cell.partial' / 'rows.jsonl').stat().st_size / 1e6:.0f}", *each)


def attacked(size: int) -> Iterator[dict[str, Any]]:
    """Rows as a panel on 10,000 images has them, in its batches."""
    for number in range(size):
        attack, image = divmod(number, 10_000)
        yield {
            "kind": "attack", "evaluation": "panel", "protocol": "panel", "surface": "pixels", "norm": "linf",
            "eps": 0.05, "eps_text": "0.05", "attack": f"attack {attack}", "tier": "audit", "group": "white box",
            "image": image, "label": image % 10, "predicted": image % 10, "attacked": number % 7 % 10,
            "fooled": number % 7 % 10 != image % 10, "distance": round(number % 997 / 997, 6),
            "margin": round(number % 991 / 991, 6), "forwards": 21, "backwards": 20,
        }  # fmt: skip


def step(name: str, size: int, folder: Path) -> None:
    """One step of `rows`, in a process of its own."""
    partial = folder / "cell.partial"
    if name == "idle":
        return
    if name == "grow":
        partial.mkdir(parents=True)
    draft = Draft("cell", partial)
    if name == "grow":
        batch: list[Any] = []
        for row in attacked(size):
            batch.append(row)
            if len(batch) == 1000:
                draft.append("rows", batch)
                batch = []
    if name == "close":
        draft.close("rows", size // 1000)
        for stage in ("gradients", "history"):
            draft.write_stage(stage, [])
    if name == "read":
        robustness.summarise(Cell("cell", partial).rows())
    if name == "pack":
        (partial / "config.yaml").write_text("{name: cell}\n")
        (partial / "summary.json").write_bytes(sealed({"key": "cell", "provenance": {}, "results": {}, "files": {}}))
        pack([Cell("cell", partial)], folder)


# --- a page of many cells ---


def page(sizes: tuple[int, ...], root: Path) -> None:
    head("packed cells", "report, s", "MB", "page, MB", "beside it, MB")
    for size in sizes:
        folder = root / f"page-{size}"
        copies(folder, size)
        seconds, most = spent("spikeproof", "report", folder)
        beside = sum(path.stat().st_size for path in (folder / "report-files").glob("*"))
        own = (folder / "report.html").stat().st_size
        told(size, f"{seconds:.1f}", f"{most:.0f}", f"{own / 1e6:.1f}", f"{beside / 1e6:.1f}")


def copies(folder: Path, size: int) -> None:
    """So many packed cells, the first those of the study, the others the same with other seeds and keys."""
    folder.mkdir(parents=True)
    found = sorted(RESULTS.glob("*.json.xz"))
    for number in range(size):
        turn, place = divmod(number, len(found))
        tree = json.loads(lzma.decompress(found[place].read_bytes()))
        config = tree["config"]
        if turn:
            stem = config["name"].removesuffix(f"-s{config['seed']}")
            config["seed"] += 1000 * turn
            config["name"], tree["key"] = f"{stem}-s{config['seed']}", key_of([tree["key"], turn])
        rest = {field: value for field, value in tree["summary"].items() if field != "seal"}
        tree["summary"] = json.loads(sealed({**rest, "key": tree["key"]}))
        text = json.dumps(tree, separators=(",", ":")).encode()
        (folder / f"{tree['key']}.json.xz").write_bytes(lzma.compress(text, preset=1))


PARTS: dict[str, tuple[Callable[[tuple[int, ...], Path], None], tuple[int, ...], tuple[int, ...]]] = {
    "grid": (grid, (10, 100), (1_000, 3_000, 10_000)),
    "rows": (rows, (1_000, 10_000), (100_000, 300_000, 1_000_000)),
    "page": (page, (12, 24), (250, 500, 1_000)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--small", action="store_true", help="a few cells and rows, to see that it works")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        name, size, folder = given.step.split(":", 2)
        return step(name, int(size), Path(folder))
    for name, (part, small, whole) in PARTS.items():
        if given.only in (None, name):
            print(f"\n{name}, {time.strftime('%Y-%m-%d')}")
            with tempfile.TemporaryDirectory() as root:
                part(small if given.small else whole, Path(root))


if __name__ == "__main__":
    main()
