"""run a finished cell again and compare row for row"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._machine import add_machine, machine_of, store_of
from spikeproof.store.store import Store


def options(parser: ArgumentParser) -> None:
    parser.add_argument("key", help="the name of its folder in cells/, or the beginning of it")
    parser.add_argument("--into", type=Path, default=None, help="a fresh folder (default: OUT/reproduced)")
    parser.add_argument("--anyway", action="store_true", help="also with other sources than those of the cell")
    parser.add_argument("--trust", action="store_true", help="also run code of others that its configuration names")
    add_machine(parser)


def run(options: Namespace) -> int:
    from spikeproof.study.rerun import differences, find, reproduce

    cell = find(Store(options.out), options.key)
    if options.threads is None:
        options.threads = cell.provenance.get("threads")  # rounding depends on them
    into = options.into or options.out / "reproduced"
    again = reproduce(cell, store_of(options, into), machine_of(options), anyway=options.anyway, trust=options.trust)
    found = differences(cell, again)
    print(f"{cell.config['name']} ({cell.key}), run again as {again.folder}:")
    print("\n".join(found) if found else "equal, row for row")
    return 1 if found else 0
