"""Every defence: a finite scalar loss that reaches every parameter, and a victim in the mode it came in."""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from small import built, digits, trained, untouched
from torch import Tensor

import spikeproof
from spikeproof import parts
from spikeproof.attacks.fgsm import FGSM
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import cross_entropy
from spikeproof.rules.atan import ATan
from spikeproof.study.config import cell_from, load_study, overlaid
from spikeproof.tensors import image_keys
from spikeproof.threats.linf import Linf
from spikeproof.training.craft import crafter
from spikeproof.types import Craft, Knob
from spikeproof.victims.victim import Victim

each_defence = pytest.mark.parametrize("name", parts.names("defences"))
each_encoder = pytest.mark.parametrize("encoder", ["direct", "phase", "poisson"])
RULE = ATan()
X, Y, IDS = digits(12)
KEYS = image_keys(0, IDS)


def victim_of(encoder: str = "direct") -> Victim:
    """In train mode, of learnt time constants, so that the neurons have parameters too. The weights are those of one
    network, trained behind one encoder, which fires behind the others too."""
    victim = built(encoder, neuron="plif")
    victim.load_state_dict(trained(neuron="plif").state_dict())
    return victim.train()


def craft_of(victim: Victim) -> Any:
    return crafter(victim, FGSM(), Linf("8/255"), WhiteBox(RULE), cross_entropy)


def loss_of(name: str, victim: Victim, craft: Craft | None = None) -> Tensor:
    return parts.build("defences", {"name": name})(victim, X, Y, RULE, KEYS, craft or craft_of(victim))  # type: ignore[no-any-return]


def kept(craft: Craft) -> Craft:
    """Crafts once, and gives the same points again."""
    points: list[Tensor] = []

    def same(*given: Any, **options: Any) -> Tensor:
        points[:] = points or [craft(*given, **options)]
        return points[0]

    return same


@each_defence
@each_encoder
def test_the_loss_is_a_finite_scalar_with_a_gradient_on_every_parameter(name: str, encoder: str) -> None:
    victim = victim_of(encoder)
    loss = loss_of(name, victim)
    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert all(p.grad is None for p in victim.parameters())  # the trainer, and nobody else, calls backward
    loss.backward()
    for parameter, value in victim.named_parameters():
        assert value.grad is not None, parameter
        assert torch.isfinite(value.grad).all(), parameter
        assert value.grad.abs().max() > 0, parameter


@each_defence
def test_a_step_along_its_gradient_lowers_the_loss(name: str) -> None:
    """In eval mode and at the same crafted points, so that nothing but the weights moves between the two losses; a
    small step, as spikes are jumps."""
    victim = victim_of().eval()
    craft = kept(craft_of(victim))
    before = loss_of(name, victim, craft)
    gradient = torch.autograd.grad(before, victim.body.fc.bias)[0]  # type: ignore[union-attr]
    with torch.no_grad():
        victim.body.fc.bias -= 1e-2 * gradient / gradient.norm()  # type: ignore[union-attr]
    assert loss_of(name, victim, craft) < before


@each_defence
@pytest.mark.parametrize("train", [False, True])
def test_the_mode_of_every_module_is_put_back(name: str, train: bool) -> None:
    victim = victim_of().train(train)
    loss_of(name, victim)
    assert {m.training for m in victim.modules()} == {train}


@each_defence
def test_without_train_mode_nothing_is_left_behind(name: str) -> None:
    victim, x = victim_of().eval(), X.clone()
    with untouched(victim):
        loss_of(name, victim)
    assert torch.equal(X, x)
    assert not X.requires_grad


@each_defence
def test_the_same_keys_give_the_same_loss(name: str) -> None:
    assert loss_of(name, victim_of("poisson")) == loss_of(name, victim_of("poisson"))


@each_defence
def test_its_hooks_leave_a_network_that_still_works(name: str) -> None:
    """And are not called by the loss: the trainer calls them."""
    victim = victim_of()
    defence = parts.build("defences", {"name": name})
    loss_of(name, victim).backward()
    for hook in ("after_backward", "after_step"):
        getattr(defence, hook, lambda victim: None)(victim)
    assert all(torch.isfinite(p).all() for p in victim.parameters())
    assert all(torch.isfinite(p.grad).all() for p in victim.parameters() if p.grad is not None)
    assert torch.isfinite(loss_of(name, victim))


def takes_another(name: str) -> bool:
    return "base" in inspect.signature(parts.find("defences", name)).parameters


