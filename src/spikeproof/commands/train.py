"""train one network"""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._machine import add_machine, machine_of, store_of


def options(parser: ArgumentParser) -> None:
    from spikeproof.study.config import add_cell_arguments

    add_cell_arguments(parser)
    add_machine(parser)


def run(options: Namespace) -> int:
    from spikeproof.study.config import cell_of
    from spikeproof.study.trained import trained_victim

    _, weights = trained_victim(cell_of(options), store_of(options), machine_of(options))
    print(f"weights: {weights.resolve()}")
    return 0
