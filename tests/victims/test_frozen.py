"""The frozen twin: the deployed network's answers and gradients to rounding, and never in the place of its verdict."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import made
from small import adapted, built, digits, trained, untouched
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.attacks.pgd import PGD
from spikeproof.encoders.phase import Phase
from spikeproof.errors import SpikeproofError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, outcomes
from spikeproof.layers.conv import Conv2d, as_matrix, by_matrix, fits
from spikeproof.layers.folded import FoldedConv, fold
from spikeproof.layers.max_pool import MaxPool2d, max_pool, slim
from spikeproof.losses import cross_entropy
from spikeproof.metrics.robustness import summarise
from spikeproof.models.small_sew_resnet import SmallSEWResNet
from spikeproof.neurons.if_ import IF
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys
from spikeproof.threats.linf import Linf
from spikeproof.victims.batch import Batch
from spikeproof.victims.frozen import FrozenVictim, freeze
from spikeproof.victims.victim import Victim, borrowed

X, Y, IDS = digits(24)
KEYS = image_keys(0, IDS)

pytestmark = pytest.mark.usefixtures("fast_paths")


@pytest.fixture
def fast_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of the tests says."""
    monkeypatch.setenv("SPIKEPROOF_FAST", "1")


def gradient(victim: Victim, x: Tensor = X, y: Tensor = Y, keys: Tensor = KEYS) -> tuple[Tensor, Tensor]:
    point = x.clone().requires_grad_()
    logits = victim(point, ATan(), keys)
    return logits.detach(), torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), point)[0]


# --- layers ---


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Conv2d, nn.BatchNorm2d, Tensor]:
    kernel, stride = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    padding, channels = draw(st.integers(0, kernel // 2)), draw(st.integers(1, 6))
    height, width = draw(st.integers(kernel - padding, 9)), draw(st.integers(kernel - padding, 9))
    torch.manual_seed(draw(st.integers(0, 999)))
    conv = Conv2d(channels, draw(st.integers(1, 6)), kernel, stride, padding, bias=draw(st.booleans())).double()
    norm = nn.BatchNorm2d(conv.out_channels).double().eval()
    for value in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert value is not None
        value.uniform_(0.5, 1.5)
    return conv, norm, torch.randn(draw(st.integers(0, 4)), channels, height, width, dtype=torch.float64)


@settings(max_examples=150, deadline=None)
@given(layers())
def test_a_folded_layer_is_convolution_and_norm(case: tuple[Any, ...]) -> None:
    conv, norm, x = case
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.testing.assert_close(FoldedConv(conv, norm)(x), norm(conv.eval()(x)), rtol=1e-10, atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(layers())
def test_training_convolutions_are_convolutions_with_their_gradients(case: tuple[Any, ...]) -> None:
    conv, _, x = case
    found = []
    for mode in (True, False):
        point = x.clone().requires_grad_()
        out = conv.train(mode)(point)
        found.append((out, *torch.autograd.grad(out.sin().sum(), [point, conv.weight])))
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [{"groups": 2}, {"dilation": 2}, {"padding_mode": "reflect"}, {"padding": "same"}, {"kernel_size": 1, "groups": 2}],
    ids=str,
)
def test_an_unusual_convolution_is_itself_in_training_and_is_not_folded(options: dict[str, Any]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 1, **options}
        conv, x = Conv2d(**shape).double(), torch.randn(5, 4, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(conv.train()(x), conv.eval()(x))
    pair = nn.Sequential(conv, nn.BatchNorm2d(6).double()).eval()
    fold(pair, "0", "1")
    assert pair[0] is conv


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}], ids=str)
def test_a_norm_that_is_no_scale_and_shift_is_not_folded(options: dict[str, Any]) -> None:
    norm = nn.BatchNorm2d(6, **options)
    pair = nn.Sequential(Conv2d(4, 6, 3), norm).eval()
    fold(pair, "0", "1")
    assert pair[1] is norm


def test_every_way_through_a_layer_is_taken() -> None:
    """The shapes of the paper's network on 32x32 images: by depth, by convolution, by matrix."""
    three, one = ((1, 1), (1, 1)), ((2, 2), (1, 1))
    weight = torch.randn(8, 4, 3, 3, dtype=torch.float64)
    assert [fits(weight, *three, (n, n)) for n in (4, 3, 2, 1)] == [False, False, True, True]
    assert fits(weight, *one, (2, 2))
    x = torch.randn(5, 4, 2, 2, dtype=torch.float64)
    for stride, padding in (three, one):
        matrix = as_matrix(weight, stride, padding, (2, 2))
        expected = F.conv2d(x, weight, None, stride, padding)
        torch.testing.assert_close(by_matrix(x, matrix, None, weight, stride, padding), expected)
        for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
            small = torch.randn(2, 2, *weight.shape[2:], dtype=torch.float64, requires_grad=True)
            assert check(lambda w, to=(stride, padding): as_matrix(w, *to, (2, 2)), small)
    stem, norm = Conv2d(3, 8, 7, 2, 3, bias=False).double(), nn.BatchNorm2d(8).double().eval()
    folded, image = FoldedConv(stem, norm), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(folded(image), norm(stem.eval()(image)))
    deep = folded._kept.of(folded.weight, ("deep", (3, 3)), lambda weight: pytest.fail("a stem by depth was not kept"))
    assert deep.shape == (8, 12, 4, 4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(3, 9), st.integers(2, 9), st.booleans(), st.integers(0, 99))