@pytest.mark.parametrize("name", [n for n in parts.names("defences") if takes_another(n)])
@pytest.mark.parametrize("below", parts.names("defences"))
def test_what_adds_to_a_training_adds_to_every_one(name: str, below: str) -> None:
    victim = victim_of()
    defence = parts.build("defences", {"name": name, "base": {"name": below}})
    assert defence.base == parts.build("defences", {"name": below})
    assert torch.isfinite(defence(victim, X, Y, RULE, KEYS, craft_of(victim)))


KNOBBED = [(f, n) for f in ("defences", "encoders") for n in parts.names(f) if parts.knob(f, n) is not None]


@pytest.mark.parametrize(("folder", "name"), [(f, n) for f in ("defences", "encoders") for n in parts.names(f)])
def test_a_knob_is_seen_in_the_text_of_the_file(folder: str, name: str) -> None:
    assert parts.tunable(folder, name) == (parts.knob(folder, name) is not None)


def test_every_defence_has_a_knob() -> None:
    assert {n for f, n in KNOBBED if f == "defences"} == set(parts.names("defences")) - {"vanilla"}


@pytest.mark.parametrize(("folder", "name"), KNOBBED)
def test_a_knob_is_an_option_with_five_values_or_more(folder: str, name: str) -> None:
    """Each of them a different, valid setting; an option with a dot is one of the configuration."""
    knob = parts.knob(folder, name)
    assert isinstance(knob, Knob)
    assert len(knob.values) >= 5
    built = []
    for value in knob.values:
        field = {"defences": "defence", "encoders": "encoder"}[folder]
        path = knob.option if "." in knob.option else f"{field}.{knob.option}"
        tree = overlaid({"training_threat": {"name": "linf", "eps": 0.1}}, {f"{field}.name": name, path: value})
        built.append(cell_from(tree).resolved())
    assert all(one != other for one, other in itertools.combinations(built, 2))
    (line,) = [text for part, _, text in parts.describe(folder) if part == name]
    assert f"Knob: {knob.option}, {knob.values[0]} " in line


STUDY = load_study(Path(spikeproof.__file__).parent / "studies" / "defences-digits.yaml")
CELLS = [{**STUDY.base, **(cell or {})} for cell in STUDY.axes["training"].values()]


@pytest.mark.parametrize(("folder", "name"), KNOBBED)
def test_the_study_of_the_defences_turns_every_knob(folder: str, name: str) -> None:
    """At three of the part's values or more, and what can stand on adversarial training there at the same values; what
    attacks already at five. Adversarial training and FEEL are chosen by paths of their own."""
    knob, field = parts.knob(folder, name), {"defences": "defence", "encoders": "encoder"}[folder]
    assert knob is not None
    mine = [cell for cell in CELLS if cell.get(field, {}).get("name") == name]
    if name == "adversarial":
        assert len({str(cell["training_threat"]["eps"]) for cell in mine}) >= 5
        return
    below = [cell["defence"].get("base", {}) if folder == "defences" else cell.get("defence", {}) for cell in mine]
    on = {"name": "adversarial"}
    alone = {cell[field].get(knob.option) for cell, under in zip(mine, below, strict=True) if under != on}
    above = {cell[field].get(knob.option) for cell, under in zip(mine, below, strict=True) if under == on}
    stands = folder == "encoders" or takes_another(name)
    assert len(alone & set(knob.values)) >= (3 if stands else 5)
    assert above == (alone if stands else set())


def test_the_study_of_the_defences_has_seeds_and_images_enough() -> None:
    (panel,) = STUDY.base["evaluations"]
    assert len(STUDY.seeds) >= 5
    assert panel["images"] >= 128
    assert panel["eps"] == [STUDY.base["training_threat"]["eps"]] == [STUDY.base["headline"]["eps"]]


def test_crafting_happens_in_eval_mode_and_leaves_no_trace() -> None:
    """The images are those that the deployed network would be attacked with, and no running statistic moves."""
    victim = victim_of()
    with untouched(victim):
        x = craft_of(victim)(X, Y, KEYS)
    assert torch.equal(x, craft_of(victim.eval())(X, Y, KEYS))
    assert Linf("8/255").distance(x, X).max() <= 8 / 255 + 1e-6
    assert (Linf("8/255").distance(x, X) > 0).all()


def test_the_mode_is_put_back_when_crafting_fails() -> None:
    victim = victim_of()

    def broken(*arguments: Any) -> Tensor:
        assert not victim.training
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        crafter(victim, broken, Linf(0.1), WhiteBox(RULE), cross_entropy)(X, Y, KEYS)
    assert all(m.training for m in victim.modules())
