"""Square: the published schedule, patches that are squares, forwards alone, and the corner on a small linear model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import ascent
from torch import Tensor

from spikeproof.attacks.square import Square
from spikeproof.errors import UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys, normal, uniform
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.types import Score

B, EPS = 5, 0.1
KEYS = image_keys(0, torch.arange(B))
ESTIMATOR = WhiteBox(ATan())


def images(*shape: int, count: int = B, inside: bool = True) -> Tensor:
    x = uniform(image_keys(1, torch.arange(count)), shape).double()
    return 0.3 + 0.4 * x if inside else (1.4 * x - 0.2).clamp(0, 1)


class Recorder:
    """Keeps the points, their scores, and whether a gradient was asked. `score(x)` is the loss, of shape (B,)."""

    final = False

    def __init__(self, score: Any, fooled: Any = None) -> None:
        self.score = score
        self.fooled = (lambda x: torch.zeros(len(x), dtype=torch.bool)) if fooled is None else fooled
        self.points: list[Tensor] = []
        self.losses: list[Tensor] = []
        self.salts: list[int] = []
        self.gradients = 0

    def __call__(self, x: Tensor, rule: Any, salt: int) -> Score:
        self.gradients += int(x.requires_grad or torch.is_grad_enabled())
        self.points.append(x.clone())
        self.salts.append(salt)
        self.losses.append(self.score(x))
        return Score(self.losses[-1], self.fooled(x))


def slope(*shape: int) -> Tensor:
    return normal(image_keys(2, torch.arange(1)), shape)[0].double()


def linear(w: Tensor) -> Any:
    return lambda x: (x * w).flatten(1).sum(1)


def falling() -> Any:
    """A loss that is lower at every call: no patch is ever taken."""
    losses = iter(range(0, -1_000_000, -1))
    return lambda x: torch.full((len(x),), float(next(losses)), dtype=x.dtype)


@pytest.mark.parametrize("queries", [100, 500, 1000, 5000, 10_000])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (28, 20)])
@pytest.mark.parametrize("p", [0.05, 0.8, 1.0])
def test_sides_follow_the_schedule(queries: int, height: int, width: int, p: float) -> None:
    attack = Square(queries=queries, p=p)
    for query in range(queries):
        assert attack.side(query, height, width) == ascent.square_side(query, queries, p, height, width)


def test_published_sides() -> None:
    """32 x 32, p = 0.8, 10,000 queries: the first query after each halving."""
    attack = Square(queries=10_000)
    marks = (0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)
    # round(sqrt(0.8 * 1024 / 2^k))
    assert [attack.side(query, 32, 32) for query in marks] == [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]
    assert [attack.side(query - 1, 32, 32) for query in marks[1:]] == [29, 20, 14, 10, 7, 5, 4, 3, 2]


@pytest.mark.parametrize("queries", [1, 2, 37, 150])
def test_queries_are_counted_and_no_gradient_is_asked(queries: int) -> None:
    f = Recorder(linear(slope(2, 6, 6)))
    Square(queries=queries)(f, images(2, 6, 6), Linf(EPS), ESTIMATOR, KEYS)
    assert len(f.points) == queries == len(set(f.salts))
    assert f.gradients == 0


def no_estimator(*_: Any) -> Any:
    raise AssertionError("Square asked an estimator")


def test_no_estimator_is_asked() -> None:
    class Refusing:
        final = False

        init = __call__ = no_estimator

    Square(queries=20)(Recorder(linear(slope(1, 4, 4))), images(1, 4, 4), Linf(EPS), Refusing(), KEYS)


@pytest.mark.parametrize("inside", [True, False])
def test_it_starts_with_stripes(inside: bool) -> None:
    """One sign for each channel and column, at full budget; every image its own."""
    x0 = images(3, 6, 7, inside=inside)
    f = Recorder(falling())
    x = Square(queries=1)(f, x0, Linf(EPS), ESTIMATOR, KEYS)
    up, down = (x0 + EPS).clamp(0, 1), (x0 - EPS).clamp(0, 1)
    risen = x == up
    assert torch.equal(x, torch.where(risen, up, down))
    assert torch.equal(risen, risen[:, :, :1].expand_as(risen))
    columns = risen[:, :, 0]
    assert 0.3 < columns.double().mean() < 0.7
    assert len({tuple(image.flatten().tolist()) for image in columns}) == B


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 5)])
def test_a_patch_is_a_square_of_the_scheduled_side_with_one_sign_a_channel(height: int, width: int) -> None:
    """While nothing is taken, each query differs from the stripes in a patch's rows and its columns of other sign."""
    queries, channels = 120, 3
    f = Recorder(falling())
    x0 = images(channels, height, width)
    attack = Square(queries=queries)
    start = attack(f, x0, Linf(EPS), ESTIMATOR, KEYS)
    assert torch.equal(start, f.points[0])
    rows_seen, other = set(), 0
    for query in range(1, queries):
        side = attack.side(query, height, width)
        changed = f.points[query] != start
        for image in range(B):
            for channel in range(channels):
                where = changed[image, channel].nonzero()
                if not len(where):
                    continue
                rows, columns = where[:, 0].unique(), where[:, 1].unique()
                assert len(rows) == side == int(rows[-1] - rows[0]) + 1
                assert int(columns[-1] - columns[0]) < side
                assert len(where) == len(rows) * len(columns)
                signs = (f.points[query] - x0)[image, channel, where[:, 0], where[:, 1]].sign().unique()
                assert len(signs) == 1
                rows_seen.add(int(rows[0]))
        other += int(len({tuple(image.any(0).any(1).tolist()) for image in changed}) > 1)
    assert rows_seen == set(range(height))  # at the last sides, of one pixel, the whole height is reached
    assert other > queries / 2  # images do not share a place