def test_fast_pools_are_the_pool_bit_by_bit(
    kernel: int, stride: int, size: int, channels: int, last: bool, seed: int
) -> None:
    """On binary maps, where everything ties."""
    pool = nn.MaxPool2d(kernel, stride, kernel // 2)
    x = (torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(seed)) < 0.4).float()
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    found = []
    for one in (pool, MaxPool2d(kernel, stride, kernel // 2), slim(pool)):
        point = x.clone(memory_format=torch.preserve_format).requires_grad_()
        out = one(point)
        weights = torch.arange(out.numel()).view_as(out).float()
        found.append((out.detach(), torch.autograd.grad((out * weights).sum(), point)[0]))
    for theirs, *others in zip(*found, strict=True):
        for ours in others:
            assert torch.equal(ours, theirs)
            assert ours.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    with torch.no_grad():
        values = MaxPool2d(kernel, stride, kernel // 2)(x)
    assert torch.equal(values, found[0][0])
    assert values.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    assert isinstance(slim(pool), nn.MaxPool2d)
    assert slim(nn.MaxPool2d(2, return_indices=True)).return_indices is True
    average = nn.AvgPool2d(2)
    assert slim(average) is average


def test_a_pool_passes_nan_on_and_takes_one_map() -> None:
    x = torch.tensor([float("nan"), -1.0, 2.0, 3.0]).view(1, 2, 2).repeat(8, 1, 1)
    for maps in (x, x[None]):
        torch.testing.assert_close(max_pool(maps, 2, 2), maps[..., :1, :1], equal_nan=True)


# --- networks ---


@pytest.mark.parametrize("encoder", ["direct", "phase", "latency", "poisson"])
@pytest.mark.parametrize("options", [{}, {"pool": "avg"}, {"connect": "IAND"}], ids=str)
def test_a_twin_answers_and_slopes_as_the_deployed_network(encoder: str, options: dict[str, Any]) -> None:
    victim = adapted(encoder, **options)
    with untouched(victim):
        twin = freeze(victim)
        assert isinstance(twin, FrozenVictim)
        (logits, slope), (expected, deployed) = gradient(twin), gradient(borrowed(victim))
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(slope, deployed, rtol=1e-3, atol=1e-4 * float(deployed.abs().max()))
    assert deployed.abs().max() > 0
    assert not any(p.requires_grad for p in twin.parameters())


@pytest.mark.parametrize("model", ["sew_resnet", "spiking_resnet"])
def test_deep_networks_have_twins_too(model: str) -> None:
    victim = built("phase", model=model, steps=4).double().eval()
    x = X.double().repeat(1, 1, 4, 4)[:4]
    (logits, slope), (expected, deployed) = (gradient(v, x, Y[:4], KEYS[:4]) for v in (freeze(victim), victim))
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slope, deployed, rtol=1e-7, atol=1e-9 * float(deployed.abs().max()))


def test_a_twin_through_another_slope_and_pool() -> None:
    victim = trained("phase")
    other = Phase(gradient="secant", reach=20)
    twin = freeze(victim).attacked_through(other, "tie_spread")
    assert isinstance(twin, FrozenVictim)
    (_, slope), (_, deployed) = gradient(twin), gradient(victim.attacked_through(other, "tie_spread"))
    torch.testing.assert_close(slope, deployed, rtol=1e-3, atol=1e-4 * float(deployed.abs().max()))
    with pytest.raises(SpikeproofError, match="forward"):
        freeze(victim).attacked_through(Phase(planes=4))(X, exact, KEYS)


# --- when there is none, and when it is made again ---


def test_a_twin_is_made_once_and_again_when_weights_have_moved() -> None:
    victim = trained()
    first = freeze(victim)
    assert freeze(victim) is first
    assert freeze(first) is first
    with torch.no_grad():
        victim.body.fc.weight.mul_(2.0)  # type: ignore[union-attr, operator]
    second = freeze(victim)
    assert second is not first
    torch.testing.assert_close(second(X, exact, KEYS), victim(X, exact, KEYS), rtol=1e-5, atol=1e-5)
    assert freeze(trained()) is not second


def test_a_twin_is_made_again_when_a_setting_has_changed() -> None:
    """Steps, encoder and the neurons' constants are no tensors; the twin must answer as the victim does now."""
    victim = trained("phase")

    def answers() -> None:
        torch.testing.assert_close(freeze(victim)(X, exact, KEYS), victim(X, exact, KEYS), rtol=1e-5, atol=1e-5)

    answers()
    first = freeze(victim)
    victim.steps = 5
    answers()
    victim.encoder = Phase(planes=4)
    answers()
    victim.body.sn1.v_threshold = 0.5  # type: ignore[union-attr]
    answers()
    assert freeze(victim) is not first
    assert freeze(victim) is freeze(victim)


def test_a_twin_of_no_image_has_no_logits() -> None:
    victim = trained("phase")
    assert freeze(victim)(X[:0], exact, KEYS[:0]).shape == victim(X[:0], exact, KEYS[:0]).shape == (0, 10)


class Normalising(SmallSEWResNet):
    """Somebody's own network on top of one of ours."""

    def classify(self, z: Tensor, rule: Any) -> Tensor:
        return super().classify((z - 0.5) / 0.25, rule)


def test_a_network_that_changes_how_it_classifies_is_attacked_itself() -> None:
    victim = trained()
    body = Normalising(in_channels=1, classes=10, neuron=IF, width=4)
    body.load_state_dict(victim.body.state_dict())
    mine = Victim(body, victim.encoder, victim.steps).eval()
    assert not torch.allclose(mine(X, exact, KEYS), victim(X, exact, KEYS))
    assert torch.equal(freeze(mine)(X, exact, KEYS), mine(X, exact, KEYS))

    class Renamed(SmallSEWResNet):
        pass

    same = Renamed(in_channels=1, classes=10, neuron=IF, width=4)
    assert isinstance(freeze(Victim(same, victim.encoder, victim.steps).eval()), FrozenVictim)
    same.classify = lambda z, rule: z.sum()  # type: ignore[assignment, method-assign]
    patched = Victim(same, victim.encoder, victim.steps).eval()
    assert freeze(patched) is patched


def test_where_a_twin_would_lose_something_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    hooked = trained()
    hooked.body.conv1.register_full_backward_hook(lambda m, into, out: None)  # type: ignore[union-attr, operator]
    assert freeze(hooked) is hooked

    class Mine(Victim):
        pass

    plain = trained()
    mine = Mine(plain.body, plain.encoder, plain.steps).eval()
    assert freeze(mine) is mine
    changed = trained()
    changed.body.bn1 = nn.Sequential(changed.body.bn1, nn.Tanh()).eval()  # type: ignore[assignment, arg-type]
    torch.testing.assert_close(freeze(changed)(X, exact, KEYS), changed(X, exact, KEYS), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(changed(X, exact, KEYS), plain(X, exact, KEYS))
    monkeypatch.setenv("SPIKEPROOF_FAST", "0")
    assert freeze(plain) is plain


def test_a_victim_in_train_mode_is_refused() -> None:
    with pytest.raises(SpikeproofError, match="eval mode"):
        freeze(built())


# --- the judge ---

CASE = Case(PGD(steps=5), WhiteBox(ATan()), cross_entropy)


def test_the_verdict_is_that_of_the_deployed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a twin that is wrong everywhere, no success of it counts, and the attack is run on the victim itself."""
    victim = trained()
    right = (victim(X, exact, KEYS).argmax(1) == Y).nonzero()[:, 0]
    batch = Batch.of(victim, X, Y, IDS, 0).take(right)
    honest = outcomes(victim, batch, "pgd", CASE, Linf(0.02))
    assert not any(row["twin_differs"] for row in honest)

    liar = FrozenVictim(freeze(victim).body, victim.encoder, victim.steps).eval()
    monkeypatch.setattr(liar.body, "beyond", lambda z, rule: -1e3 * F.one_hot(Y[right][: z.shape[1]], 10).float()
                        + 0.0 * z.sum())  # fmt: skip
    monkeypatch.setattr("spikeproof.evaluation.judge.freeze", lambda v: liar)
    with untouched(victim):
        misled = outcomes(victim, batch, "pgd", CASE, Linf(0.02))
    assert all(row["twin_differs"] for row in misled)
    assert [row["fooled"] for row in misled] == [row["fooled"] for row in honest]
    pairs = list(zip(misled, honest, strict=True))
    assert all(m["forwards"] > h["forwards"] for m, h in pairs if not h["fooled"])
    assert all(m["forwards"] >= h["forwards"] for m, h in pairs)  # a first point that is a success is confirmed at once


def test_the_summary_has_the_share_of_differing_answers() -> None:
    rows = [made("attack", image=i, twin_differs=i == 0) for i in range(8)]
    rows.append(made("attack", image=8, fooled=True, predicted=2, skipped=True))
    found = summarise(rows)["twin_differs"]
    assert (found["correct"], found["total"]) == (1, 8)
    assert summarise([made("attack")])["twin_differs"] is None
