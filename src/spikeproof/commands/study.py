"""run a grid of cells, resumable, and write the page"""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._engines import add_engines, check_engine
from spikeproof.commands._given import shipped, study_file
from spikeproof.commands._machine import add_machine


def options(parser: ArgumentParser) -> None:
    parser.add_argument("file", help=f"a study's YAML, or a shipped one: {', '.join(shipped())}")
    parser.add_argument("--anyway", action="store_true", help="also into a folder with cells of another version")
    parser.add_argument(
        "--shards", type=int, default=None,
        help="workers that make one cell together, one cell after the other; the same command on other machines, at "
        "the same --out, joins them",
    )  # fmt: skip
    add_machine(parser, workers=True)
    add_engines(parser)


def run(options: Namespace) -> int:
    check_engine(options)
    file = study_file(options.file)
    from spikeproof.commands._cells import run_study

    return run_study(file, options, anyway=options.anyway)
