"""where the gradients of the paper's network are zero, and its dead weights"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._machine import add_machine, machine_of


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, default=None, help="a folder of images (train/<class>/*), else digits")
    parser.add_argument("--steps", type=int, default=240, help="training steps before the second look")
    parser.add_argument("--seed", type=int, default=0)
    add_machine(parser)


def run(options: Namespace) -> int:
    from spikeproof.study.paper_facts import findings

    print(findings(options.images, options.steps, options.seed, machine_of(options)))
    return 0
