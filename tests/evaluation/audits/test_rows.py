"""The audits that read the panel's rows, on rows made by hand; and the rule by which a share of images is red."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import scipy.stats
from subjects import clear, linear, row, subject

from spikeproof import parts
from spikeproof.evaluation.audits import AuditResult
from spikeproof.evaluation.audits._evidence import Audit
from spikeproof.rows import Row
from spikeproof.threats.linf import Linf

N = 200
EPS = 0.02


def tail(count: int, total: int, share: float) -> float:
    """P(X >= count) for X binomial, term by term."""
    return math.fsum(math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(count, total + 1))


def is_red(count: int, total: int, limit: float) -> bool:
    """The lower end of the two-sided 95 % interval lies above the limit: the limit itself is rejected at 2.5 %."""
    return count > 0 if limit == 0 else tail(count, total, limit) < 0.025


@cache
def fewest(limit: float, total: int = N) -> int:
    """The least count of `total` images that is red."""
    return next(count for count in range(total + 1) if is_red(count, total, limit))


def finding(name: str, rows: list[Row], *, images: int = N) -> AuditResult:
    """The audit's answer where `images` are right when clean, and the panel wrote these rows."""
    found: AuditResult = parts.build("audits", {"name": name})(
        subject(linear(), clear(images), rows=rows, threat=Linf(EPS))
    )
    return found


def stage(attack: str, group: str, broken: range, *, passed: range = range(0)) -> list[Row]:
    """A stage's rows: it broke some images, and passed over others that had fallen before or were wrong when clean."""
    return [
        row(attack, group, image, image in broken or image in passed, **({"skipped": True} if image in passed else {}))
        for image in range(N)
    ]


# --- the rule of a share ---


class Shares(Audit):
    code, title, means, mend = "D0", "any", "", ""

    def __call__(self, subject: Any) -> AuditResult:
        raise NotImplementedError


