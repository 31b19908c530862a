"""The oracles against published or hand-computed numbers, and against each other, before anything rests on them."""

from __future__ import annotations

import pytest

from oracles import conv_taps, encoders, losses, neurons, sparsity, splitmix
from oracles.surrogates import SURROGATES

REACH = (
    (8, (0.06, 0.19, 0.44, 0.94, 1, 1, 1, 1)),
    (6, (0.05, 0.14, 0.33, 0.70, 0.98, 1, 1, 1)),
)


def test_splitmix_gives_the_published_words() -> None:
    assert splitmix.stream(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 7.0])
def test_a_primitive_is_the_integral_of_its_derivative(name: str, alpha: float) -> None:
    surrogate = SURROGATES[name]
    edges = surrogate.edges(alpha)
    step = 1e-5
    for i in range(-400, 401):
        x = i / 100 + 1e-3
        if any(abs(x - edge) < 2 * step for edge in edges):
            continue
        slope = (surrogate.primitive(x + step, alpha) - surrogate.primitive(x - step, alpha)) / (2 * step)
        assert slope == pytest.approx(surrogate.derivative(x, alpha), rel=1e-5, abs=1e-9)
    assert surrogate.primitive(0.0, alpha) == 0.5
    assert surrogate.primitive(-1e9, alpha) == pytest.approx(0.0, abs=1e-9)
    assert surrogate.primitive(1e9, alpha) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("tau", [None, 1.6])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("v_reset", [0.0, -0.3, 0.2, None])
def test_the_hand_recursion_is_the_derivative_of_a_smooth_neuron(
    tau: float | None, decay_input: bool, v_reset: float | None
) -> None:
    """With a smooth step in the place of the spike, the chain rule with the reset inside is an ordinary derivative."""
    physics = neurons.Physics(tau, decay_input, 0.8, v_reset)
    smooth = SURROGATES["gaussian"]
    currents, weights = [0.9, -0.2, 1.4, 0.3, 0.8], [0.7, -1.1, 0.4, 2.0, -0.6]

    def loss(values: list[float], changed: neurons.Physics = physics) -> float:
        trace = neurons.forward(changed, values, lambda x: smooth.primitive(x, 2.0))
        return sum(w * s for w, s in zip(weights, trace.spikes, strict=True))

    trace = neurons.forward(physics, currents, lambda x: smooth.primitive(x, 2.0))
    got = neurons.backward(physics, currents, trace, weights, lambda x: smooth.derivative(x, 2.0), through_reset=True)
    step = 1e-6
    for t in range(len(currents)):
        up, down = list(currents), list(currents)
        up[t] += step
        down[t] -= step
        assert got.currents[t] == pytest.approx((loss(up) - loss(down)) / (2 * step), rel=1e-6, abs=1e-8)
    if tau is not None:
        # d tau / dw = -exp(-w) = 1 - tau.
        by_tau = loss(currents, physics._replace(tau=tau + step)) - loss(currents, physics._replace(tau=tau - step))
        assert got.w == pytest.approx(by_tau / (2 * step) * (1 - tau), rel=1e-6, abs=1e-8)


def test_tau_of_the_plif_parameter() -> None:
    assert neurons.tau_of(0.0) == 2.0
    assert neurons.tau_of(-1.0986122886681098) == pytest.approx(4.0)


@pytest.mark.parametrize(("reach", "shares"), REACH)
def test_reachability_of_the_phase_bits(reach: int, shares: tuple[float, ...]) -> None:
    assert [encoders.phase_reach(k, reach) for k in range(1, 9)] == pytest.approx(shares, abs=0.005)


def test_reachability_of_the_latency_code() -> None:
    got = [encoders.latency_reach(reach, 10) for reach in (1, 2, 4, 6, 8, 16)]
    assert got == pytest.approx([0.070, 0.141, 0.281, 0.422, 0.562, 1.0], abs=0.0005)


@pytest.mark.parametrize("planes", [1, 3, 8])
def test_every_secant_of_the_phase_code_restores_the_value(planes: int) -> None:
    for v in range(2**planes):
        for h in range(1, 9):
            slopes = encoders.phase_secants(v, h, planes)
            assert sum(slope / 2**k for k, slope in enumerate(slopes, start=1)) == 1


def test_losses_by_hand() -> None:
    z = (2.0, 1.0, 0.5, -1.0)
    assert losses.margin(z, 0) == -1.0
    assert losses.dlr(z, 0) == pytest.approx(-2 / 3)
    assert losses.dlr(z, 1) == pytest.approx(2 / 3)
    assert losses.dlr_targeted(z, 0, 2) == pytest.approx(-2 / 3)
    assert losses.cross_entropy((0.0, 0.0), 1) == pytest.approx(0.6931471805599453)


def test_sparsity_of_four_numbers_by_hand() -> None:
    g = (0.0, 3.0, -4.0, 0.0)
    assert sparsity.zero_share(g) == 0.5
    assert sparsity.l1(g) == 7.0
    assert sparsity.l2(g) == 5.0
    assert sparsity.l1_ratio(g) == pytest.approx(0.7)
    assert sparsity.hoyer(g) == pytest.approx(0.6)
    # Ordered pairs of (0, 0, 3, 4): twice (3 + 4 + 3 + 4 + 1) = 30, over 2 * 16 * 7 / 4.
    assert sparsity.gini(g) == pytest.approx(30 / 56)
    assert sparsity.participation(g) == pytest.approx(625 / 337)
    assert sparsity.below_share(g, 0.75) == 0.75


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "live"),
    [(1, 3, 1, 1, 1), (2, 3, 2, 1, 4), (2, 3, 1, 1, 9), (2, 1, 2, 0, 1), (32, 7, 2, 3, 49), (1, 7, 2, 3, 1)],
)
def test_live_taps_by_hand(size: int, kernel: int, stride: int, padding: int, live: int) -> None:
    assert len(conv_taps.live_taps(size, kernel, stride, padding)) == live


@pytest.mark.parametrize(
    ("depth", "total", "percent"), [(18, 11_181_642, 62.1), (34, 21_289_802, 52.3), (50, 23_528_522, 23.4)]
)
def test_share_of_weights_that_only_meet_padding(depth: int, total: int, percent: float) -> None:
    """Of all parameters: convolutions without bias, batch-norm scale and shift, and a 10-class linear with bias."""
    count = conv_taps.count(depth)
    assert count.total == total
    assert round(100 * count.dead / count.total, 1) == percent
