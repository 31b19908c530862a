"""How many images a pass may hold: from what is there, measured on the network itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small import adapted, digits, trained
from torch import Tensor, nn

from spikeproof import wrap
from spikeproof.attacks.pgd import PGD
from spikeproof.errors import SpikeproofError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, outcomes
from spikeproof.losses import cross_entropy
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys
from spikeproof.threats.linf import Linf
from spikeproof.victims import memory
from spikeproof.victims.batch import Batch
from spikeproof.victims.memory import available, images_that_fit
from spikeproof.victims.victim import Victim

X, Y, IDS = digits(24)
KEYS = image_keys(0, IDS)


def test_what_is_there_is_told_in_bytes() -> None:
    assert 2**20 < available(torch.device("cpu")) <= 2**62


def test_what_torch_holds_free_of_a_gpu_may_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, told in {"mem_get_info": (1000, 9000), "memory_reserved": 700, "memory_allocated": 200}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, told=told: told)
    assert available(torch.device("cuda")) == 1500


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_of_processes_has_no_more_than_its_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: int
) -> None:
    """Its own limit and its parents'; cached files that nobody uses give way; the word 'max' is no limit."""
    root = tmp_path if version == 2 else tmp_path / "memory"
    limit, used, cache = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    (tmp_path / "cgroup").write_text("0::/jobs/7\n" if version == 2 else "0::/\n4:memory:/jobs/7\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_CGROUPS_OF_THIS_PROCESS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_of_the_machine", lambda: 2**40)
    cpu = torch.device("cpu")
    assert available(cpu) == 2**40  # no files at all
    for folder, most in {"jobs/7": "max", "jobs": str(2**20), "": str(2**30)}.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / limit).write_text(f"{most}\n")
        (root / folder / used).write_text("1000\n")
        (root / folder / "memory.stat").write_text(f"file 900\n{cache} 600\n")
    assert available(cpu) == 2**20 - 1000 + 600
    (root / "jobs/7" / limit).write_text("500\n")
    assert available(cpu) == 100
    (root / "jobs/7" / used).write_text("5000\n")
    assert available(cpu) == 0


class OwnTime(nn.Module):
    """A spiking network that makes its own time: many steps of many maps from one small image."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros(())
        for _ in range(300):
            v = torch.tanh(v + self.fc(x.flatten(1)).repeat(1, 50))
        return v[:, :10]


def test_what_a_wrapped_network_saves_is_always_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 steps of 500 numbers are 600 kB an image, whose input is 256 bytes; 20 MB hold some ten of them."""
    monkeypatch.setattr(memory, "available", lambda device: 20_000_000)
    victim = wrap(OwnTime().eval(), X)
    assert X.numel() * 4 * 1000 < 10_000_000
    assert 1 <= images_that_fit(victim, X, KEYS) <= 10
    asked = wrap(OwnTime().eval().forward, X)
    assert images_that_fit(asked, X, KEYS) == len(X)


def test_it_is_measured_under_a_rule_that_the_network_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ATan(alpha=3.0, through_reset=True)

    class Picky(Victim):
        rule = own

        def classify(self, z: Tensor, rule: Any) -> Tensor:
            if rule is not own:
                raise SpikeproofError("another rule")
            return super().classify(z, rule)

    monkeypatch.setattr(memory, "available", lambda device: 2**20)
    plain = trained()
    assert 1 <= images_that_fit(Picky(plain.body, plain.encoder, plain.steps).eval(), X, KEYS) < len(X)


@pytest.mark.parametrize(("bytes_there", "least", "most"), [(2**40, 24, 24), (0, 1, 1), (2**20, 2, 23)])
def test_the_fewer_bytes_the_fewer_images(
    monkeypatch: pytest.MonkeyPatch, bytes_there: int, least: int, most: int
) -> None:
    monkeypatch.setattr(memory, "available", lambda device: bytes_there)
    assert least <= images_that_fit(trained(), X, KEYS) <= most


def test_what_fits_is_in_proportion_to_memory_and_to_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    many, keys = X.repeat(40, 1, 1, 1), KEYS.repeat(40)
    found = {}
    for steps in (2, 8):
        for there in (2**21, 2**22):
            monkeypatch.setattr(memory, "available", lambda device, there=there: there)
            found[steps, there] = images_that_fit(adapted(steps=steps), many, keys)
    assert found[2, 2**22] == pytest.approx(2 * found[2, 2**21], abs=1)
    assert found[2, 2**22] == pytest.approx(4 * found[8, 2**22], rel=0.1)


def test_parts_give_the_rows_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = trained("phase")
    right = victim(X, exact, KEYS).argmax(1) == Y
    batch = Batch.of(victim, X, Y, IDS, 0).take(right)
    case = Case(PGD(steps=4), WhiteBox(ATan()), cross_entropy)
    whole = outcomes(victim, batch, "pgd", case, Linf(0.05))
    monkeypatch.setattr("spikeproof.evaluation.judge.images_that_fit", lambda victim, x, keys: min(len(x), 5))
    parts = outcomes(victim, batch, "pgd", case, Linf(0.05))
    assert [row["fooled"] for row in parts] == [row["fooled"] for row in whole]
    assert [row["forwards"] for row in parts] == [row["forwards"] for row in whole]
