"""Each cell's key, all its outcomes, its configuration, and the versions and costs of its making."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from spikeproof.report._blocks import Block, Columns, Fold, Grid, Heading, Listing, Paragraph, Section, missing, text
from spikeproof.report._findings import Findings
from spikeproof.report._summary import Summary
from spikeproof.report._tables import budgets
from spikeproof.store.yaml_file import DUMPER

PLACE = 530


_FEW = 12
"""Up to so many cells, each has its fold in sight."""


def section(of: Findings) -> Section:
    every = [_details(cell) for cell in of.cells]
    if len(every) > _FEW:
        return Section("", [Fold("Configuration and versions", f"{len(every)} cells", every, "long")])
    return Section("Configuration and versions", every)


def _details(cell: Summary) -> Fold:
    table = budgets(cell)
    outcomes: Block = missing("No attack was run.")
    if table is not None:
        outcomes = Grid(f"Every evaluation of {cell.label}", table)
    costs = f"{cell.numbers['forwards']:,} forwards and {cell.numbers['backwards']:,} backwards of attacks"
    sides = Columns([_listed("Configuration", cell.config), _listed("Versions and costs", cell.provenance)])
    return Fold(cell.label, costs, [Paragraph(text("Key: <code>{}</code>", cell.key)), outcomes, sides])


def _listed(title: str, value: Mapping[str, object]) -> list[Block]:
    return [Heading(title), Listing(str(yaml.dump(dict(value), Dumper=DUMPER, sort_keys=False, allow_unicode=True)))]