@pytest.mark.parametrize("limit", [0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("total", [1, 12, 13, 64, 500])
def test_a_share_is_red_where_the_limit_is_rejected(limit: float, total: int) -> None:
    for count in {0, 1, 2, 3, total // 4, total // 2, total}:
        if count <= total:
            found = Shares().share(count, total, limit, "it happened")
            assert (found.colour == "red") == is_red(count, total, limit), (count, total, limit)
            assert (found.value, found.limit, found.n) == (pytest.approx(count / total, rel=1e-5), limit, total)
            assert found.says == f"it happened: {count} of {total}"


def test_where_no_image_is_right_a_share_is_green_and_says_so() -> None:
    found = Shares().share(0, 0, 0.0, "it happened")
    assert (found.colour, found.value, found.n) == ("green", None, 0)
    assert "no image is right when clean" in found.says


def test_what_is_not_run_has_no_value() -> None:
    found = Shares().absent("no reason")
    assert (found.colour, found.value, found.limit, found.n, found.says) == ("not run", None, None, 0, "no reason")


# --- broken by one kind of attack and by none before it ---

GROUPS = {
    "black_box": ("D2", "black box", 0.002),
    "dense_twin": ("D6t", "dense twin", 0.02),
    "more_effort": ("D7", "more effort", 0.005),
    "surrogates": ("D8", "white box", 0.05),
    "transfer": ("D9", "transfer", 0.005),
    "random_search": ("D10", "random", 0.0),
}


# Of 200 images: the audit, its limit, the most that are green, the fewest that are red.
ROW_LIMITS = [
    ("one_step", 0.01, 5, 6),
    ("black_box", 0.002, 2, 3),
    ("dense_twin", 0.02, 8, 9),
    ("more_effort", 0.005, 3, 4),
    ("surrogates", 0.05, 16, 17),
    ("transfer", 0.005, 3, 4),
    ("random_search", 0.0, 0, 1),
    ("accounting", 0.01, 5, 6),
]


def low(count: int, total: int) -> float:
    """The lower end of the Clopper-Pearson interval."""
    return float(scipy.stats.beta.ppf(0.025, count, total - count + 1)) if count else 0.0


@pytest.mark.parametrize(("name", "limit", "green", "red"), ROW_LIMITS)
def test_the_limit_of_each_audit_of_rows(name: str, limit: float, green: int, red: int) -> None:
    """One image decides: on its far side the interval lies above the limit that is written here."""
    assert low(green, N) <= limit < low(red, N)
    role = {"one_step": "first", "accounting": "random"}.get(name) or GROUPS[name][1]
    attack = "fgsm" if name == "one_step" else "it"
    for count, colour in ((0, "green"), (green, "green"), (red, "red"), (N, "red")):
        found = finding(name, stage(attack, role, range(count)))
        assert (found.colour, found.limit, found.value, found.n) == (colour, limit, count / N, N)
        assert found.breaks == "nothing"
        assert name not in GROUPS or found.code == GROUPS[name][0]


@pytest.mark.parametrize("name", GROUPS)
def test_what_fell_before_and_what_others_broke_is_not_counted(name: str) -> None:
    _, group, _ = GROUPS[name]
    rows = [*stage("first", "first", range(100)), *stage("it", group, range(0), passed=range(100))]
    found = finding(name, rows)
    assert (found.colour, found.value) == ("green", 0.0)


@pytest.mark.parametrize("name", GROUPS)
def test_two_stages_that_break_an_image_count_it_once(name: str) -> None:
    _, group, _ = GROUPS[name]
    rows = [*stage("one", group, range(30)), *stage("two", group, range(30, 50), passed=range(30))]
    assert finding(name, rows).value == 50 / N


@pytest.mark.parametrize("name", GROUPS)
def test_an_audit_without_its_attacks_is_not_run(name: str) -> None:
    found = finding(name, stage("fgsm", "first", range(N)))
    assert (found.colour, found.value, found.n) == ("not run", None, 0)


def test_the_dense_twin_is_a_surrogate_too() -> None:
    found = finding("surrogates", stage("it", "dense twin", range(40)))
    assert (found.colour, found.value) == ("red", 40 / N)


# --- one step against many ---


def firsts(fgsm: range, pgd: range) -> list[Row]:
    return [*stage("fgsm", "first", fgsm), *stage("pgd-20", "first", pgd)]


def test_one_step_is_green_where_pgd_breaks_the_same_and_more() -> None:
    found = finding("one_step", firsts(range(50), range(120)))
    assert (found.code, found.colour, found.value, found.n) == ("D1", "green", 0.0, N)


@pytest.mark.parametrize("only", [fewest(0.01) - 1, fewest(0.01)])
def test_one_step_counts_images_and_not_accuracies(only: int) -> None:
    """PGD breaks more in all, and yet not what FGSM breaks."""
    found = finding("one_step", firsts(range(only), range(only, 150)))
    assert found.value == only / N
    assert found.colour == ("red" if is_red(only, N, 0.01) else "green")


def test_one_step_looks_at_the_plain_pgd_alone() -> None:
    rows = [*firsts(range(50), range(0)), *stage("pgd-20 straight-through", "white box", range(50))]
    assert finding("one_step", rows).value == 50 / N


def test_clean_errors_are_in_both_and_so_in_neither() -> None:
    rows = [*stage("fgsm", "first", range(0), passed=range(60)), *stage("pgd-20", "first", range(0), passed=range(60))]
    assert finding("one_step", rows).value == 0


# --- accounting ---

STRONG = [("pgd-20", "first"), ("apgd-100", "white box"), ("pgd-20 dense twin", "dense twin"), ("from a", "transfer")]
WEAK = [("fgsm", "first"), ("corners-50", "random"), ("square-500", "black box")]


@pytest.mark.parametrize("weak", WEAK, ids=lambda pair: pair[0])
def test_accounting_lists_what_only_a_weak_attack_broke(weak: tuple[str, str]) -> None:
    rows = [*stage(*weak, range(20)), *stage("pgd-20", "first", range(6, 150))]
    found = finding("accounting", rows)
    assert (found.code, found.colour, found.value) == ("D20", "red", 6 / N)
    assert found.detail["images"] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("strong", STRONG, ids=lambda pair: pair[0])
def test_accounting_is_green_where_a_strong_attack_broke_it_too(strong: tuple[str, str]) -> None:
    rows = [*stage("fgsm", "first", range(20)), *stage(*strong, range(20))]
    found = finding("accounting", rows)
    assert (found.colour, found.value, found.detail["images"]) == ("green", 0.0, [])


def test_accounting_allows_few() -> None:
    few = fewest(0.01)
    colours = [finding("accounting", stage("fgsm", "first", range(k))).colour for k in (few - 1, few)]
    assert colours == ["green", "red"]


def test_a_row_that_was_passed_over_breaks_nothing() -> None:
    rows = [*stage("pgd-20", "first", range(0)), *stage("square-500", "black box", range(0), passed=range(90))]
    assert finding("accounting", rows).value == 0


# --- the budget in the rows ---


def test_the_largest_distance_is_the_value_and_inside_is_green() -> None:
    rows = [row("a", "first", 0, False, distance=0.01), row("a", "first", 1, False, distance=EPS)]
    found = finding("budget_kept", rows)
    assert (found.code, found.colour, found.value, found.n) == ("D19", "green", EPS, 2)
    assert found.breaks == "not evaluated"


@pytest.mark.parametrize("distance", [EPS * 1.001, 1.0, float("nan"), float("inf")])
def test_one_proposal_outside_the_budget_is_red(distance: float) -> None:
    rows = [row("a", "first", image, False, distance=EPS / 2) for image in range(30)]
    rows[17]["distance"] = distance
    found = finding("budget_kept", rows)
    assert found.colour == "red"
    assert "1 of 30" in found.says


def test_without_attacks_there_is_no_budget_to_keep() -> None:
    assert finding("budget_kept", []).colour == "not run"


# --- what every finding is ---


@pytest.mark.parametrize("name", parts.names("audits"))
def test_where_no_image_is_right_when_clean_nothing_is_red(name: str) -> None:
    make: Callable[[Any], AuditResult] = parts.build("audits", {"name": name})
    empty = subject(linear(), clear(0), rows=[row("fgsm", "first", 0, True, skipped=True, distance=0.0)])
    found = make(empty)
    assert found.colour in ("green", "not run")
    assert found.row()["kind"] == "audit"
