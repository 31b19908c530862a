"""Genetic search: a plain twin of its generations, the optimum of affine and of deceptive losses, exact budgets,
bounded passes and populations, and the same for an image in any company."""

from __future__ import annotations

import math
from typing import Any

import affine
import pytest
import torch
from counted import KEYS, B, Counted, corners, images, no_estimator, weighted
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikeproof import asking
from spikeproof.attacks import genetic_search
from spikeproof.attacks.genetic_search import GeneticSearch
from spikeproof.errors import UsageError
from spikeproof.losses import margin
from spikeproof.tensors import fold, image_keys, normal, signs, uniform
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf

MEMORY = 20


def search(
    f: Any, x0: Tensor, threat: Any, keys: Tensor = KEYS, *, start: Tensor | None = None, **options: Any
) -> Tensor:
    return GeneticSearch(**options)(f, x0, threat, no_estimator, keys, start=start)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 2, 4), (3, 2, 2), (10,)])
@pytest.mark.parametrize(("children", "queries"), [(1, 1000), (16, 3000)])
def test_it_comes_to_the_best_corner_of_an_affine_victim(shape: tuple[int, ...], children: int, queries: int) -> None:
    """Of several classes, where the margin is the largest of some planes: brute force over all corners. Who has come
    there is asked no more."""
    x0, eps = images(*shape), 0.1
    w = normal(image_keys(2, torch.arange(1)), (4, x0[0].numel()))[0].double()

    def loss(x: Tensor) -> Tensor:
        z = x.flatten(1) @ w.t()
        return z[:, 1:].amax(1) - z[:, 0]

    best = torch.stack([loss(corners(x, eps)).max() for x in x0])
    f = Counted(lambda x, at: loss(x) - best[at], above=-1e-9, final=True)
    found = loss(search(f, x0, Linf(eps), queries=queries, children=children))
    torch.testing.assert_close(found, best, rtol=0, atol=1e-9)


def test_a_victim_of_the_house_is_searched_to_its_best_corner() -> None:
    """The same through a scene: 16 pixels, 65,536 corners."""
    body, x0 = affine.Affine(4), affine.images(3, inside=False)
    where = affine.scene(body, x0)
    x = search(affine.objective(where, margin), x0, Linf(0.2), where.keys, queries=3000)
    for image, label, found in zip(x0, where.y, x, strict=True):
        z = corners(image, 0.2) @ body.w.t() + body.b
        reached = found.flatten() @ body.w.t() + body.b
        best = margin(z, label.expand(len(z))).max()
        torch.testing.assert_close(margin(reached[None], label[None])[0], best, rtol=0, atol=1e-9)


def level(draw: float, x: float, eps: float) -> float:
    """Where a mutation leads: a random shift of up to 4/3 eps, clamped to eps, within the box."""
    return min(max(x + eps * min(max(4 / 3 * (2 * draw - 1), -1), 1), 0), 1)


def told(known: list[tuple[list[float], float]], made: list[list[float]]) -> list[float]:
    """Forecasts in plain Python: kernel ridge regression, solved by Gauss and Jordan."""
    count, scores = len(known), [score for _, score in known]
    points = [*(point for point, _ in known), *made]
    squares = [[sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) for b, _ in known] for a in points]
    scale = 2 * 3.0 * sum(map(sum, squares[:count])) / count**2
    kernel = [[math.exp(-square / scale) for square in row] for row in squares]
    mean = sum(scores) / count
    sd = max((sum((score - mean) ** 2 for score in scores) / count) ** 0.5, 1e-12)
    rows = [[*kernel[i], (scores[i] - mean) / sd] for i in range(count)]
    for i in range(count):
        rows[i][i] += 0.03
    for i in range(count):
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in set(range(count)) - {i}:
            rows[j] = [value - rows[j][i] * of for value, of in zip(rows[j], rows[i], strict=True)]
    return [sum(value * row[count] for value, row in zip(near, rows, strict=True)) for near in kernel[count:]]


