"""The victim: what it accepts, what it is made of, and a borrowed copy that gives nothing back."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from small import adapted, built, digits, trained, untouched
from torch import Tensor, nn

from spikeproof.encoders.direct import Direct
from spikeproof.encoders.phase import Phase
from spikeproof.encoders.poisson import Poisson
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.layers.copies import copied
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys, signs
from spikeproof.victims.victim import Victim, borrowed

X, Y, IDS = digits(6)
KEYS = image_keys(0, IDS)


def norms(victim: Victim) -> list[nn.BatchNorm2d]:
    return [m for m in victim.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("encoder", ["direct", "phase", "poisson", "latency"])
def test_calling_is_encoding_and_then_classifying(encoder: str) -> None:
    victim = adapted(encoder, steps=4)
    z = victim.encode(X, KEYS)
    assert z.shape == (4, 6, 1, 8, 8)
    logits = victim(X, exact, KEYS)
    assert logits.shape == (6, 10)
    assert torch.equal(logits, victim.classify(z, exact))
    assert torch.equal(logits, victim(X, ATan(), KEYS))


def test_it_says_what_its_parts_say() -> None:
    victim = built("poisson")
    assert (victim.in_channels, victim.classes, victim.steps, victim.stochastic) == (1, 10, 3, True)
    assert not built("direct").stochastic


def test_a_call_leaves_nothing_behind_in_eval_mode() -> None:
    victim = trained("poisson")
    with untouched(victim):
        first = victim(X, exact, KEYS)
        victim(1 - X, ATan(), KEYS)
        assert torch.equal(victim(X, exact, KEYS), first)


def test_no_steps_are_refused() -> None:
    with pytest.raises(UsageError, match="steps >= 1"):
        Victim(built().body, Direct(), 0)


def poisoned(value: float) -> Tensor:
    x = X.clone()
    x[4, 0, 3, 3] = value
    return x


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (poisoned(float("nan")), "pixels in \\[0,1\\].*nan"),
        (poisoned(float("inf")), "pixels in \\[0,1\\].*inf"),
        (poisoned(float("-inf")), "pixels in \\[0,1\\].*-inf"),
        (poisoned(1.01), "pixels in \\[0,1\\].*1.01"),
        (poisoned(-0.01), "pixels in \\[0,1\\].*-0.01"),
        (255 * X, "divide by 255"),
        ((255 * X).to(torch.uint8), "floating-point pixels.*uint8"),
        (X.expand(-1, 3, -1, -1), r"shape \(6, 3, 8, 8\)"),
        (X[:, 0], r"shape \(6, 8, 8\)"),
        (X[0], r"shape \(1, 8, 8\)"),
        (X.permute(0, 2, 3, 1), r"shape \(6, 8, 8, 1\)"),
    ],
)
def test_what_is_no_image_is_refused(x: Tensor, words: str) -> None:
    victim = trained()
    for call in (lambda: victim(x, exact, KEYS), lambda: victim.encode(x, KEYS)):
        with pytest.raises(SpikeproofError, match=words):
            call()


def test_float_rounding_at_the_ends_is_accepted() -> None:
    logits = trained()((X * (1 + 1e-7)).clamp(max=1 + 1e-7), exact, KEYS)
    assert logits.shape == (6, 10)


def test_no_image_gives_no_logits() -> None:
    assert trained()(X[:0], exact, KEYS[:0]).shape == (0, 10)


def test_another_gradient_through_the_same_code_is_allowed() -> None:
    victim = trained("phase")
    other = victim.attacked_through(Phase(gradient="straight"))
    assert other.body is victim.body
    assert not other.training
    assert torch.equal(other(X, exact, KEYS), victim(X, exact, KEYS))

    def gradient(which: Victim) -> Tensor:
        x = X.clone().requires_grad_()
        return torch.autograd.grad(which(x, ATan(), KEYS)[:, 0].sum(), x)[0]

    assert not torch.allclose(gradient(other), gradient(victim))


@pytest.mark.parametrize(
    ("deployed", "attacker"),
    [
        ("phase", Direct()),
        ("phase", Phase(planes=2, reach=1)),
        ("direct", Poisson()),
        ("poisson", Direct()),
        ("latency", Phase()),
    ],
)
def test_another_forward_is_refused(deployed: str, attacker: object) -> None:
    victim = trained(deployed).attacked_through(attacker)  # type: ignore[arg-type]
    with pytest.raises(SpikeproofError, match="attacker's encoder with the forward of"):
        victim(X, exact, KEYS)


@dataclass(frozen=True)
class Dimmed:
    """Direct coding, but for one pixel of one image in one step."""

    @property
    def stochastic(self) -> bool:
        return False

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        z = Direct()(x, steps, keys).clone()
        z[-1, -1, 0, 0, 0] = z[-1, -1, 0, 0, 0] + 2.0**-20
        return z


def test_a_single_different_pixel_is_refused() -> None:
    with pytest.raises(SpikeproofError, match="another one"):
        trained().attacked_through(Dimmed())(X, exact, KEYS)


def test_a_borrowed_copy_shares_weights_and_owns_buffers() -> None:
    victim = trained(neuron="plif")
    copy = borrowed(victim)
    pairs = list(zip(victim.parameters(), copy.parameters(), strict=True))
    assert pairs
    assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)
    assert all(a.requires_grad and not b.requires_grad for a, b in pairs)
    buffers = list(zip(victim.buffers(), copy.buffers(), strict=True))
    assert buffers
    assert all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in buffers)
    assert torch.equal(copy(X, exact, KEYS), victim(X, exact, KEYS))


def test_nothing_that_can_change_belongs_to_a_network_and_its_copy() -> None:
    """As copy.deepcopy does it: what two modules have in common is one thing in the copy too, and another."""
    victim = trained()
    first, last = norms(victim)[0], norms(victim)[-1]
    first.both = last.both = {}  # type: ignore[assignment]
    first.some, first.several = OrderedDict(full=[1]), {2}  # type: ignore[assignment]
    copy = copied(victim)
    for own, other in zip(victim.modules(), copy.modules(), strict=True):
        assert vars(own).keys() == vars(other).keys()
        for name, held in vars(own).items():
            assert type(vars(other)[name]) is type(held)
            assert vars(other)[name] is not held or isinstance(held, int | float | str | tuple | None)
    ours, theirs = norms(copy)[0], norms(copy)[-1]
    assert ours.both is theirs.both is not first.both
    assert (ours.some, ours.several) == (first.some, first.several)
    with untouched(victim):
        ours.register_forward_hook(lambda *_: None)
    assert all(torch.equal(a, b) and a is not b for a, b in zip(victim.parameters(), copy.parameters(), strict=True))


def test_a_copy_in_train_mode_moves_its_own_statistics_only() -> None:
    victim = trained()
    with untouched(victim):
        copy = borrowed(victim, train=True)
        copy(X, exact, KEYS)
    assert copy.training
    for own, other in zip(norms(victim), norms(copy), strict=True):
        assert not torch.equal(own.running_mean, other.running_mean)  # type: ignore[arg-type]


def test_a_victim_in_train_mode_is_refused() -> None:
    """Also where one batch-norm alone was forgotten; the paper's protocol takes it on purpose."""
    victim = trained()
    norms(victim)[-1].train()
    for one in (victim, trained().train()):
        with pytest.raises(SpikeproofError, match=r"train mode.*victim.eval\(\)"):
            borrowed(one)
        assert all(m.training for m in borrowed(one, train=True).modules())


