"""Slack: counted from rows made by hand, and its upper end against the beta-binomial summed term by term."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import made

from spikeproof.errors import SpikeproofError
from spikeproof.metrics.slack import FORESEEN, Falls, falls, foreseen
from spikeproof.rows import AttackRow


def upper(of: Falls) -> int:
    """The least number that at most falls with 95 %: C(m,k) B(k+a, m-k+b) / B(a,b) as fractions."""
    m, a, b = of.standing, of.late + 1, of.standing + 1

    def beta(x: int, y: int) -> Fraction:
        return Fraction(math.factorial(x - 1) * math.factorial(y - 1), math.factorial(x + y - 1))

    below = Fraction(0)
    for k in range(m + 1):
        below += math.comb(m, k) * beta(k + a, m - k + b) / beta(a, b)
        if below >= Fraction(95, 100):
            return k
    return m


@pytest.mark.parametrize("standing", [0, 1, 2, 7, 30, 80])
@pytest.mark.parametrize("late", [0, 1, 5, 40])
def test_the_upper_end_is_the_beta_binomial(standing: int, late: int) -> None:
    of = Falls(standing, late, 128)
    expected, found = foreseen(of)
    assert found == (upper(of) if standing else 0)
    assert expected == (standing * late / (standing + late) if standing else 0)
    assert expected <= found or standing == 0


def test_with_nothing_that_fell_late_a_few_more_may_still_fall() -> None:
    """Where d = 0 of n the chance that k more fall is close to 2^-(k+1): at most 4 of them with 95 %."""
    assert [foreseen(Falls(n, 0, n))[1] for n in (1, 10, 100, 1000)] == [1, 3, 4, 4]


def test_the_upper_end_covers_in_simulation() -> None:
    """Each image falls in each eightfold of the passes with one chance: the number that fall next is at most the upper
    end in at least 95 % of the draws, less three standard errors."""
    draw = np.random.default_rng(0)
    covered = trials = 0
    for chance in (0.02, 0.1, 0.3, 0.6):
        for _ in range(250):
            late = draw.binomial(60, chance)
            next_ = draw.binomial(60 - late, chance)
            covered += next_ <= foreseen(Falls(60 - late, late, 64))[1]
            trials += 1
    assert covered / trials >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / trials)


def attack(image: int, name: str, passes: int, fooled: bool) -> AttackRow:
    row: AttackRow = made(
        "attack", image=image, attack=name, fooled=fooled, forwards=passes // 2, backwards=passes - passes // 2
    )
    return row


def test_an_image_falls_when_what_was_spent_on_it_until_then_is_spent() -> None:
    """Whole time 800: 101 passes are more than an eighth, 100 are not; what follows a fall is not spent on it."""
    rows = [
        attack(0, "a", 40, False), attack(1, "a", 40, True), attack(2, "a", 40, False), attack(3, "a", 0, True),
        attack(0, "b", 760, False), attack(1, "b", 700, True), attack(2, "b", 61, True), attack(4, "b", 100, True),
        attack(4, "c", 900, True),
    ]  # fmt: skip
    assert falls(rows) == Falls(standing=1, late=1, images=5)


def test_where_nothing_stands_nothing_can_fall() -> None:
    assert falls([attack(0, "a", 10, True)]) == Falls(0, 0, 1)
    assert foreseen(Falls(0, 0, 1)) == (0.0, 0)
    assert falls([]) == Falls(0, 0, 0)


@given(st.integers(1, 40), st.integers(0, 40), st.floats(0.5, 0.99))
def test_a_higher_level_never_has_a_lower_end(standing: int, late: int, level: float) -> None:
    low, high = (foreseen(Falls(standing, late, 100), each)[1] for each in (level, (1 + level) / 2))
    assert low <= high <= standing


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, float("nan")])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    with pytest.raises(SpikeproofError, match="a confidence level between 0 and 1"):
        foreseen(Falls(3, 1, 10), level)


def test_the_window_is_what_the_text_says() -> None:
    assert FORESEEN == 8
