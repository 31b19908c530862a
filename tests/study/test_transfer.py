"""Transfer: on linear victims it is known which images carry over; on finished cells, the command says it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small import untouched
from subjects import clear, linear
from tinycell import WIDER, tiny

from spikeproof.commands import main
from spikeproof.errors import UsageError
from spikeproof.rules.atan import ATan
from spikeproof.store.store import Store
from spikeproof.study.config import cell_from
from spikeproof.study.run import Machine, run_cell
from spikeproof.study.transfer import of_cells, transfer_matrix
from spikeproof.threats.linf import Linf

FIRST = torch.arange(16) < 8
VICTIMS = {
    "all": linear(torch.ones(16), -0.5),
    "first half": linear(FIRST.double(), -0.5),
    "second half": linear((~FIRST).double(), -0.5),
}
RULES = dict.fromkeys(VICTIMS, ATan())


def test_what_carries_over_is_what_the_weights_share() -> None:
    """At eps 0.1 the images for 'all' raise each half by 0.8; those for one half move the other by chance alone."""
    x, y, ids = clear(6), torch.zeros(6, dtype=torch.int64), torch.arange(6)
    with untouched(*VICTIMS.values()):
        matrix = transfer_matrix(VICTIMS, x, y, ids, threat=Linf(0.1), rules=RULES, batch_size=4)
    share = {source: {target: found.share for target, found in row.items()} for source, row in matrix.items()}
    assert all(share[name][name] == 1 for name in VICTIMS)
    assert share["all"] == dict.fromkeys(VICTIMS, 1.0)
    assert share["first half"]["second half"] == share["second half"]["first half"] == 0
    assert all(found.total == 6 for row in matrix.values() for found in row.values())


def test_only_images_that_every_network_gets_right_count() -> None:
    x, ids = clear(4), torch.arange(4)
    y = torch.tensor([0, 1, 0, 1])  # grey is 0 for all three
    matrix = transfer_matrix(VICTIMS, x, y, ids, threat=Linf(0.1), rules=RULES)
    assert matrix["all"]["all"].total == 2
    with pytest.raises(UsageError, match="victims, one or more"):
        transfer_matrix({}, x, y, ids, threat=Linf(0.1), rules={})
    with pytest.raises(UsageError, match="every network gets right"):
        transfer_matrix(VICTIMS, x, torch.ones_like(y), ids, threat=Linf(0.1), rules=RULES)


def test_of_finished_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, machine = Store(tmp_path), Machine(progress=False)
    learns = {"epochs": 3, "batch_size": 8, "lr": 0.03, "flip": False, "weight_decay": 0.0}
    base = tiny(
        train_images=240, test_images=40, model=WIDER, recipe=learns,
        gradients={"images": 1, "weight_images": 1, "layers": False},
        evaluations=[{"name": "pixels", "eps": [0.1], "attacks": {"f": {"name": "fgsm"}}, "images": 2}],
    )  # fmt: skip
    cells = [run_cell(cell_from({**base, "name": f"s{seed}", "seed": seed}), store, machine) for seed in (0, 1)]
    matrix = of_cells(cells, "0.3", 40, machine)
    assert set(matrix) == set(matrix["s0"]) == {"s0", "s1"}
    assert main(["transfer", str(tmp_path), "--eps", "0.3", "--images", "40", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert f"n = {matrix['s0']['s1'].total}" in printed
    assert f"{100 * matrix['s0']['s1'].share:.1f} %" in printed
    assert main(["transfer", str(tmp_path / "none")]) == 2
