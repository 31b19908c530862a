"""A framework is one file in a folder: one that nobody has seen before is wrapped, checked, rested and named by it."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small import digits, untouched
from torch import Tensor, nn

import spikeproof
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.interop import frameworks
from spikeproof.rules.atan import ATan
from spikeproof.rules.bptr import BPTR
from spikeproof.rules.triangle import Triangle
from spikeproof.tensors import exact, image_keys

PIXELS, _, IDS = digits(12)
X, KEYS = PIXELS.double(), image_keys(0, IDS)  # in double no kernel rounds a membrane over its threshold
T = 4

LIBRARY = '''
import torch
from torch import nn


class Slope(torch.autograd.Function):
    """A step whose derivative is that of arctan(pi x) / pi, written out."""

    @staticmethod
    def forward(ctx, h):
        ctx.save_for_backward(h)
        return (h >= 0).to(h.dtype)

    @staticmethod
    def backward(ctx, g):
        (h,) = ctx.saved_tensors
        return g / (1 + (torch.pi * h) ** 2)


class Cell(nn.Module):
    """Keeps its membrane between calls of one batch size, one step each: v <- (v + x) / 2, reset to 0."""

    def __init__(self, threshold=0.3):
        super().__init__()
        self.threshold, self.v, self.spike = threshold, None, Slope.apply

    def forward(self, x):
        fresh = self.v is None or self.v.shape != x.shape
        v = ((torch.zeros_like(x) if fresh else self.v) + x) / 2
        s = self.spike(v - self.threshold)
        self.v = v * (1 - s.detach())
        return s
'''

LOOP_IS_THEIRS = """
from spikeproof.interop.frameworks import Framework
from spikeproof.interop.sites import Heights, keep, strict

__all__ = ["Toy"]


class Toy(Framework):
    title, versions = "Toy", "7"

    def is_neuron(self, module):
        return type(module).__module__ == "toyspikes" and hasattr(module, "threshold")

    def site(self, name, neuron, switch, *, folded):
        neuron.asked = Heights(name, neuron.spike, switch, strict=strict(neuron.spike, name), detach_reset=True)
        keep(neuron, spike=neuron.asked)
        return neuron

    def rest(self, network):
        for module in network.modules():
            if self.is_neuron(module):
                module.v = None

    def step_mode(self, network):
        return "s" if any(self.is_neuron(module) for module in network.modules()) else None
