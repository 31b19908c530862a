"""train where needed, attack, measure, one cell; or attack a network of your own

spikeproof evaluate my_network:make --weights W --images FOLDER --tier standard --eps 8/255
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from spikeproof import parts
from spikeproof.commands._machine import add_machine, machine_of, store_of
from spikeproof.errors import UsageError
from spikeproof.rows import CleanRow, of_kind
from spikeproof.store.store import Cell

if TYPE_CHECKING:
    from spikeproof.study.config import CellConfig


def options(parser: ArgumentParser) -> None:
    from spikeproof.evaluation.tiers import TIERS
    from spikeproof.study.config import add_cell_arguments

    parser.add_argument(
        "make", nargs="?", default=None,
        help="a network of your own: package.module:make, a function without arguments; taken in eval mode",
    )  # fmt: skip
    add_cell_arguments(parser)
    parser.add_argument("--images", default=None, help="a data set by its name (digits), or a folder (test/<class>/*)")
    parser.add_argument("--channels", type=int, default=3, help="of a folder's images: 3 or 1")
    parser.add_argument("--count", type=int | None, default=None, help="how many images to attack (default: all)")
    parser.add_argument("--step_mode", default=None, choices=["m", "s"], help="all steps at once, or one a call")
    parser.add_argument("--readout", default=None, help="package.module:function, from what it returns to logits")
    parser.add_argument(
        "--tier", default=None, choices=TIERS,
        help="one panel instead of the evaluations, on as many images as the first of them",
    )  # fmt: skip
    parser.add_argument("--eps", default=None, help="the panel's budget, in units of [0,1] (8/255)")
    parser.add_argument("--batch_size", type=int | None, default=None, help="the panel's images at a time")
    add_machine(parser)


def run(options: Namespace) -> int:
    from spikeproof import report
    from spikeproof.commands._cells import trust
    from spikeproof.study.config import cell_of
    from spikeproof.study.pictures import keep_pictures
    from spikeproof.study.run import run_cell

    _fill_in(options)
    config = _panelled(cell_of(options), options)
    cell = run_cell(config, store_of(options), machine := machine_of(options))
    keep_pictures(cell, config, machine)
    print((cell.folder / "README.md").read_text(encoding="utf-8"))
    print(f"report: {report.write([cell], options.out, title=cell.config['name']).resolve()}")
    if config.network is not None:
        _doubt(cell)
    return trust([cell])


def _doubt(cell: Cell) -> None:
    """A word where a network of one's own is no better than chance: mostly its classes are in another order."""
    clean = cell.summary["results"]["clean"]["test"]
    labels = {row["label"] for row in of_kind(cell.rows(), CleanRow)}
    if clean is not None and clean["low"] <= 1 / len(labels):
        what = f"clean accuracy {100 * clean['share']:.1f} % is not above chance"
        mend = "the weights, the range of the pixels, the order of the classes (that of their names): spikeproof check"
        print(f"{cell.config['name']}: {what}; look at {mend}", file=sys.stderr)


def _fill_in(options: Namespace) -> None:
    """What `check` takes too, where a cell has it. Raises UsageError for what is of networks of one's own alone."""
    network = {"make": options.make, "step_mode": options.step_mode, "readout": options.readout}
    for name, value in network.items():
        if value is not None:
            options.network[name] = value
    if options.network.make is None and (options.step_mode or options.readout):
        raise UsageError("--step_mode and --readout of a network of your own", "none", mend="name it: my_network:make")
    if options.images is not None:
        options.data = _data(options.images, options.channels)
    elif options.make is not None and not options.config and options.data == {"name": "digits"}:
        mend = "--images FOLDER, with test/<class>/<name>.png, or --images digits"
        raise UsageError("images to attack your network on", "none", mend=mend)


def _data(images: str, channels: int) -> dict[str, Any]:
    """The data set of that name, or a folder."""
    if images in parts.names("data"):
        return {"name": images}
    return {"name": "image_folder", "root": images, "channels": channels}


def _panelled(config: CellConfig, options: Namespace) -> CellConfig:
    """With the panel that is asked for instead of its evaluations."""
    from spikeproof.study.config import cell_from

    first = config.evaluations[0]
    of_panel = {"eps": options.eps, "count": options.count, "batch_size": options.batch_size}
    if options.tier is None and (said := [name for name, value in of_panel.items() if value is not None]):
        mend = f"--tier; of evaluations the {said[0]} stands in the configuration"
        raise UsageError(f"--tier with --{said[0]}", "none", mend=mend)
    if options.tier is None:
        return config
    panel = {
        "name": "panel",
        "protocol": "panel",
        "eps": [options.eps or "8/255"],
        "tier": options.tier,
        "images": first.images if options.count is None else options.count,
        "batch_size": options.batch_size,
    }
    return cell_from({**config.resolved(), "evaluations": [panel], "headline": {}})
