"""how far a study, or what else is in a folder, is: finished, running, partial, missing, damaged cells"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._given import study_file
from spikeproof.errors import UsageError
from spikeproof.store.store import Store
from spikeproof.study.kept import Called


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", default=None, help="a study's YAML, or a shipped one; else all that is there"
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), help="the folder of the study")
    parser.add_argument("--device", default="cpu", help="that of the study")


def run(options: Namespace) -> int:
    file = None if options.file is None else study_file(options.file)
    from spikeproof.study.kept import kept
    from spikeproof.study.status import STATES, states, there

    store = Store(options.out)
    found = there(store) if file is None else states(
        kept(store, file, options.device) or _planned(file, options.device), store
    )  # fmt: skip
    if not found:
        raise UsageError(f"cells under {options.out}", "none", mend="name the study, or another --out")
    width = max(len(one.name) for one in found)
    for one in found:
        print(f"{one.name:{width}s}  {one.key}  {one.state:8s}  {one.detail}".rstrip())
    count = Counter(one.state for one in found)
    print(f"{len(found)} cells: " + ", ".join(f"{count[state]} {state}" for state in STATES))
    return 0


def _planned(file: Path, device: str) -> list[Called]:
    from spikeproof.study.config import load_study
    from spikeproof.study.plan import plan
    from spikeproof.study.trained import Machine

    study = load_study(file)
    return [one.called for one in plan(study.cells(), Machine(device), study.refused)]