def test_a_nan_image_is_refused_where_torch_alone_answers() -> None:
    """NaN >= v_threshold is False, so that a bare network turns a NaN image into silence and finite logits."""
    conv, norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4).eval()
    images = X.clone()
    images[2] = float("nan")
    membrane, counts = torch.zeros(6, 4, 8, 8), torch.zeros(6, 4)
    for _ in range(3):
        membrane = membrane + norm(conv(images))
        spikes = (membrane >= 1.0).float()
        membrane = (1 - spikes) * membrane
        counts = counts + spikes.mean((2, 3))
    assert torch.isfinite(counts).all()
    victim = trained()
    for call in (
        lambda: victim(images, exact, KEYS),
        lambda: victim.classify(images.expand(3, *images.shape), exact),  # behind the encoder, past the check of pixels
        lambda: victim.classify(images.expand(3, *images.shape), ATan()),
    ):
        with pytest.raises(SpikeproofError, match=r"finite input currents|pixels in"):
            call()


def test_the_logits_are_a_plateau_at_small_steps_and_not_at_a_grey_level() -> None:
    """Share of images whose logits are identical after a random sign step: differences below 1e-4 see nothing."""
    images, _, ids = digits(100)
    images = (0.1 + 0.8 * images).double()
    victim, keys = trained().double(), image_keys(0, ids)
    shares = []
    with torch.no_grad():
        clean = victim(images, exact, keys)
        for h in (1e-7, 1e-5, 1e-4, 1e-3, 1 / 255, 4 / 255):
            moved = victim(images + h * signs(image_keys(1, ids), (1, 8, 8)), exact, keys)
            shares.append((moved == clean).all(1).double().mean().item())
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[3] < shares[1]
    assert shares[-1] < 0.5 < shares[2]
