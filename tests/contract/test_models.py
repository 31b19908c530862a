"""Every body: known names, one rule call a neuron, logits per image, and no choice that is not an argument."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from small import untouched
from torch import Tensor, nn

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.layers.copies import copied
from spikeproof.neurons import Stepwise
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys, uniform
from spikeproof.types import Neuron

T, B, CLASSES, CHANNELS = 3, 4, 7, 2


def literals(name: str) -> dict[str, tuple[Any, ...]]:
    """Options that choose among a few values -> those values."""
    hints = get_type_hints(parts.find("models", name).__init__)
    return {option: get_args(hint) for option, hint in hints.items() if get_origin(hint) is Literal}


def variants(name: str) -> Iterator[dict[str, Any]]:
    """The defaults, and every other value of every choice on its own."""
    yield {}
    target = parts.find("models", name)
    for option, values in literals(name).items():
        default = inspect.signature(target).parameters[option].default
        yield from ({option: value} for value in values if value != default)


SPECS = [{"name": name, **options} for name in parts.names("models") for options in variants(name)]
each_spec = pytest.mark.parametrize("spec", SPECS, ids=str)


def neuron() -> nn.Module:
    return parts.build("neurons", {"name": "plif"})  # type: ignore[no-any-return]


def body(spec: dict[str, Any], *, width: int = 8) -> Any:
    """In eval mode and float64, lively: batch-norms off their initial 1 and 0 and upwards, so that deep layers fire."""
    return copied(_body(width=width, **spec))


@cache
def _body(**spec: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = parts.build("models", spec, in_channels=CHANNELS, classes=CLASSES, neuron=neuron)
    built.double().train()
    norms = [m for m in built.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        for number, norm in enumerate(norms):
            key = image_keys(number, torch.zeros(1))
            norm.weight += 2.0 * uniform(key, norm.weight.shape)[0]
            norm.bias += 0.3 + 2.0 * uniform(key + 1, norm.bias.shape)[0]
            norm.momentum = None  # the plain average of what it sees: here of one batch, its own statistics
        for site, linear in [(n, m) for n, m in built.named_modules() if isinstance(m, nn.Linear) and n != "fc"]:
            linear.weight *= 8.0  # neurons behind a linear layer without a batch-norm fire too
            linear.bias += 2.0 * uniform(image_keys(len(site), torch.zeros(1)), linear.bias.shape)[0]
        built.classify(encoded(), exact)
    return built.eval()


def encoded(*, size: int = 32) -> Tensor:
    """(T,B,C,size,size), another picture in every step and image."""
    return uniform(image_keys(0, torch.arange(B)), (T, CHANNELS, size, size)).transpose(0, 1).double()


@each_spec
def test_it_says_what_it_takes_and_gives_logits_per_image(spec: dict[str, Any]) -> None:
    part = body(spec)
    assert (part.in_channels, part.classes) == (CHANNELS, CLASSES)
    logits = part.classify(encoded(), exact)
    assert logits.shape == (B, CLASSES)
    assert torch.isfinite(logits).all()
    assert len(logits.unique(dim=0)) == B  # the images are told apart


@each_spec
def test_every_neuron_is_called_once_by_the_name_it_has(spec: dict[str, Any]) -> None:
    part, sites = body(spec), []

    def rule(unit: Neuron, currents: Tensor, site: str) -> Tensor:
        assert part.get_submodule(site) is unit
        assert currents.shape[:2] == (T, B)
        sites.append(site)
        return exact(unit, currents, site)

    part.classify(encoded(), rule)
    assert len(set(sites)) == len(sites)
    assert set(sites) == {name for name, m in part.named_modules() if isinstance(m, Stepwise)}


@each_spec
def test_folding_time_into_the_batch_changes_nothing(spec: dict[str, Any]) -> None:
    """In eval mode an image alone gives what it gives in a batch, and so does every order of the batch."""
    part, z, order = body(spec), encoded(), torch.tensor([2, 0, 3, 1])
    whole = part.classify(z, exact)
    assert whole.std(0).max() > 0
    torch.testing.assert_close(part.classify(z[:, order], exact), whole[order], rtol=1e-10, atol=1e-10)
    for i in range(B):
        alone = part.classify(z[:, i : i + 1], exact)
        torch.testing.assert_close(alone, whole[i : i + 1], rtol=1e-10, atol=1e-10)


@each_spec
def test_what_the_first_steps_say_does_not_depend_on_later_ones(spec: dict[str, Any]) -> None:
    part, z = body(spec), encoded()
    other = torch.cat([z[:-1], 1 - z[-1:]])
    as_is, changed = ([k * part.classify(x[:k], exact) for k in range(1, T + 1)] for x in (z, other))
    torch.testing.assert_close(as_is[:-1], changed[:-1], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(as_is[-1], changed[-1])


@each_spec
def test_every_parameter_gets_a_gradient(spec: dict[str, Any]) -> None:
    """In train mode, under a wide surrogate; taps that only ever see padding may have none, whole weights may not."""
    part = body(spec).train()
    loss = part.classify(encoded(), ATan(alpha=0.5)).square().sum()
    names, parameters = zip(*part.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    assert [n for n, g in zip(names, gradients, strict=True) if not g.abs().max() > 0] == []


@each_spec
def test_no_choice_is_stored_on_the_model(spec: dict[str, Any]) -> None:
    part, z = body(spec), encoded()
    with untouched(part):
        first = part.classify(z, exact)
        assert torch.equal(part.classify(z, ATan(alpha=9.0)), first)
        assert torch.equal(part.classify(z, exact), first)


@pytest.mark.parametrize("name", parts.names("models"))
def test_a_value_that_is_no_choice_is_refused(name: str) -> None:
    for option, values in literals(name).items():
        wrong = {"name": name, option: "no such choice" if isinstance(values[0], str) else -1}
        with pytest.raises(UsageError):
            parts.build("models", wrong, in_channels=1, classes=2, neuron=neuron)
        with pytest.raises(UsageError):
            parts.find("models", name)(in_channels=1, classes=2, neuron=neuron, **{option: wrong[option]})
    with pytest.raises(UsageError):
        parts.build("models", {"name": name, "width": 0}, in_channels=1, classes=2, neuron=neuron)


def convolution(site: str, outputs: int, inputs: int, kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{site}.weight": (outputs, inputs, kernel, kernel)}


def batch_norm(site: str, channels: int) -> dict[str, tuple[int, ...]]:
    rows = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{site}.{row}": (channels,) for row in rows}, f"{site}.num_batches_tracked": ()}


def resnet(
    blocks: tuple[int, ...], kernels: tuple[int, ...], stem: int, width: int, *, spiking_shortcut: bool
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a residual network of PLIF neurons, written down from He et al.'s table and its code."""
    names = {**convolution("conv1", width, CHANNELS, stem), **batch_norm("bn1", width), "sn1.w": ()}
    inputs, bottleneck = width, len(kernels) == 3
    for stage, count in enumerate(blocks):
        planes = width * 2**stage
        outputs = 4 * planes if bottleneck else planes
        for j in range(count):
            site, channels = f"layer{stage + 1}.{j}", inputs
            for i, kernel in enumerate(kernels, start=1):
                wide = outputs if i == len(kernels) else planes
                names |= convolution(f"{site}.conv{i}", wide, channels, kernel) | batch_norm(f"{site}.bn{i}", wide)
                names[f"{site}.sn{i}.w"] = ()
                channels = wide
            if j == 0 and (stage > 0 or inputs != outputs):
                names |= convolution(f"{site}.downsample.0", outputs, inputs, 1)
                names |= batch_norm(f"{site}.downsample.1", outputs)
                if spiking_shortcut:
                    names[f"{site}.downsample_sn.w"] = ()
            inputs = outputs
    return {**names, "fc.weight": (CLASSES, inputs), "fc.bias": (CLASSES,)}


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize("depth", [18, 34, 50])
@pytest.mark.parametrize("name", ["sew_resnet", "spiking_resnet"])
def test_state_dict_of_the_residual_networks(name: str, depth: int, stem: str) -> None:
    blocks = (2, 2, 2, 2) if depth == 18 else (3, 4, 6, 3)
    kernels = (1, 3, 1) if depth == 50 else (3, 3)
    expected = resnet(blocks, kernels, 7 if stem == "imagenet" else 3, 2, spiking_shortcut=name == "sew_resnet")
    found = body({"name": name, "depth": depth, "stem": stem}, width=2).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == expected


