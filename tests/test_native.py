"""The scan, in C and where there is a GPU in Triton, against the neuron's own loop in torch on the same device: spikes
bit by bit, gradients to float tolerance."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikeproof import native, parts
from spikeproof.errors import SpikeproofError
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.neurons.plif import PLIF
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, heaviside

in_c = pytest.mark.skipif(not native.available(), reason="no C compiler here, or SPIKEPROOF_FAST=0")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available() or not native.fast(), reason="no GPU, or SPIKEPROOF_FAST=0")
everywhere = pytest.mark.parametrize("device", [pytest.param("cpu", marks=in_c), pytest.param("cuda", marks=on_gpu)])

SHAPES = ("atan", "sigmoid", "triangle", "rectangle", "gaussian")
NEURONS: dict[str, Any] = {
    "if": IF,
    "lif": lambda **o: LIF(tau=1.7, **o),
    "lif-raw": lambda **o: LIF(tau=3.0, decay_input=False, **o),
    "plif": lambda **o: PLIF(init_tau=2.3, **o).requires_grad_(False),
    "plif-raw": lambda **o: PLIF(init_tau=1.4, decay_input=False, **o).requires_grad_(False),
}
RESETS = (0.0, -0.4, None)


def currents(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def both(rule: Any, node: nn.Module, x: Tensor, weights: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """(spikes, gradient) in C and in the plain form."""
    found = []
    for form in (rule, dataclasses.replace(rule, fused=False)):
        point = x.clone(memory_format=torch.preserve_format).requires_grad_()
        spikes = form(node, point, "site")
        found.append((spikes.detach(), torch.autograd.grad((spikes * weights).sum(), point)[0]))
    return tuple(found)


@everywhere
@pytest.mark.parametrize(("shape", "neuron", "reset"), list(product(SHAPES, NEURONS, RESETS)))
@pytest.mark.parametrize(("through_time", "through_reset"), list(product((True, False), (True, False))))
def test_every_neuron_shape_and_path_is_the_plain_form(
    device: str, shape: str, neuron: str, reset: float | None, through_time: bool, through_reset: bool
) -> None:
    x = currents(7, 3, 701).to(device)  # more than one chunk's remainder
    node = NEURONS[neuron](v_threshold=0.8, v_reset=reset).to(device)
    assert node.known() is not None
    rule = parts.find("rules", shape)(alpha=1.3, through_time=through_time, through_reset=through_reset)
    (spikes, gradient), (plain_spikes, plain) = both(rule, node, x, currents(7, 3, 701, seed=4).to(device))
    assert 0 < float(spikes.mean()) < 1
    assert torch.equal(spikes, plain_spikes)
    torch.testing.assert_close(gradient, plain, rtol=2e-5, atol=2e-6)


@everywhere
@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 60), images=st.integers(1, 5), width=st.integers(1, 40),
    neuron=st.sampled_from(sorted(NEURONS)), seed=st.integers(0, 999),
)  # fmt: skip
def test_any_length_and_width(device: str, steps: int, images: int, width: int, neuron: str, seed: int) -> None:
    x = currents(steps, images, width, seed=seed).to(device)
    node = NEURONS[neuron]().to(device)
    (spikes, gradient), (plain_spikes, plain) = both(ATan(through_reset=True), node, x, torch.ones_like(x))
    assert torch.equal(spikes, plain_spikes)
    # The recursion multiplies its rounding along the steps.
    torch.testing.assert_close(gradient, plain, rtol=1e-3, atol=1e-4 * float(plain.abs().max().clamp(min=1)))


@everywhere
def test_spikes_on_the_threshold_are_those_of_torch(device: str) -> None:
    """Sums of eighths reach the threshold exactly, where a last bit decides."""
    x = torch.randint(-4, 5, (12, 4000), generator=torch.Generator().manual_seed(0)).to(device) / 8
    for node in (IF(), IF(v_reset=None), LIF(), LIF(decay_input=False, v_reset=-0.25)):
        assert torch.equal(node.spikes(x), node.run(x, lambda height, step: heaviside(height)))
        assert torch.equal(exact(node, x, "site"), node.spikes(x))


@everywhere
@pytest.mark.parametrize("neuron", sorted(NEURONS))
def test_a_membrane_exactly_at_its_threshold_fires(device: str, neuron: str) -> None:
    """The threshold is what torch charges to, so that one bit of rounding elsewhere would silence the neuron."""
    for x in currents(60, 1, 1).abs().add(0.1).to(device):
        node = NEURONS[neuron]().to(device)
        node.v_threshold = float(node.charge(torch.zeros_like(x), x).item())
        assert float(node.spikes(x[None])) == 1.0


@everywhere
def test_layouts_keep_their_order_and_any_other_is_copied(device: str) -> None:
    flat = currents(40, 6, 5, 5).to(device)
    last = flat.contiguous(memory_format=torch.channels_last).view(10, 4, 6, 5, 5)
    plain = IF().spikes(flat.view(10, 4, 6, 5, 5))
    assert torch.equal(IF().spikes(last), plain)
    assert IF().spikes(last).stride() == last.stride()
    strided = currents(10, 4, 12).to(device)[:, :, ::2]
    assert torch.equal(IF().spikes(strided), IF().spikes(strided.contiguous()))
    expanded = currents(1, 4, 6).to(device).expand(10, 4, 6)  # direct coding before any layer
    assert torch.equal(IF().spikes(expanded), IF().spikes(expanded.contiguous()))
    weights = currents(10, 4, 6, 5, 5, seed=5).to(device)
    (_, gradient), (_, expected) = both(ATan(), IF(), last, weights)
    torch.testing.assert_close(gradient, expected, rtol=2e-5, atol=2e-6)


@everywhere
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [(0, 0), (6, 2999)])
def test_a_current_that_is_not_finite_is_refused(device: str, bad: float, place: tuple[int, int]) -> None:
    x = currents(7, 3000).to(device)
    x[place] = bad
    with pytest.raises(SpikeproofError, match="finite input currents"):
        IF().spikes(x)


@in_c
def test_what_a_subclass_changes_is_not_missed() -> None:
    class Leaking(IF):
        def charge(self, v: Tensor, x: Tensor) -> Tensor:
            return 0.5 * v + x

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Flat(ATan):
        def derivative(self, x: Tensor) -> Tensor:
            return torch.full_like(x, 0.25)

    x = currents(6, 50)
    assert torch.equal(Leaking().spikes(x), Leaking().run(x, lambda height, step: heaviside(height)))
    assert not torch.equal(Leaking().spikes(x), IF().spikes(x))
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Flat(through_time=False)(IF(), point, "site").sum(), point)
    assert torch.equal(gradient, torch.full_like(x, 0.25))


@everywhere
def test_double_precision_and_the_switch_take_torch(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = currents(5, 20).to(device)
    assert native.usable(x)
    assert native.form(x.device) == {"cpu": "C", "cuda": "Triton"}[device]
    assert not native.usable(x.double())
    assert not native.usable(x[:, :0])
    monkeypatch.setenv("SPIKEPROOF_FAST", "0")
    assert not native.usable(x)
    assert native.form(x.device) == "torch"
    monkeypatch.setattr(native, "scan", None)  # would fail if it were called
    IF().spikes(x)


def test_without_a_compiler_everything_runs_in_torch(tmp_path: Path) -> None:
    """In a process that finds no compiler and has no cache: the same spikes, and no error."""
    code = (
        "import torch; from spikeproof import native; from spikeproof.neurons.if_ import IF;"
        "x = torch.randn(7, 50, generator=torch.Generator().manual_seed(3));"
        "print(native.available(), int(IF().spikes(x).sum()))"
    )
    environment = {**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", str(int(IF().spikes(currents(7, 50)).sum()))]


def test_a_library_that_cannot_be_built_is_told_once_and_done_without(tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\ncase $1 in --version) echo broken;; *) echo no such thing >&2; exit 1;; esac\n")
    broken.chmod(0o755)
    code = (
        "import logging; logging.basicConfig(); from spikeproof import native; native.available();"
        "print(native.available())"
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "SPIKEPROOF_FAST": "1", "PATH": path, "XDG_CACHE_HOME": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
    assert told.stderr.count("cannot be built") == 1
    assert "no such thing" in told.stderr


def test_a_user_without_a_home_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container under a number that no passwd entry has."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert native._library.__wrapped__() is None


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (2**31 - 1, [(-3, 2**31 - 1), (-1, 2**31 - 1), (-2, 2**26)]),
        (2**25, [(-3, 2**31 - 1), (-3, 2**25), (-1, 2**31 - 1), (-2, 2**26)]),
        (0, [(-3, 2**31 - 1), (-3, 2**25)]),
    ],
    ids=["glibc 2.35", "older", "refuses all"],
)
def test_memory_is_kept_as_far_as_glibc_lets(
    monkeypatch: pytest.MonkeyPatch, largest: int, expected: list[tuple[int, int]]
) -> None:
    asked: list[tuple[int, int]] = []

    def mallopt(option: int, value: int) -> int:
        asked.append((option, value))
        return int(option != -3 or value <= largest)

    monkeypatch.setenv("SPIKEPROOF_FAST", "1")
    monkeypatch.setattr(native.platform, "libc_ver", lambda: ("glibc", "2.31"))
    monkeypatch.setattr(native.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    native.keep_memory.__wrapped__()
    assert asked == expected


@in_c
def test_the_library_is_built_once_and_kept(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    built = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", "from spikeproof import native; assert native.available()"],
                       env=environment, check=True)  # fmt: skip
        (library,) = (tmp_path / "spikeproof").iterdir()
        built.append(library.stat().st_mtime_ns)
    assert built[0] == built[1]
