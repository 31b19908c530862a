"""Networks of events under `wrap`: their layouts found, their own logits kept, and time in the wrong place refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeproof
from spikeproof.encoders.direct import Direct
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.interop.check import check
from spikeproof.tensors import exact, graft, image_keys, uniform

N, T = 4, 3
KEYS = image_keys(0, torch.arange(N))
GRIDS = (uniform(KEYS, (T, 2, 4, 4)) < 0.4).double()


class Step(nn.Module):
    """One step of a membrane that fires at 1 and is handed on: (N,2,4,4), state -> logits (N,3), state."""

    def __init__(self) -> None:
        super().__init__()
        weight = uniform(image_keys(1, torch.arange(3)), (32,)).double()
        self.weight = nn.Parameter(0.6 * weight - 0.25)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:
        v = x.flatten(1) @ self.weight.T + (0.0 if state is None else state)
        fired = (v >= 1.0).to(v)
        return fired, v - fired


class Sloped(Step):
    """The same, with a surrogate's slope."""

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:
        v = x.flatten(1) @ self.weight.T + (0.0 if state is None else state)
        fired = graft((v >= 1.0).to(v), torch.sigmoid(v - 1.0))
        return fired, v - fired


class Loop(nn.Module):
    """The same with the loop inside; axis: where it takes the time."""

    def __init__(self, axis: int, step: type[Step] = Step) -> None:
        super().__init__()
        self.step, self.axis = step(), axis

    def forward(self, x: Tensor) -> Tensor:
        state, out = None, []
        for frame in x.unbind(self.axis):
            fired, state = self.step(frame, state)
            out.append(fired)
        return torch.stack(out).mean(0)


def by_hand() -> Tensor:
    """Logits (N,3), one number after the other."""
    weight, found = Step().weight.detach(), torch.zeros(N, 3).double()
    for n in range(N):
        for k in range(3):
            v = 0.0
            for t in range(T):
                v += float((GRIDS[n, t].flatten() * weight[k]).sum())
                fired = float(v >= 1.0)
                v -= fired
                found[n, k] += fired / T
    return found


@pytest.mark.parametrize(
    ("network", "feed"), [(Loop(0), "all_steps"), (Loop(1), "batch_first"), (Step(), "steps")], ids=str
)
def test_every_layout_is_found_and_the_owner_s_logits_kept(network: nn.Module, feed: str) -> None:
    victim = spikeproof.wrap(network.eval(), GRIDS)
    assert victim.body.feed == feed
    assert (victim.takes, victim.steps, victim.in_channels) == ("TCHW", T, 2)
    torch.testing.assert_close(victim(GRIDS, exact, KEYS), by_hand())
    assert by_hand().std(0).min() > 0


def test_as_many_recordings_as_steps_are_told_apart() -> None:
    for network, feed in ((Loop(0), "all_steps"), (Loop(1), "batch_first")):
        for count in (2, 3):
            grids = GRIDS[:3, :count]
            victim = spikeproof.wrap(network.eval(), grids[:count])
            assert victim.body.feed == feed


@pytest.mark.parametrize(
    ("frames", "options", "told"),
    [
        (
            GRIDS.transpose(1, 2),
            {},
            r"\(B,T,2,H,W\), of two polarities, got shape \(4, 2, 3, 4, 4\).*transpose\(1, 2\)",
        ),
        (GRIDS.transpose(0, 1), {"steps": 3}, r"frames \(B,3,C,H,W\).*shape \(3, 4, 2, 4, 4\).*transpose\(0, 1\)"),
        (GRIDS, {"steps": 7}, r"leave steps away: the frames are 3"),
        (GRIDS[:1], {}, r"two images \(B,C,H,W\), or frames"),
        (GRIDS, {"encoder": Direct()}, r"an encoder of frames.*got Direct.*leave the encoder away"),
    ],
)
def test_time_in_the_wrong_place_is_refused(frames: Tensor, options: dict[str, Any], told: str) -> None:
    with pytest.raises((SpikeproofError, UsageError), match=told):
        spikeproof.wrap(Loop(0).eval(), frames, **options)


class Remembering(Loop):
    """The same, that does not begin at rest."""

    def __init__(self) -> None:
        super().__init__(1)
        self.register_buffer("left", torch.zeros(()).double())

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x) + self.left
        self.left = self.left + out.mean().detach()
        return out


@pytest.mark.parametrize(
    "network", [Loop(0, Sloped), Loop(1, Sloped), Sloped()], ids=["time first", "batch first", "step by step"]
)
def test_check_asks_networks_of_events_the_same_questions(network: nn.Module) -> None:
    labels = by_hand().argmax(1)
    found = check(network.eval(), GRIDS, labels, accuracy=1.0)
    assert not found.refused, str(found)
    assert found.victim is not None
    torch.testing.assert_close(found.victim(GRIDS, exact, KEYS), by_hand())
    assert found["accuracy"].verdict == "ok"
    assert "normalisation" not in {result.name for result in found.results}
    assert f"{N} images {(T, 2, 4, 4)}" in found["call"].says


def test_check_finds_what_a_network_of_events_remembers() -> None:
    found = check(Remembering().eval(), GRIDS)
    assert found.refused
    assert found.victim is None
    assert found["state and noise"].verdict == "refuse"


def test_check_refuses_time_in_the_wrong_place() -> None:
    with pytest.raises(SpikeproofError, match=r"transpose\(1, 2\)"):
        check(Loop(0).eval(), GRIDS.transpose(1, 2))
    with pytest.raises(UsageError, match="encoder of frames"):
        check(Loop(0).eval(), GRIDS, encoder=Direct())