def test_state_dict_of_the_small_network() -> None:
    found = body({"name": "small_sew_resnet"}, width=2).state_dict()
    expected = resnet((1, 1), (3, 3), 3, 2, spiking_shortcut=True)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == expected


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("name", [name for name in parts.names("models") if name != "event_vgg"])  # without branches
def test_the_neuron_that_runs_last_is_the_deepest(name: str, depth: int) -> None:
    """Deepest by what feeds what: one more than the deepest layer whose spikes reach the currents directly."""
    part = body({"name": name, **({} if name == "small_sew_resnet" else {"depth": depth})}, width=2)
    depths: dict[str, int] = {}
    leaves: dict[str, Tensor] = {}

    def rule(unit: Neuron, currents: Tensor, site: str) -> Tensor:
        feeds: Any = [None] * len(leaves)
        if leaves:
            feeds = torch.autograd.grad(currents.sum(), list(leaves.values()), retain_graph=True, allow_unused=True)
        feeders = [depths[other] for other, g in zip(leaves, feeds, strict=True) if g is not None]
        depths[site] = 1 + max(feeders, default=0)
        leaves[site] = exact(unit, currents, site).detach().requires_grad_()
        return leaves[site]

    part.requires_grad_(False).classify(encoded(), rule)
    *before, last = depths.values()
    assert last > max(before) > 2