def test_the_score_never_falls_and_each_query_builds_on_the_best() -> None:
    w, x0, queries = slope(2, 6, 6), images(2, 6, 6), 200
    f = Recorder(lambda x: linear(w)(x) - 4 * linear(w)(x - 0.5).square())
    attack = Square(queries=queries)
    x = attack(f, x0, Linf(EPS), ESTIMATOR, KEYS)
    losses = torch.stack(f.losses)
    torch.testing.assert_close(f.score(x), losses.amax(0), rtol=1e-12, atol=0)
    taken = 0
    for query in range(1, queries):
        best = losses[:query].amax(0)
        held = torch.stack([f.points[int(losses[:query, i].argmax())][i] for i in range(B)])
        side = attack.side(query, 6, 6)
        for image in range(B):
            # (x - eps) + 2 eps may miss x + eps by rounding: two points of one score may differ by that much.
            moved = (f.points[query][image] - held[image]).abs() > 1e-9
            rows, columns = moved.any(0).nonzero(as_tuple=True)
            if len(rows):
                assert int(rows.max() - rows.min()) < side
                assert int(columns.max() - columns.min()) < side
        taken += int((losses[query] > best).sum())
    assert taken > B


@pytest.mark.parametrize("shape", [(1, 3, 4), (3, 2, 2), (2, 1, 4)])
@pytest.mark.parametrize("inside", [True, False])
def test_it_reaches_the_corner_of_a_small_linear_model(shape: tuple[int, ...], inside: bool) -> None:
    w, x0 = slope(*shape), images(*shape, inside=inside)
    x = Square(queries=500)(Recorder(linear(w)), x0, Linf(EPS), ESTIMATOR, KEYS)
    torch.testing.assert_close(x, (x0 + EPS * w.sign()).clamp(0, 1), rtol=0, atol=1e-12)


def test_ties_are_taken_with_an_even_chance() -> None:
    """A score made of spike counts often stays equal: a plateau is walked, as the next query shows, not stood on."""
    count = 1200
    x0, keys = images(1, 4, 4, count=count), image_keys(3, torch.arange(count))
    f = Recorder(lambda x: torch.zeros(len(x), dtype=x.dtype))
    x = Square(queries=3)(f, x0, Linf(EPS), ESTIMATOR, keys)
    first, second, third = (point.flatten(1) for point in f.points)
    moved = first != second
    differs = moved.any(1)
    # The third builds on the second or on the first; its own patch, of one pixel, seldom falls on the same place.
    taken = ((third == second) | ~moved).all(1)[differs]
    assert differs.sum() > 400
    # Five standard deviations of a fair coin thrown 400 times are 0.125.
    assert abs(taken.double().mean().item() - 0.5) < 0.125
    assert torch.equal(x, f.points[0])  # none was better


def test_a_success_is_taken_at_any_score_and_kept() -> None:
    """Broken where the first pixel is low, while the score rises with it."""
    w, x0 = torch.ones(1, 4, 4).double(), images(1, 4, 4)
    f = Recorder(linear(w), lambda x: x[:, 0, 0, 0] < x0[:, 0, 0, 0])
    x = Square(queries=300)(f, x0, Linf(EPS), ESTIMATOR, KEYS)
    assert f.fooled(x).all()
    assert not f.fooled(f.points[0]).all()
    best = torch.stack([torch.where(f.fooled(p), loss, -torch.inf) for p, loss in zip(f.points, f.losses, strict=True)])
    torch.testing.assert_close(f.score(x), best.amax(0), rtol=1e-12, atol=0)


def test_an_image_is_searched_the_same_alone() -> None:
    w, x0 = slope(3, 5, 5), images(3, 5, 5)
    whole = Square(queries=80)(Recorder(linear(w)), x0, Linf(EPS), ESTIMATOR, KEYS)
    for i in range(B):
        alone = Square(queries=80)(Recorder(linear(w)), x0[i : i + 1], Linf(EPS), ESTIMATOR, KEYS[i : i + 1])
        assert torch.equal(alone[0], whole[i])


@pytest.mark.parametrize("options", [{"queries": 0}, {"p": 0.0}, {"p": 1.5}])
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="queries >= 1 and p in"):
        Square(**options)  # type: ignore[arg-type]


def test_l2_and_other_shapes_are_refused() -> None:
    f = Recorder(linear(slope(1, 4, 4)))
    with pytest.raises(UsageError, match=r"Linf threat on images.*got L2"):
        Square()(f, images(1, 4, 4), L2(EPS), ESTIMATOR, KEYS)
    with pytest.raises(UsageError, match=r"Linf threat on images.*\(5, 2, 1, 4, 4\)"):
        Square()(f, images(2, 1, 4, 4), Linf(EPS), ESTIMATOR, KEYS)