def twin(
    loss: Any, image: list[float], start: list[float], key: Tensor, eps: float, rounds: int, candidates: int
) -> list[float]:
    """One image of single numbers, generation by generation, in plain Python; its draws are those of the search."""
    size, population, children = len(image), 6, 4
    known: list[tuple[list[float], float]] = []

    def draw(word: str, name: str, *shape: int) -> Any:
        return uniform(fold(fold(key, word), name), shape)[0].tolist()

    def learned(members: list[list[float]]) -> None:
        known.extend(zip(members, map(loss, members), strict=True))
        del known[:-MEMORY]

    def promising(made: list[list[float]], word: str) -> list[list[float]]:
        guesses = told(known, made)
        mean = sum(guesses) / len(guesses)
        sd = (sum((guess - mean) ** 2 for guess in guesses) / len(guesses)) ** 0.5
        luck = normal(fold(fold(key, word), "luck"), (len(made),))[0].tolist()
        worth = [guess + 0.3 * sd * by for guess, by in zip(guesses, luck, strict=True)]
        return [made[i] for i in sorted(range(len(made)), key=lambda i: -worth[i])[:children]]

    def survivors(members: list[list[float]]) -> list[list[float]]:
        ranked = sorted(members, key=lambda member: -loss(member))
        first = [m for i, m in enumerate(ranked) if not i or loss(m) != loss(ranked[i - 1])]
        rest = [m for i, m in enumerate(ranked) if i and loss(m) == loss(ranked[i - 1])]
        return [*first, *rest][:population]

    where, levels = (draw("first", what, population - 1, size) for what in ("where", "level"))
    mutants = [
        [level(levels[c][i], image[i], eps) if where[c][i] < 0.2 else start[i] for i in range(size)]
        for c in range(population - 1)
    ]
    members = survivors([*mutants, start])
    learned([start, *mutants])
    best = members[0] if loss(members[0]) > loss(start) else start
    for number in range(rounds):
        word, made = f"round {number}", candidates * children
        mothers, fathers = (draw(word, f"{which} parent", made, 3) for which in ("first", "second"))
        cross, luck, levels = (draw(word, what, made, size) for what in ("cross", "where", "level"))
        born = []
        for c in range(made):
            mother, father = (members[min(int(rival * population) for rival in of[c])] for of in (mothers, fathers))
            child = [mother[i] if cross[c][i] < 0.5 else father[i] for i in range(size)]
            moved = [luck[c][i] < 1 / size or luck[c][i] == min(luck[c]) for i in range(size)]
            born.append([level(levels[c][i], image[i], eps) if moved[i] else child[i] for i in range(size)])
        if candidates > 1:
            born = promising(born, word)
        learned(born)
        members = survivors([*born, *members])
        best = members[0] if loss(members[0]) > loss(best) else best
    return best