JOINS = {
    ("ADD", False): lambda shortcut, branch: shortcut + branch,
    ("AND", False): lambda shortcut, branch: shortcut * branch,
    ("IAND", False): lambda shortcut, branch: shortcut * (1 - branch),
    ("ADD", True): lambda shortcut, branch: shortcut + branch,
    ("AND", True): lambda shortcut, branch: shortcut * branch,
    ("IAND", True): lambda shortcut, branch: branch * (1 - shortcut),  # the other way round, as SpikingJelly has it
}


@pytest.mark.parametrize(("connect", "bottleneck"), JOINS)
def test_branches_of_a_sew_block_meet_after_their_spikes(connect: str, bottleneck: bool) -> None:
    """From the spikes alone: pool, then join block by block, then mean and linear layer give the logits."""
    part, spikes = body({"name": "sew_resnet", "connect": connect, "depth": 50 if bottleneck else 18}), {}

    def rule(unit: Neuron, currents: Tensor, site: str) -> Tensor:
        spikes[site] = exact(unit, currents, site)
        return spikes[site]

    logits = part.classify(encoded(), rule)
    z = nn.functional.max_pool2d(spikes["sn1"].flatten(0, 1), 3, 2, 1)
    for stage, count in enumerate((3, 4, 6, 3) if bottleneck else (2, 2, 2, 2), start=1):
        for j in range(count):
            site = f"layer{stage}.{j}"
            shortcut = spikes[f"{site}.downsample_sn"].flatten(0, 1) if f"{site}.downsample_sn" in spikes else z
            z = JOINS[connect, bottleneck](shortcut, spikes[f"{site}.sn{3 if bottleneck else 2}"].flatten(0, 1))
    expected = part.fc(z.mean((2, 3))).view(T, B, -1).mean(0)
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
    assert z.any()