"""

LOOP_IS_OURS = (
    LOOP_IS_THEIRS.replace("import Heights, keep, strict", "import AllSteps, OneStep, keep").split("    def site")[0]
    + """
    def site(self, name, neuron, switch, *, folded):
        lif = LIF(tau=2.0, v_threshold=neuron.threshold)
        keep(lif, own=neuron.spike, detach_reset=True)
        return AllSteps(name, lif, switch, folded=True) if folded else OneStep(name, lif, switch)

    def foldable(self, network):
        return True

    def rest"""
    + LOOP_IS_THEIRS.split("    def rest")[1]
).replace("\n__all__", "from spikeproof.neurons.lif import LIF\n\n__all__")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A framework's library, imported, and what adds its file to a second folder of frameworks."""
    (tmp_path / "toyspikes.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "more"
    folder.mkdir()
    monkeypatch.setattr(frameworks, "__path__", [*frameworks.__path__, str(folder)])

    def forget() -> None:
        for name in ("toyspikes", "spikeproof.interop.frameworks.toyspikes"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()

    def add(text: str) -> None:
        (folder / "toyspikes.py").write_text(text)
        importlib.invalidate_caches()

    forget()
    yield importlib.import_module("toyspikes"), add
    forget()


def network(library: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), library.Cell(), nn.Flatten(), nn.Linear(144, 30), library.Cell(0.1), nn.Linear(30, 10)
        )
    with torch.no_grad():
        model[0].weight.abs_()  # type: ignore[union-attr, operator]
    return model.double().eval()


def as_its_owner(model: nn.Module, x: Tensor, slope: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Mean logits over T steps from rest, and the gradient of their first class at x, by recurrences written out."""
    x = x.clone().requires_grad_()
    conv, _, flat, hidden, _, last = model  # type: ignore[misc]
    v, w, total = 0.0, 0.0, 0.0
    for _ in range(T):
        v = (v + conv(x)) / 2
        s = _spike(v - 0.3, slope)
        v = v * (1 - s.detach())
        w = (w + hidden(flat(s))) / 2
        r = _spike(w - 0.1, slope)
        w = w * (1 - r.detach())
        total = total + last(r) / T
    return total.detach(), torch.autograd.grad(total[:, 0].sum(), x)[0]  # type: ignore[attr-defined, index]


def _spike(h: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
    """A step in value, and `slope` times h in gradient."""
    linear = slope(h.detach()) * h
    return (h >= 0).to(h.dtype) + linear - linear.detach()


FILES = {"their loop": LOOP_IS_THEIRS, "our loop": LOOP_IS_OURS}


@pytest.mark.parametrize("loop", FILES)
def test_one_file_is_a_framework(toy: Any, loop: str) -> None:
    """Wrapped without a word about steps: they, the sites, the rest and the rule of training are in the file."""
    library, add = toy
    add(FILES[loop])
    model = network(library)
    with untouched(model):
        victim = spikeproof.wrap(model, X, steps=T)
    assert victim.body.feed == {"their loop": "steps", "our loop": "folded"}[loop]
    assert victim.rule == ATan(alpha=2.0)
    assert victim.notes == ()
    assert [site.name for site in victim.body.sites()] == ["1", "4"]
    slopes: dict[Any, Callable[[Tensor], Tensor]] = {
        ATan(alpha=2.0): lambda h: 1 / (1 + (torch.pi * h) ** 2),
        Triangle(alpha=1.0): lambda h: (1 - h.abs()).clamp(min=0),
    }
    for rule, slope in slopes.items():
        expected, wanted = as_its_owner(model, X, slope)
        x = X.clone().requires_grad_()
        logits = victim(x, rule, KEYS)
        torch.testing.assert_close(logits, expected)
        assert wanted.abs().max() > 0
        torch.testing.assert_close(torch.autograd.grad(logits[:, 0].sum(), x)[0], wanted)
        torch.testing.assert_close(victim(X[:3], exact, KEYS[:3]), expected[:3])  # from rest, whatever came before


@pytest.mark.parametrize("loop", FILES)
def test_check_knows_it(toy: Any, loop: str) -> None:
    library, add = toy
    add(FILES[loop])
    model = network(library)
    with untouched(model):
        checked = spikeproof.check(model, X, steps=T)
    assert not checked.refused
    assert "one step a call" in checked["layout"].says
    assert checked["neurons"].says == f"'1', '4'; rule of training: {ATan(alpha=2.0)}"
    assert checked["state and noise"].verdict == "ok"
    assert (
        "Toy 7" in spikeproof.check(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double().eval(), X)["neurons"].says
    )


def test_without_the_file_it_is_a_network_that_remembers(toy: Any) -> None:
    library, _ = toy
    with pytest.raises(SpikeproofError, match=r"Cell.*remembers"):
        spikeproof.wrap(network(library), X, steps=T, step_mode="s")


def test_a_framework_without_a_rest_remembers(toy: Any) -> None:
    library, add = toy
    add(LOOP_IS_THEIRS.replace("def rest", "def other"))
    with pytest.raises(SpikeproofError, match="remembers"):
        spikeproof.wrap(network(library), X, steps=T)


def test_a_rule_of_the_whole_train_is_refused_by_name(toy: Any) -> None:
    library, add = toy
    add(LOOP_IS_THEIRS)
    with pytest.raises(UsageError, match=r"BPTR.*'1' gets one step"):
        spikeproof.wrap(network(library), X, steps=T)(X, BPTR(), KEYS)


def test_a_neuron_without_a_site_has_one_where_its_code_makes_the_spikes(toy: Any) -> None:
    library, add = toy
    add(LOOP_IS_THEIRS.replace("        neuron.asked", "        return None\n        neuron.asked"))
    victim = spikeproof.wrap(network(library), X, steps=T)
    assert victim.body.foreign == ()
    assert [site.name for site in victim.body.sites()] == ["Slope"]
    assert victim.rule == ATan(alpha=2.0)


def test_a_doubt_is_a_warning(toy: Any) -> None:
    library, add = toy
    add(f"{LOOP_IS_THEIRS}\n    def doubt(self, network):\n        return 'odd', 'make it even'\n")
    neurons = spikeproof.check(network(library), X, steps=T)["neurons"]
    assert (neurons.verdict, neurons.says, neurons.mend) == ("warn", "odd", "make it even")


def test_the_folder_is_the_registry(toy: Any) -> None:
    _, add = toy
    own = [path.stem for path in Path(frameworks.__file__).parent.glob("[a-z]*.py")]
    assert frameworks.names() == sorted(own)
    add(LOOP_IS_THEIRS)
    assert frameworks.names() == sorted([*own, "toyspikes"])


@pytest.mark.parametrize("name", frameworks.names())
def test_a_file_says_who_it_is_and_imports_no_framework(name: str) -> None:
    (framework,) = [f for f in frameworks.known_frameworks() if type(f).__module__.endswith(f".{name}")]
    assert framework.title.lower() == name
    assert framework.versions[0].isdigit()
    assert not framework.is_neuron(nn.ReLU())
    assert framework.step_mode(nn.Sequential(nn.ReLU())) is None
    text = inspect.getsource(inspect.getmodule(type(framework)))  # type: ignore[arg-type]
    assert not re.search(rf"^\s*(import|from) {name}\b", text, re.MULTILINE)
    assert frameworks.frameworks_of(nn.Sequential(nn.ReLU())) == []
