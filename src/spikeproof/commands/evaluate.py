"""train where needed, attack, measure, one cell"""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._machine import add_machine, machine_of, store_of
from spikeproof.errors import UsageError


def options(parser: ArgumentParser) -> None:
    from spikeproof.evaluation.tiers import TIERS
    from spikeproof.study.config import add_cell_arguments

    add_cell_arguments(parser)
    parser.add_argument(
        "--tier", default=None, choices=TIERS,
        help="one panel instead of the evaluations, on as many images as the first of them",
    )  # fmt: skip
    parser.add_argument("--eps", default=None, help="the panel's budget, in units of [0,1] (8/255)")
    add_machine(parser)


def run(options: Namespace) -> int:
    from spikeproof import report
    from spikeproof.commands._cells import trust
    from spikeproof.study.config import cell_from, cell_of
    from spikeproof.study.run import run_cell

    config = cell_of(options)
    if options.tier is None and options.eps is not None:
        mend = "the budgets of evaluations stand in the configuration"
        raise UsageError("--tier with --eps", "none", mend=mend)
    if options.tier is not None:
        first = config.evaluations[0]
        panel = {
            "name": "panel",
            "protocol": "panel",
            "eps": [options.eps or "8/255"],
            "tier": options.tier,
            "images": first.images,
        }
        config = cell_from({**config.resolved(), "evaluations": [panel], "headline": {}})
    cell = run_cell(config, store_of(options), machine_of(options))
    print((cell.folder / "README.md").read_text(encoding="utf-8"))
    print(f"report: {report.write([cell], options.out, title=cell.config['name']).resolve()}")
    return trust([cell])
