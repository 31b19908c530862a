"""the main job on digits, from nothing to a page"""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._given import STUDIES
from spikeproof.commands._machine import add_machine


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--smallest", action="store_true", help="two small cells, for a check that it works")
    add_machine(parser, workers=True)


def run(options: Namespace) -> int:
    from spikeproof.commands._cells import run_study

    name = "smallest" if options.smallest else "demo"
    # A red audit is what the demo shows, not a failure of it: `study` and `evaluate` return 3 for one.
    code = run_study(STUDIES / f"{name}.yaml", options, anyway=True)
    return 0 if code == 3 else code
