"""Generalisation, energy and theory on the page: the numbers of the rows, and nothing where there are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import held

from spikeproof.report import write


def rows() -> list[dict[str, Any]]:
    corrupted = [
        {"kind": "corruption", "corruption": name, "image": i, "label": 0, "predicted": [0, 0, 0, 0, int(i >= kept)]}
        for name, kept in (("jpeg", 20), ("contrast", 0))
        for i in range(20)
    ]
    energy = {"kind": "energy", "image": 0, "label": 0, "steps": 4, "layers": {"conv1": [1234, 5678, 99999]},
              "sites": {"sn1": [3, 12]}}  # fmt: skip
    theory = [
        {"kind": "theory", "eps": 0.1, "eps_text": "0.1", "image": i, "label": 0, "l1": 4.0, "l2": 2.0, "l0": 9,
         "ce_l1": 1.0, "rho_adv": 0.5, "rho_rand": 0.1, "rise": 0.2}
        for i in range(3)
    ]  # fmt: skip
    layer = {"size": 9, "density": 0.125, "support": 0.25, "product": 0.5, "count": 1.0, "delta": 0.75}
    support = {"kind": "support", "image": 0, "label": 0, "layers": {"conv1": layer}}
    robust = [
        {"kind": "robust", "split": split, "eps": 0.1, "eps_text": "0.1", "attack": "pgd-20", "image": i, "label": 0,
         "predicted": 0, "fooled": i >= kept, "evaluation": "robust", "protocol": "pixels", "surface": "pixels",
         "norm": "Linf", "attacked": int(i >= kept), "distance": 0.1, "margin": 0.5, "forwards": 21, "backwards": 20}
        for split, kept in (("train", 15), ("test", 5))
        for i in range(20)
    ]  # fmt: skip
    return held([*corrupted, energy, *theory, support, *robust])


def test_what_was_measured_is_on_the_page(tmp_path: Path, make_cell: Callable[..., Any]) -> None:
    cell = make_cell("one")
    text = write([replace(cell, attack_rows=cell.attack_rows + rows())], tmp_path, title="t").read_text("utf-8")
    for table in ("Generalisation", "What an inference costs", "Density of the weight gradient and its bounds"):
        assert f'aria-label="{table}"' in text
    for told in ("+50.0", "1,234", "5,678", "99,999", "25.0\u00a0%", "contrast", "0.125", "90.0\u00a0%"):
        assert told in text, told
    assert (tmp_path / "figures" / "theory.svg").is_file()
    assert 'id="theory-' in text


@pytest.mark.usefixtures("undrawn")
def test_a_study_without_them_says_nothing_of_them(tmp_path: Path, make_cell: Callable[..., Any]) -> None:
    text = write([make_cell("one")], tmp_path, title="t").read_text("utf-8")
    for section in ("generalisation", "energy", "theory"):
        assert f'id="{section}"' not in text
    assert not (tmp_path / "figures" / "theory.svg").exists()
