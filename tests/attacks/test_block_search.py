"""Block search: the best corner of small affine victims by brute force, a plain twin of its greedy walk, exact budgets,
bounded passes, and the same for an image in any company."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import affine
import pytest
import torch
from counted import KEYS, B, Counted, corners, images, no_estimator, weighted
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikeproof import asking
from spikeproof.attacks.block_search import BlockSearch
from spikeproof.errors import UsageError
from spikeproof.losses import margin
from spikeproof.tensors import image_keys, normal, signs
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf


def search(
    f: Any, x0: Tensor, threat: Any, keys: Tensor = KEYS, *, start: Tensor | None = None, **options: Any
) -> Tensor:
    return BlockSearch(**options)(f, x0, threat, no_estimator, keys, start=start)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 2, 4), (1, 3, 3), (3, 2, 2), (10,)])
@pytest.mark.parametrize("width", [1, 5, 64])
def test_it_finds_the_best_corner_of_an_affine_victim(shape: tuple[int, ...], width: int) -> None:
    """Of two classes, or of several, where the margin is the largest of some planes: brute force over all corners. Who
    has come there is asked no more."""
    x0, eps = images(*shape), 0.1
    size = x0[0].numel()
    w = normal(image_keys(2, torch.arange(1)), (4, size))[0].double()

    def loss(x: Tensor) -> Tensor:
        z = x.flatten(1) @ w.t()
        return z[:, 1:].amax(1) - z[:, 0]

    best = torch.stack([loss(corners(x, eps)).max() for x in x0])
    f = Counted(lambda x, at: loss(x) - best[at], above=-1e-9, final=True)
    found = loss(search(f, x0, Linf(eps), queries=600, width=width))
    torch.testing.assert_close(found, best, rtol=0, atol=1e-9)


def test_a_victim_of_the_house_is_searched_to_its_best_corner() -> None:
    """The same through a scene: 16 pixels, 65,536 corners."""
    body, x0 = affine.Affine(4), affine.images(3, inside=False)
    where = affine.scene(body, x0)
    x = search(affine.objective(where, margin), x0, Linf(0.2), where.keys, queries=600)
    for image, label, found in zip(x0, where.y, x, strict=True):
        z = corners(image, 0.2) @ body.w.t() + body.b
        reached = found.flatten() @ body.w.t() + body.b
        best = margin(z, label.expand(len(z))).max()
        torch.testing.assert_close(margin(reached[None], label[None])[0], best, rtol=0, atol=1e-9)


PULL = normal(image_keys(3, torch.arange(1)), (10,))[0].double().tolist()
PAIRS = normal(image_keys(4, torch.arange(1)), (10, 10))[0].double().tolist()


@cache
def rugged(sides: tuple[float, ...]) -> float:
    """A function of 10 signs with many local optima; kept, because there are few corners, asked again and again."""
    value = sum(PULL[i] * sides[i] for i in range(10))
    return value + sum(PAIRS[i][j] * sides[i] * sides[j] for i in range(10) for j in range(i))


def greedy(sides: tuple[float, ...]) -> tuple[tuple[float, ...], int]:
    """From a corner to the first local optimum: where it is, and how many values it takes to know. A round looks at
    every flip, then at the best 2, 3, 5 and 8 of those that gain, together, and goes to the best of all it saw."""

    def flipped(which: list[int]) -> tuple[float, ...]:
        return tuple(-side if i in which else side for i, side in enumerate(sides))

    asked = 1
    while True:
        now = rugged(sides)
        values = [rugged(flipped([i])) for i in range(10)]
        gains = sorted((i for i in range(10) if values[i] > now), key=lambda i: -values[i])
        tried = [[i] for i in range(10)] + [gains[:n] for n in (2, 3, 5, 8) if n <= len(gains)]
        asked += len(tried)
        if not gains:
            return sides, asked
        sides = max((flipped(which) for which in tried), key=rugged)


def test_it_climbs_a_rugged_function_as_its_twin() -> None:
    """With queries for the way to the first local optimum and the round that shows it; with 2,000, the best, and who
    has come there is asked no more."""
    count = 24
    sides = signs(image_keys(5, torch.arange(count)), (10,)).double()
    x0 = torch.full((count, 10), 0.5).double()

    def loss(x: Tensor) -> Tensor:
        return torch.tensor([rugged(tuple(row)) for row in ((x - 0.5) / 0.1).tolist()]).double()

    optima = set()
    for i in range(count):
        expected, asked = greedy(tuple(sides[i].tolist()))
        f = Counted(lambda x, at: loss(x), 1)
        start = x0[:1] + 0.1 * sides[i : i + 1]
        x = search(f, x0[:1], Linf(0.1), image_keys(6, torch.tensor([i])), start=start, queries=asked)
        torch.testing.assert_close((x[0] - 0.5) / 0.1, torch.tensor(expected).double(), rtol=0, atol=1e-9)
        assert f.asked.tolist() == [asked]
        optima.add(expected)
    assert len(optima) > 3
    best = max(rugged(corner) for corner in itertools.product([-1.0, 1.0], repeat=10))
    assert sum(rugged(optimum) < best for optimum in optima) > 1
    f = Counted(lambda x, at: loss(x) - best, count, above=-1e-9, final=True)
    far = search(f, x0, Linf(0.1), image_keys(6, torch.arange(count)), queries=2000)
    torch.testing.assert_close(loss(far), torch.full((count,), best).double(), rtol=0, atol=1e-9)


def trap(x: Tensor, at: Tensor) -> Tensor:
    """Eight pixels: a hill at the low corner, and a higher one at three flips from it; every way between them falls."""
    high = (x > 0.5).double()
    other = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0]).double()
    return torch.maximum(5 - high.sum(1), 8 - 2.5 * (high - other).abs().sum(1))


def test_it_leaves_a_local_optimum() -> None:
    x0 = torch.full((B, 8), 0.5).double()
    start = x0 - 0.1
    stays = search(Counted(trap), x0, Linf(0.1), start=start, queries=9)
    assert torch.equal(stays, start)
    assert trap(search(Counted(trap), x0, Linf(0.1), start=start, queries=900), KEYS).tolist() == [8.0] * B


def test_several_blocks_are_moved_at_once_on_a_plateau() -> None:
    """Nothing shows until two pixels of eight are high; the round that finds no single gain already tries some pairs,
    and the walk along the plateau the rest."""

    def loss(x: Tensor, at: Tensor) -> Tensor:
        return (x[:, :2] > 0.5).all(1).double()

    count = 24
    x0, keys = torch.full((count, 8), 0.5).double(), image_keys(7, torch.arange(count))
    one, two = (
        loss(search(Counted(loss, count), x0, Linf(0.1), keys, start=x0 - 0.1, queries=1 + 8 + more), KEYS).mean()
        for more in (0, 4)
    )
    assert one == 0
    assert two > 0.1  # the best 2, 3, 5 and 8 of a random order: 8 of 8 always holds both
    assert loss(search(Counted(loss, count), x0, Linf(0.1), keys, start=x0 - 0.1, queries=400), KEYS).all()


@pytest.mark.parametrize("threat", [L2(0.3), L1(0.5)], ids=["L2", "L1"])
def test_far_from_the_box_it_comes_near_the_optimum_of_an_affine_loss(threat: Any) -> None:
    """eps |w|_2 in L2, eps max |w| in L1; the random start has a third of it at most on average."""
    x0 = 0.5 + torch.zeros(B, 1, 3, 4).double()
    w = normal(image_keys(2, torch.arange(1)), (12,))[0].double()

    def loss(x: Tensor, at: Tensor) -> Tensor:
        return ((x.flatten(1) - 0.5) * w).sum(1)

    best = threat.eps * (w.norm() if threat.norm == "L2" else w.abs().max())
    found = loss(search(Counted(loss), x0, threat, queries=1500), KEYS)
    assert (found <= best + 1e-9).all()
    assert (found > 0.97 * best).all()
    assert loss(search(Counted(loss), x0, threat, queries=1), KEYS).mean() < 0.5 * best


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), L1(1.0)], ids=str)
@pytest.mark.parametrize("queries", [1, 2, 37, 150])
def test_the_budget_is_kept_to_the_query(threat: Any, queries: int) -> None:
    f = Counted(weighted)
    search(f, images(2, 5, 5), threat, queries=queries)
    assert f.asked.tolist() == [queries] * B


@pytest.mark.parametrize("above", [-5.0, 0.0, 3.0])
def test_where_a_success_is_final_an_image_is_asked_no_more(above: float) -> None:
    """Until the round's end at most: no point of it is asked once a pass has shown a success and the round is over."""
    every, few = Counted(weighted, above=above), Counted(weighted, above=above, final=True)
    x0 = images(2, 5, 5)
    whole, narrowed = (search(f, x0, Linf(0.1), queries=300, width=8) for f in (every, few))
    here = torch.arange(B)
    fooled = weighted(whole, here) > above
    assert torch.equal(weighted(narrowed, here) > above, fooled)
    assert torch.equal(narrowed[~fooled], whole[~fooled])
    first = {int(i): 0 for i in here}
    for at, x in few.points:
        hit = weighted(x, at) > above
        for i in at.unique().tolist():
            assert first[i] <= 1  # the singles that showed it, then its joins
            first[i] += int(first[i] > 0 or bool(hit[at == i].any()))
    assert (few.asked[fooled] < 300).any() or not fooled.any()