@pytest.mark.parametrize("candidates", [1, 3])
@pytest.mark.parametrize("rounds", [0, 1, 7, 40])
def test_it_goes_from_generation_to_generation_as_its_twin(
    rounds: int, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a rugged loss of few values, so that the rule of one a loss matters; of 166 points the last 20 are known."""
    monkeypatch.setattr(genetic_search, "_MEMORY", MEMORY)
    x0, eps, count = images(7, count=8), 0.2, 8
    pull = normal(image_keys(3, torch.arange(1)), (7,))[0].double().tolist()
    pairs = normal(image_keys(4, torch.arange(1)), (7, 7))[0].double().tolist()

    def rugged(x: list[float]) -> float:
        value = sum(pull[i] * x[i] for i in range(7)) + sum(
            pairs[i][j] * x[i] * x[j] for i in range(7) for j in range(i)
        )
        return float(round(20 * value))

    def loss(x: Tensor, at: Tensor) -> Tensor:
        return torch.tensor([rugged(row) for row in x.tolist()]).double()

    keys = image_keys(0, torch.arange(count))
    start = Linf(eps).project(x0 + eps * signs(image_keys(5, torch.arange(count)), (7,)).double(), x0)
    sizes = {"queries": 6 + 4 * rounds, "population": 6, "children": 4, "candidates": candidates}
    found = search(Counted(loss, count), x0, Linf(eps), keys, start=start, **sizes)
    for i in range(count):
        expected = twin(rugged, x0[i].tolist(), start[i].tolist(), keys[i : i + 1], eps, rounds, candidates)
        assert rugged(found[i].tolist()) == rugged(expected)
        torch.testing.assert_close(found[i], torch.tensor(expected).double(), rtol=0, atol=1e-7)


def test_it_comes_to_the_best_of_a_rugged_function() -> None:
    """A sum over pairs of ten signs, which has local optima; between the corners it is nowhere higher. Who has come to
    the best is asked no more."""
    count = 64
    x0, keys = torch.full((count, 10), 0.5).double(), image_keys(6, torch.arange(count))
    pull = normal(image_keys(3, torch.arange(1)), (10,))[0].double()
    pairs = normal(image_keys(4, torch.arange(1)), (10, 10))[0].double().tril(-1)

    def loss(x: Tensor) -> Tensor:
        sides = (x - 0.5) / 0.1
        return sides @ pull + ((sides @ pairs) * sides).sum(1)

    best = loss(corners(x0[0], 0.1)).max()
    start = x0 + 0.1 * signs(image_keys(5, torch.arange(count)), (10,)).double()
    f = Counted(lambda x, at: loss(x) - best, count, above=-1e-9, final=True)
    found = loss(search(f, x0, Linf(0.1), keys, start=start, queries=1200, population=96))
    assert (found <= best + 1e-9).all()
    assert ((best - found) < 1e-9).double().mean() > 0.5  # the others are at the second best optimum


def test_of_points_with_one_loss_one_lives_on() -> None:
    """A loss of three values: of a population of five the first three have them all, once one point each was found."""

    def loss(x: Tensor, at: Tensor) -> Tensor:
        return (x > 0.5).double().sum(1).clamp(max=2)

    x0 = torch.full((B, 6), 0.5).double()
    population = genetic_search._Population(
        Counted(loss), x0, Linf(0.1), KEYS, genetic_search.Best(x0), torch.arange(B), None
    )
    grid = genetic_search.Grid(x0, 1)
    with torch.no_grad():
        population.begin(x0 - 0.1, 5, grid)
        for number in range(12):
            population.round(4, 1, grid, f"round {number}")
    assert population.score.loss[:, :3].tolist() == [[2.0, 1.0, 0.0]] * B


def test_what_fools_stands_before_a_higher_loss() -> None:
    """Where a success is not final, it is never given up for a point that does not fool."""

    class Odd(Counted):
        def __call__(self, x: Tensor, rule: Any, salt: int) -> Any:
            score = super().__call__(x, rule, salt)
            return score._replace(fooled=score.loss.round() % 2 == 1)

    f = Odd(weighted)
    x = search(f, images(1, 4, 4), Linf(0.1), queries=400)
    best = {i: max(v for at, p in f.points for v in weighted(p, at)[at == i].tolist() if v % 2 == 1) for i in range(B)}
    assert weighted(x, torch.arange(B)).tolist() == [best[i] for i in range(B)]


@pytest.mark.parametrize("threat", [L2(0.3), L1(0.5)], ids=["L2", "L1"])
def test_far_from_the_box_it_comes_near_the_optimum_of_an_affine_loss(threat: Any) -> None:
    """eps |w|_2 in L2, eps max |w| in L1; the random start has a third of it at most on average."""
    x0 = 0.5 + torch.zeros(B, 1, 3, 4).double()
    w = normal(image_keys(2, torch.arange(1)), (12,))[0].double()

    def loss(x: Tensor, at: Tensor) -> Tensor:
        return ((x.flatten(1) - 0.5) * w).sum(1)

    best = threat.eps * (w.norm() if threat.norm == "L2" else w.abs().max())
    found = loss(search(Counted(loss), x0, threat, queries=3000), KEYS)
    assert (found <= best + 1e-9).all()
    assert (found > 0.95 * best).all()
    assert loss(search(Counted(loss), x0, threat, queries=1), KEYS).mean() < 0.5 * best


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), L1(1.0)], ids=str)
@pytest.mark.parametrize("queries", [1, 2, 32, 37, 150])
@pytest.mark.parametrize("patience", [None, 1e9])
def test_the_budget_is_kept_to_the_query(threat: Any, queries: int, patience: float | None) -> None:
    """The clean image among them, which patience asks about."""
    f = Counted(weighted)
    search(f, images(2, 5, 5), threat, queries=queries, patience=patience)
    assert f.asked.tolist() == [queries] * B


def test_the_start_is_asked_first_and_one_that_fools_costs_one_query() -> None:
    x0 = images(1, 4, 4)
    f = Counted(weighted, above=-1e9, final=True)
    start = Linf(0.1).project(x0 + 0.05, x0)
    assert torch.equal(search(f, x0, Linf(0.1), start=start), start)
    ((_, asked),) = f.points
    assert torch.equal(asked, start)


@pytest.mark.parametrize("above", [-5.0, 0.0, 3.0])
def test_where_a_success_is_final_an_image_is_asked_no_more(above: float) -> None:
    every, few = Counted(weighted, above=above), Counted(weighted, above=above, final=True)
    x0 = images(2, 5, 5)
    whole, narrowed = (search(f, x0, Linf(0.1), queries=304) for f in (every, few))
    here = torch.arange(B)
    fooled = weighted(whole, here) > above
    assert torch.equal(weighted(narrowed, here) > above, fooled)
    assert torch.equal(narrowed[~fooled], whole[~fooled])
    fallen = torch.zeros(B, dtype=torch.bool)
    for at, x in few.points:
        assert not fallen[at].any()
        fallen[at[weighted(x, at) > above]] = True
    assert torch.equal(fallen, fooled)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), L1(1.0)], ids=str)
@pytest.mark.parametrize("final", [False, True])
def test_company_and_order_do_not_matter(threat: Any, final: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten images at once, in threes, one by one, shuffled, in passes of other sizes, and few populations at once."""
    count = 10
    x0, keys = images(1, 5, 5, count=count), image_keys(0, torch.arange(count))

    def run(index: Tensor) -> Tensor:
        f: Any = Counted(lambda x, at: weighted(x, index[at]), len(index), above=8.0, final=final)
        return search(f, x0[index], threat, keys[index], queries=160, children=10, patience=3.0)

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
    monkeypatch.setattr(genetic_search.GeneticSearch, "_held", lambda *_: (4, 128))
    same(run(every), whole)


@pytest.mark.parametrize(
    ("shape", "count", "most"),
    [((1, 8, 8), 3, 93), ((1, 8, 8), 40, 512), ((3, 224, 224), 2, 3), ((3, 224, 224), 6, 6)],
)
def test_a_pass_and_the_populations_are_bounded(
    shape: tuple[int, ...], count: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By 512 points, by 2^19 numbers (3 images of 3x224x224), and by the images that it was given, which did fit; and
    of populations by 2^25 numbers, with their candidates and what is remembered of them (1 image of 3x224x224, also of
    few members: what is remembered fills the room)."""
    groups, large = [], shape[-1] == 224
    begin = genetic_search._Population.begin

    def noted(self: Any, start: Tensor, size: int, grid: Any) -> None:
        groups.append(len(start))
        begin(self, start, size, grid)

    monkeypatch.setattr(genetic_search._Population, "begin", noted)
    f = Counted(lambda x, at: x.flatten(1)[:, :9].sum(1), count)
    sizes = {"queries": 12, "population": 8, "children": 4} if large else {"queries": 40}
    search(f, images(*shape, count=count), Linf(0.1), image_keys(0, torch.arange(count)), **sizes)
    assert max(len(at) for at, _ in f.points) == most
    assert f.asked.tolist() == [sizes["queries"]] * count
    assert max(groups) == (1 if large else count)


@pytest.mark.parametrize("numbers", [64, 3 * 32 * 32, 3 * 224 * 224, 3 * 4000 * 4000])
@pytest.mark.parametrize("candidates", [1, 4])
def test_what_is_held_is_bounded(numbers: int, candidates: int) -> None:
    """Members, candidates, 128 remembered points in float64, and matrices of 128 x 128; of a larger image fewer."""
    images, memory = GeneticSearch(candidates=candidates)._held(numbers)
    assert (images, memory) == {
        (64, 1): (10922, 0), (64, 4): (218, 128),
        (3072, 1): (227, 0), (3072, 4): (27, 128),
        (150528, 1): (4, 0), (150528, 4): (1, 63),
        (48000000, 1): (1, 0), (48000000, 4): (1, 16),
    }[numbers, candidates]  # fmt: skip


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
    x = search(f, x0, ball, image_keys(seed, torch.arange(B)), start=start, queries=60, children=7, population=9)
    for at, points in [*f.points, (torch.arange(B), x)]:
        assert points.shape[1:] == x0.shape[1:]
        assert (ball.distance(points, x0[at]) <= eps * (1 + 1e-12) + 1e-12).all()
        assert (points >= 0).all()
        assert (points <= 1).all()


def test_blocks_of_the_round_move_as_one() -> None:
    """On 16x16 pixels a round is of edges 2, then 1: what is mutated or crossed are squares of one channel."""
    x0 = torch.full((B, 2, 16, 16), 0.5).double()
    f = Counted(lambda x, at: -(x - x0[at]).abs().flatten(1).sum(1))  # so that x0, the start, is always the best
    search(f, x0, Linf(0.1), start=x0, queries=1 + 5, population=1, children=5)
    (_, first), (_, points) = f.points
    assert torch.equal(first, x0)
    moved = (points != 0.5).view(-1, 2, 8, 2, 8, 2)
    assert torch.equal(moved, moved[:, :, :, :1, :, :1].expand_as(moved))
    assert (moved.flatten(1).sum(1) >= 4).all()
    assert len(points.unique(dim=0)) == len(points) == 5 * B


@pytest.mark.parametrize(
    "options",
    [
        {"queries": 0},
        {"population": 0},
        {"children": 0},
        {"candidates": 0},
        {"share": 0.0},
        {"share": 1.5},
        {"patience": 0.0},
    ],
)
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r">= 1|share in|patience > 0"):
        GeneticSearch(**options)  # type: ignore[arg-type]


def test_who_would_not_get_there_at_the_pace_is_left_alone() -> None:
    """Loss: how far the pixels rose, which is 10 at the high corner, less what an image has to rise. At a patience of
    P, it may miss P times what it gained after 65 queries (the clean image, 32 points, two rounds of 16), P / 2 times
    after 129, P / 4 after 257, and so on."""
    x0 = torch.full((B, 1, 10, 10), 0.5, dtype=torch.float64)
    need = torch.tensor([10.2, 11.2, 12.2, 17.0, 28.0, 1000.0], dtype=torch.float64)

    def loss(x: Tensor, at: Tensor) -> Tensor:
        return (x - 0.5).flatten(1).sum(1) - need[at]

    asked = {}
    for patience in (None, 4.0, 40.0):
        f = Counted(loss)
        search(f, x0, Linf(0.1), start=x0 + 0.05, queries=1100, patience=patience)
        asked[patience] = f.asked.tolist()
        if patience is None:
            rises = [torch.cat([(x - 0.5)[at == i].flatten(1).sum(1) for at, x in f.points]) for i in range(B)]
    assert asked[None] == [1100] * B
    looks = {65: 1.0, 129: 0.5, 257: 0.25, 513: 0.125, 1025: 0.0625}
    for patience in (4.0, 40.0):
        for i in range(B):
            gains = {after: rises[i][: after - 1].max() for after in looks}
            left = [after for after, times in looks.items() if need[i] > (1 + patience * times) * gains[after]]
            assert asked[patience][i] == min([*left, 1100])
    assert len(set(asked[4.0]) | set(asked[40.0])) >= 5


@pytest.mark.parametrize(("population", "after"), [(32, 193), (64, 257), (96, 385)])
def test_who_stands_still_is_left_alone_however_near(population: int, after: int) -> None:
    """All was gained before the search, which is at the best corner: it looks once after 192 queries, or four times the
    population (the clean image and rounds of 16 above it). What moves on, by a hundredth of what it misses, stays."""
    x0 = torch.full((B, 1, 6, 6), 0.5, dtype=torch.float64)

    def loss(x: Tensor, at: Tensor) -> Tensor:
        return (x - 0.5).flatten(1).sum(1) - 3.7

    for start, asked in ((x0 + 0.1, after), (x0 + 0.099, 600)):
        f = Counted(loss)
        search(f, x0, Linf(0.1), start=start, queries=600, population=population, patience=10.0)
        assert f.asked.tolist() == [asked] * B


def test_what_differs_by_rounding_alone_does_not_matter_to_what_is_asked() -> None:
    """A loss of few values with the noise of float32 on it, another one in every company."""
    x0, keys = images(1, 5, 5, count=24), image_keys(0, torch.arange(24))

    def asked(index: Tensor) -> Tensor:
        def loss(x: Tensor, at: Tensor) -> Tensor:
            noise = normal(image_keys(len(at), torch.arange(len(at))), (1,))[:, 0].double()
            return (weighted(x, index[at]) / 40).round() + 1e-8 * noise

        f = Counted(loss, len(index))
        search(f, x0[index], Linf(0.1), keys[index], queries=160)
        return torch.stack([torch.cat([x[at == i] for at, x in f.points]) for i in range(len(index))])

    together = asked(torch.arange(24))
    assert torch.equal(torch.cat([asked(some) for some in torch.arange(24).split(8)]), together)


def test_a_pace_does_not_depend_on_the_company() -> None:
    x0, w = images(1, 8, 8), normal(image_keys(6, torch.arange(1)), (64,))[0].double()
    clean = torch.tensor([4.0, 6.0, 7.0, 9.0, 14.0, 40.0], dtype=torch.float64)

    def loss(x: Tensor, at: Tensor) -> Tensor:
        return (x - x0[at]).flatten(1) @ w - clean[at]

    together = Counted(loss)
    x = search(together, x0, Linf(0.1), queries=800, patience=3.0)
    assert len(together.asked.unique()) >= 3
    for i in range(B):
        alone = Counted(lambda x, at, i=i: loss(x, at + i), 1)
        found = search(alone, x0[i : i + 1], Linf(0.1), KEYS[i : i + 1], queries=800, patience=3.0)
        assert torch.equal(found[0], x[i])
        assert alone.asked.item() == together.asked[i]
