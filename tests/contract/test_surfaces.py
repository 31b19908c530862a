"""Every surface: where a point starts, what it is worth, the box and the ball around it; and images of other axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from small import digits, trained, untouched
from torch import Tensor, nn

import spikeproof
from spikeproof import parts
from spikeproof.data import Images
from spikeproof.defences.vanilla import Vanilla
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.measures.gradients import gradient_rows
from spikeproof.neurons.if_ import IF
from spikeproof.rules.atan import ATan
from spikeproof.study.config import cell_from, rehearse
from spikeproof.tensors import exact, image_keys, on_grid
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.training.train import Recipe, train
from spikeproof.types import Grid, Rule
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

each_surface = pytest.mark.parametrize("name", parts.names("surfaces"))
X, Y, IDS = digits(4)
KEYS = image_keys(0, IDS)
BALLS = [name for name in parts.names("surfaces") if not isinstance(parts.surface(name), Grid)]
"""Surfaces on which a coordinate may have any value of the box."""


def shown(name: str) -> Tensor:
    """The images as a surface takes them."""
    surface = parts.surface(name)
    return on_grid(X, surface.quantum) if isinstance(surface, Grid) else X


@each_surface
def test_the_starting_points_answer_what_the_clean_images_answer(name: str) -> None:
    victim, surface = trained("phase"), parts.surface(name)
    with untouched(victim):
        x = shown(name)
        start = surface.start(victim, x.clone().requires_grad_(), KEYS)
        assert len(start) == len(x)
        assert not start.requires_grad
        assert torch.equal(surface.logits(victim, start, exact, KEYS), victim(x, exact, KEYS))


@each_surface
def test_only_what_is_an_image_lies_before_the_encoder(name: str) -> None:
    surface = parts.surface(name)
    assert surface.before_encoder == (surface.start(trained("phase"), shown(name), KEYS).shape == X.shape)


@pytest.mark.parametrize("name", BALLS)
@pytest.mark.parametrize("norm", [Linf, L2, L1])
def test_the_widest_ball_reaches_from_corner_to_corner_and_no_farther(name: str, norm: Any) -> None:
    surface = parts.surface(name)
    low, high = surface.box
    least, most = torch.full((1, 3, 5), low), torch.full((1, 3, 5), high)
    eps = surface.widest(norm.norm, 15)
    assert float(norm(eps, surface=name).distance(most, least)) == pytest.approx(eps)
    assert norm(eps, surface=name).box == surface.box


@each_surface
def test_a_surface_is_made_once(name: str) -> None:
    assert parts.surface(name) is parts.surface(name)


class Halved:
    """A surface of a user's own, by its dotted path: images of at most grey 1/2."""

    box = (0.0, 0.5)
    before_encoder = True

    def start(self, victim: Victim, x: Tensor, keys: Tensor) -> Tensor:
        return x.detach().clamp(max=0.5)

    def logits(self, victim: Victim, point: Tensor, rule: Rule, keys: Tensor) -> Tensor:
        return victim(point, rule, keys)

    def widest(self, norm: str, size: int) -> float:
        return 0.5


@pytest.mark.parametrize("norm", [Linf, L2, L1])
def test_a_threat_keeps_to_the_box_of_its_surface(norm: Any) -> None:
    x0 = torch.full((2, 4), 0.25)
    ball = norm(100.0, surface=f"{__name__}:Halved")
    assert ball.project(torch.full((2, 4), 3.0), x0).max() == 0.5
    assert norm(100.0).project(torch.full((2, 4), 3.0), x0).max() == 1.0


class Through:
    """Frames (B,T,C,H,W) as they are, one a step."""

    takes = "TCHW"
    stochastic = False

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        return x.transpose(0, 1)[:steps]


class Brighter(nn.Module):
    """Two classes: is the left half of the frames brighter than the right?"""

    in_channels, classes = 2, 2

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(3.0))

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        sides = rule(IF(), 2.0 * z, "sides").mean(0)
        left, right = sides[..., :2].flatten(1).mean(1), sides[..., 2:].flatten(1).mean(1)
        return self.gain * torch.stack([left, right], 1)