def test_a_start_that_fools_costs_one_query_where_that_is_final() -> None:
    x0 = images(1, 4, 4)
    f = Counted(weighted, above=-1e9, final=True)
    start = Linf(0.1).project(x0 + 0.05, x0)
    assert torch.equal(search(f, x0, Linf(0.1), start=start), start)
    assert f.asked.tolist() == [1] * B


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), L1(1.0)], ids=str)
@pytest.mark.parametrize("final", [False, True])
def test_company_and_order_do_not_matter(threat: Any, final: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten images at once, in threes, one by one, shuffled, and in passes of other sizes."""
    count = 10
    x0, keys = images(1, 5, 5, count=count), image_keys(0, torch.arange(count))

    def run(index: Tensor) -> Tensor:
        f: Any = Counted(lambda x, at: weighted(x, index[at]), len(index), above=8.0, final=final)
        return search(f, x0[index], threat, keys[index], queries=120, width=10)

    def same(found: Tensor, expected: Tensor) -> None:
        # A norm is summed in another order in another company, and some of its numbers are float32.
        torch.testing.assert_close(found, expected, rtol=0, atol=0 if threat.norm == "Linf" else 1e-6)

    whole, every = run(torch.arange(count)), torch.arange(count)
    for size in (1, 3):
        same(torch.cat([run(part) for part in every.split(size)]), whole)
    shuffled = normal(image_keys(9, torch.arange(1)), (count,))[0].argsort()
    same(run(shuffled), whole[shuffled])
    monkeypatch.setattr(asking, "_POINTS", 7)
    same(torch.cat([run(part) for part in every.split(5)]), whole)


@pytest.mark.parametrize(
    ("shape", "count", "most"),
    [((1, 8, 8), 3, 192), ((1, 8, 8), 40, 512), ((3, 224, 224), 2, 3), ((3, 224, 224), 5, 5)],
)
def test_a_pass_is_bounded_whatever_the_number_of_candidates(shape: tuple[int, ...], count: int, most: int) -> None:
    """By 512 points, by 2^19 numbers (3 images of 3x224x224), and by the images that it was given, which did fit."""
    f = Counted(lambda x, at: x.flatten(1)[:, :9].sum(1), count)
    queries, width = (80, 64) if shape[-1] == 8 else (12, 8)  # of large images a few are too many for a pass
    search(f, images(*shape, count=count), Linf(0.1), image_keys(0, torch.arange(count)), queries=queries, width=width)
    assert max(len(at) for at, _ in f.points) == most
    assert f.asked.tolist() == [queries] * count


@settings(max_examples=60, deadline=None)
@given(
    threat=st.sampled_from([Linf, L2, L1]),
    eps=st.sampled_from([0.0, 1e-3, 0.1, 0.7, 30.0]),
    shape=st.sampled_from([(1, 3, 3), (2, 1, 5), (7,), (2, 3, 2, 2)]),
    warm=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_no_point_leaves_the_ball_or_the_box(threat: Any, eps: float, shape: Any, warm: bool, seed: int) -> None:
    """Not those that are asked either; a start from outside is brought in."""
    ball, x0 = threat(eps), images(*shape, seed=seed)
    start = x0 + normal(image_keys(seed + 1, torch.arange(B)), shape).double() if warm else None
    f = Counted(weighted)
    x = search(f, x0, ball, image_keys(seed, torch.arange(B)), start=start, queries=60, width=7)
    for at, points in [*f.points, (torch.arange(B), x)]:
        assert points.shape[1:] == x0.shape[1:]
        assert (ball.distance(points, x0[at]) <= eps * (1 + 1e-12) + 1e-12).all()
        assert (points >= 0).all()
        assert (points <= 1).all()


def test_a_candidate_is_one_square_of_one_channel_at_the_other_side() -> None:
    """The first sweep, while nothing gains: each square of side 3 once, cut short at the border, to the one end or the
    other; and every candidate differs from where the image stands."""
    x0 = torch.full((B, 2, 8, 7), 0.5).double()
    start = torch.where(signs(KEYS, (2, 8, 7)) > 0, x0 + 0.1, x0)
    f = Counted(lambda x, at: -(x - start[at]).abs().flatten(1).sum(1))
    search(f, x0, Linf(0.1), start=start, queries=1 + 18, share=0.5)
    (_, first), (at, points) = f.points
    assert torch.equal(first, start)
    for image in range(B):
        places = set()
        for x in points[at == image]:
            where = (x != start[image]).nonzero()
            blocks = {(int(c), int(row) // 3, int(column) // 3) for c, row, column in where}
            assert len(blocks) == 1
            places |= blocks
            ((channel, down, across),) = blocks
            block = x[channel, 3 * down : 3 * down + 3, 3 * across : 3 * across + 3]
            assert block.allclose(x0[0, 0, 0, 0] + 0.1) or block.allclose(x0[0, 0, 0, 0] - 0.1)
        assert len(places) == 2 * 3 * 3


@pytest.mark.parametrize("options", [{"queries": 0}, {"width": 0}, {"share": 0.0}, {"share": 1.5}, {"patience": 0.0}])
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r">= 1|share in|patience > 0"):
        BlockSearch(**options)  # type: ignore[arg-type]


def slope(clean: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Each of 200 pixels takes as much from the margin, which is another from image to image."""
    return lambda x, at: (x - 0.5).flatten(1).sum(1) / 20 - clean[at]


def test_who_would_not_get_there_at_the_pace_is_left_alone() -> None:
    """From the far corner, single pixels, each worth 0.01 when it crosses the ball; of 25 in a round, which with its
    sets costs 32 queries, all gain and the best 21 are joined: after four rounds, 128 queries, 84 have crossed. Three
    times that and once more is 3.36: margins beyond are given up, though only 2 can be taken at all. After 600 all have
    crossed, and half of that more is allowed: 3."""
    x0 = torch.full((B, 1, 10, 20), 0.5, dtype=torch.float64)
    clean = torch.tensor([0.5, 2.0, 2.9, 3.2, 6.0, 20.0], dtype=torch.float64) - 1  # where all pixels are low: + 1
    asked = {}
    for patience in (None, 1.0, 5.0):
        f = Counted(slope(clean), above=0.0)
        search(f, x0, Linf(0.1), start=x0 - 0.1, queries=1000, width=25, share=0.1, patience=patience)
        asked[patience] = f.asked
    assert (asked[None] == 1000).all()
    assert (asked[1.0][-2:] < 160).all()
    assert (asked[1.0][-2:] >= 100).all()
    assert 600 <= asked[1.0][3] < 660
    assert (asked[1.0][:3] == 1000).all()
    assert (asked[5.0][:5] == 1000).all()  # 13.4 after the first look, 7 after the second
    assert asked[5.0][5] < 160


def test_a_pace_does_not_depend_on_the_company() -> None:
    x0, w = images(1, 8, 8), normal(image_keys(6, torch.arange(1)), (64,))[0].double()
    clean = torch.linspace(0.5, 30.0, B, dtype=torch.float64)

    def loss(x: Tensor, at: Tensor) -> Tensor:
        return (x - x0[at]).flatten(1) @ w - clean[at]

    together = Counted(loss)
    x = search(together, x0, Linf(0.1), queries=400, width=16, patience=1.0)
    assert 100 <= together.asked.min() < together.asked.max() == 400
    for i in range(B):
        alone = Counted(lambda x, at, i=i: loss(x, at + i), 1)
        found = search(alone, x0[i : i + 1], Linf(0.1), KEYS[i : i + 1], queries=400, width=16, patience=1.0)
        assert torch.equal(found[0], x[i])
        assert alone.asked.item() == together.asked[i]
