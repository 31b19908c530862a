"""does the toolkit flag masked networks, and only those?"""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._machine import add_machine, machine_of, store_of
from spikeproof.errors import UsageError


def options(parser: ArgumentParser) -> None:
    from spikeproof.evaluation.tiers import TIERS

    parser.add_argument("--tier", default="quick", choices=TIERS)
    parser.add_argument("--images", type=int, default=128, help="test images for each control")
    parser.add_argument("--smallest", action="store_true", help="small networks, for a check that it works")
    add_machine(parser)


def run(options: Namespace) -> int:
    if options.images < 1:
        raise UsageError("images >= 1", options.images)
    from spikeproof.study.controls import run_controls

    failed = 0
    for one in run_controls(
        store_of(options), machine_of(options), tier=options.tier, images=options.images, smallest=options.smallest
    ):
        wanted = "masked" if one.masked else "honest"
        fell = "" if one.broken is None else f"; {100 * one.broken:.1f} % fell"
        if one.most is not None and one.most != one.broken:
            fell += f", {100 * one.most:.1f} with the slack"
        print(f"{'ok  ' if one.passed else 'FAIL'} {wanted}: {one.name:36s} {one.by}{fell}", flush=True)
        if one.power:
            print(f"     power: {one.power}", flush=True)
        failed += not one.passed
    print(f"controls: {failed} failed")
    return 1 if failed else 0
