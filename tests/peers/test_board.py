"""Adversarial inputs that torchattacks makes lower an entry by exactly the images that they break."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small import trained
from tinypanel import panelled

from spikeproof.board.entry import read, written
from spikeproof.board.make import Told, chosen, entry_of
from spikeproof.board.verify import verify
from spikeproof.data.digits import Digits
from spikeproof.errors import SpikeproofError
from spikeproof.interop.export import as_module
from spikeproof.store.store import Store
from spikeproof.study.config import cell_from
from spikeproof.study.run import Machine, run_cell
from spikeproof.training.checkpoint import write_tensors

torchattacks = pytest.importorskip("torchattacks", reason="the peer torchattacks is not installed here")

EPS = 1 / 20
QUIET = Machine(progress=False)


def test_inputs_of_torchattacks_lower_by_what_they_break(tmp_path: Path) -> None:
    facts = {"input_shape": [1, 8, 8], "classes": [str(digit) for digit in range(10)]}
    write_tensors(given := tmp_path / "given.safetensors", trained().body.state_dict(), facts)
    panel = {"name": "panel", "protocol": "panel", "tier": "smoke", "eps": ["1/20"], "batch_size": 16}
    config = panelled(test_images=40, steps=3, weights=str(given), evaluations=[panel], name="tiny")
    cell = run_cell(cell_from(config), Store(tmp_path / "runs"), QUIET)
    weights = cell.folder / "model.safetensors"
    written(tmp_path / "tiny.json", entry_of([cell], chosen(cell), Told()))
    entry = read(tmp_path / "tiny.json")

    data = Digits().load("test")
    place = {id: number for number, id in enumerate(data.ids.tolist())}
    ids = entry["outcomes"]["ids"]
    x, y, _ = data.at(torch.tensor([place[id] for id in ids]))
    module = as_module(trained())
    attack = torchattacks.APGD(module, norm="Linf", eps=EPS, steps=60, n_restarts=2, loss="ce")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        adversarial = attack(x, y).detach()
    with torch.no_grad():  # what torchattacks' own user would count
        said = [int(module(one[None]).argmax()) for one in adversarial]
    standing = {id for id, label, answer in zip(ids, y.tolist(), said, strict=True) if label != answer} & entry.standing
    assert standing, "an attack that breaks nothing would show nothing"

    np.savez(tmp_path / "theirs.npz", inputs=adversarial.numpy(), ids=np.array(ids))
    found = verify(entry, tmp_path / "theirs.npz", QUIET, weights=weights)
    assert {*found.new} == standing
    assert found.before is not None
    assert found.after is not None
    assert found.before.correct - found.after.correct == len(standing)

    far = torchattacks.FGSM(module, eps=2 * EPS)(x, y).detach()
    distance = (far - x).abs().flatten(1).amax(1)
    np.savez(tmp_path / "far.npz", inputs=far.numpy(), ids=np.array(ids))
    with pytest.raises(SpikeproofError, match=rf"got {int((distance > EPS + 2e-6).sum())} of 40 over budget"):
        verify(entry, tmp_path / "far.npz", QUIET, weights=weights)
