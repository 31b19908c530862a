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
    from spikeproof.training.torchrun import joined

    with joined(options.device) as (world, device):
        options.device = device
        machine = machine_of(options, world=world)
        _, weights = trained_victim(cell_of(options), store_of(options), machine)
        if world.writes:
            print(f"weights: {weights.resolve()}")
    return 0