def frames(count: int = 12, steps: int = 3) -> Images:
    """Two channels of 4x4 pixels in `steps` frames; the label says which half is bright."""
    labels = torch.arange(count) % 2
    pixels = torch.full((count, steps, 2, 4, 4), 40, dtype=torch.uint8)
    pixels[labels == 0, ..., :2], pixels[labels == 1, ..., 2:] = 200, 200
    return Images(pixels, 255, labels, torch.arange(count) + 50, ("left", "right"), "halves")


def victim() -> Victim:
    return Victim(Brighter(), Through(), 3).eval()


def test_frames_are_evaluated_as_images_are() -> None:
    x, y, ids = frames().at(torch.arange(12))
    found = spikeproof.evaluate(victim(), x, y, ids=ids, tier="smoke", eps="8/255")
    attacks = [row for row in found.rows if row["kind"] == "attack"]
    assert {row["image"] for row in attacks} == set(ids.tolist())
    assert all(row["predicted"] == row["label"] for row in attacks)
    # 200/255 and 40/255 drive 3 and 0 or 1 spikes in 3 steps: no shift of 8/255 reverses which side has more.
    assert not any(row["fooled"] for row in attacks)


def test_gradient_rows_of_frames_measure_every_frame() -> None:
    x, y, ids = frames().at(torch.arange(4))
    rows = list(gradient_rows(victim(), Batch.of(victim(), x, y, ids, 0), rule=ATan(), scalars=("ce",), layers=False))
    assert {(row["site"], row["size"]) for row in rows} == {("image", 3 * 2 * 16), ("encoded", 2 * 16)}


@pytest.mark.parametrize("flip", [False, True])
def test_training_mirrors_left_and_right_of_every_frame(tmp_path: Path, flip: bool) -> None:
    turned: list[Tensor] = []

    class Watching(Vanilla):
        def __call__(self, victim: Any, x: Tensor, y: Tensor, *rest: Any) -> Tensor:
            left, right = x[..., :2].flatten(2).mean(2), x[..., 2:].flatten(2).mean(2)
            turned.append((left > right) != (y == 0)[:, None])  # (B,T)
            return super().__call__(victim, x, y, *rest)

    images = frames()
    train(
        victim(), images, images, recipe=Recipe(epochs=1, batch_size=12, flip=flip), defence=Watching(), rule=ATan(),
        craft=lambda x, y, keys, **more: x, seed=0, checkpoint=tmp_path / "c.safetensors", fingerprint="f",
        device=torch.device("cpu"), progress=False,
    )  # fmt: skip
    (every,) = turned
    assert torch.equal(every, every[:, :1].expand(-1, 3))  # all frames of an image or none
    assert 0 < int(every[:, 0].sum()) < 12 if flip else not every.any()


def test_images_of_the_other_axes_are_refused() -> None:
    with pytest.raises(SpikeproofError, match=r"\(B,T,2,H,W\)"):
        victim()(X, exact, KEYS)
    with pytest.raises(SpikeproofError, match=r"\(B,1,H,W\).*channels second"):
        trained()(frames().at(torch.arange(4))[0], exact, KEYS)


class Watched(Through):
    """The same, and which shapes it was given."""

    shapes: ClassVar[set[tuple[int, ...]]] = set()

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        self.shapes.add(tuple(x.shape))
        return super().__call__(x, steps, keys)


def test_a_rehearsal_plays_what_the_encoder_takes() -> None:
    cell = cell_from({"encoder": {"name": f"{__name__}:Watched"}, "steps": 3})
    rehearse(cell, in_channels=2, classes=2)
    assert {shape[1:] for shape in Watched.shapes} == {(3, 2, 4, 4)}  # of two polarities before the data are known


def test_a_surface_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="membrane"):
        parts.surface("membrane")
