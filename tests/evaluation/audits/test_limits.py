"""Each limit of the audits that measure for themselves: the last count that is green and the first that is red.

What an audit measures is put in its place, so that its judgement alone is looked at; every number is written by hand.
Of 100 images the exact 95 % interval begins above 2 % at 6, above 1/2 % at 3, above 10 % at 17, above 1/4 at 35 and
above 1/2 at 61.
"""

from __future__ import annotations

from typing import Any

import pytest
import scipy.stats
import torch
from subjects import clear, linear, subject

from spikeproof import parts
from spikeproof.evaluation.audits import AuditResult, Effort, Subject, limits

N = 100


def first(count: int) -> torch.Tensor:
    """The first `count` of the images, as a mask."""
    return torch.arange(N) < count


def judged(name: str, **more: Any) -> AuditResult:
    of = subject(linear(), clear(N), effort=Effort(N, 50, 10), batch_size=N, **more)
    found: AuditResult = parts.build("audits", {"name": name})(of)
    return found


def measuring(monkeypatch: pytest.MonkeyPatch, name: str, found: Any, method: str = "_batch") -> None:
    monkeypatch.setattr(parts.find("audits", name), method, lambda *given: found)


@pytest.mark.parametrize(("limit", "green"), [(0.02, 5), (0.005, 2), (0.1, 16), (0.25, 34), (0.5, 60)])
def test_the_counts_of_this_file_are_those_of_the_exact_interval(limit: float, green: int) -> None:
    low, next_low = (scipy.stats.beta.ppf(0.025, k, N - k + 1) for k in (green, green + 1))
    assert low <= limit < next_low


@pytest.mark.parametrize(
    ("flat", "beaten", "colour"), [(16, 0, "green"), (17, 0, "red"), (0, 34, "green"), (0, 35, "red")]
)
def test_along_gradient(monkeypatch: pytest.MonkeyPatch, flat: int, beaten: int, colour: str) -> None:
    measuring(monkeypatch, "along_gradient", (torch.stack([~first(flat)] * 4), first(beaten)))
    found = judged("along_gradient")
    assert (found.colour, found.limit) == (colour, 0.9)


@pytest.mark.parametrize(("flat", "colour"), [(60, "green"), (61, "red")])
def test_flatness(monkeypatch: pytest.MonkeyPatch, flat: int, colour: str) -> None:
    measuring(monkeypatch, "flatness", (torch.stack([first(flat)] * 4), torch.zeros(N), torch.zeros(N)))
    found = judged("flatness")
    assert (found.colour, found.limit) == (colour, 0.5)


@pytest.mark.parametrize(("correlation", "colour"), [(0.0376, "green"), (0.0374, "red")])
def test_fidelity(monkeypatch: pytest.MonkeyPatch, correlation: float, colour: str) -> None:
    """100 directions on 100 images: one standard error is 1.25 / 100, three are 0.0375."""
    measuring(monkeypatch, "fidelity", torch.full((N,), correlation))
    found = judged("fidelity")
    assert (found.colour, found.limit) == (colour, pytest.approx(0.0375))


@pytest.mark.parametrize(("lost", "rising", "colour"), [(0, 60, "green"), (0, 61, "red"), (1, 0, "red")])
def test_optimiser(monkeypatch: pytest.MonkeyPatch, lost: int, rising: int, colour: str) -> None:
    measuring(monkeypatch, "optimiser", (lost, rising, N))
    found = judged("optimiser")
    assert (found.colour, found.limit) == (colour, 0.0)


@pytest.mark.parametrize(("other", "colour"), [(0, "green"), (1, "red")])
def test_domain(monkeypatch: pytest.MonkeyPatch, other: int, colour: str) -> None:
    measuring(monkeypatch, "domain", (other, 0, 0))
    found = judged("domain")
    assert (found.colour, found.limit) == (colour, 0.0)


@pytest.mark.parametrize(("company", "colour"), [(5, "green"), (6, "red")])
@pytest.mark.parametrize("method", ["_other_answers", "_twin_differs"])
def test_same_model(monkeypatch: pytest.MonkeyPatch, method: str, company: int, colour: str) -> None:
    measuring(monkeypatch, "same_model", company, method)
    found = judged("same_model")
    assert (found.colour, found.limit) == (colour, 0.02)


@pytest.mark.parametrize(("apart", "colour"), [(0.9e-6, "green"), (1.1e-6, "red")])
def test_same_logits(monkeypatch: pytest.MonkeyPatch, apart: float, colour: str) -> None:
    measuring(monkeypatch, "same_model", apart, "_apart")
    assert judged("same_model").colour == colour


@pytest.mark.parametrize(("apart", "colour"), [(0.9e-4, "green"), (1.1e-4, "red")])
def test_determinism(monkeypatch: pytest.MonkeyPatch, apart: float, colour: str) -> None:
    monkeypatch.setattr("spikeproof.evaluation.audits.determinism.difference", lambda a, b: apart)
    found = judged("determinism")
    assert (found.colour, found.limit) == (colour, 1e-4)


@pytest.mark.parametrize(("gained", "colour"), [(2, "green"), (3, "red")])
def test_saturation(monkeypatch: pytest.MonkeyPatch, gained: int, colour: str) -> None:
    """Every image is saturated; the plain loss breaks none, the cooled ones `gained`."""
    answers = iter([[False] * N, first(gained).tolist(), [False] * N])
    monkeypatch.setattr(parts.find("audits", "saturation"), "_fooled", lambda *given: next(answers))
    of = subject(linear(after=lambda z, rule: 1e4 * z), clear(N), effort=Effort(N, 50, 10))
    found: AuditResult = parts.build("audits", {"name": "saturation"})(of)
    assert (found.colour, found.limit, found.value) == (colour, 0.005, gained / N)


@pytest.mark.parametrize(("left", "colour"), [(0, "green"), (1, "red")])
def test_unbounded(monkeypatch: pytest.MonkeyPatch, left: int, colour: str) -> None:
    rows = [{"fooled": not stands} for stands in first(left).tolist()]
    monkeypatch.setattr(Subject, "attacked", lambda *given: rows)
    found = judged("unbounded")
    assert (found.colour, found.limit) == (colour, 0.0)


@pytest.mark.parametrize(("left", "colour"), [(3, "green"), (4, "red")])
def test_control(monkeypatch: pytest.MonkeyPatch, left: int, colour: str) -> None:
    """Of 100 the interval begins above 1 % at 4: 0.62 % at 3, 1.10 % at 4."""
    rows = [{"fooled": not stands} for stands in first(left).tolist()]
    monkeypatch.setattr("spikeproof.evaluation.audits.control.outcomes", lambda *given: rows)
    found = judged("control", control=linear())
    assert (found.colour, found.limit) == (colour, 0.99)


@pytest.mark.parametrize(
    ("blind", "cover", "hidden", "colour"),
    [
        (0, 1.0, 0.0, "green"),
        (1, 1.0, 0.0, "red"),
        (0, 0.89, 0.21, "red"),
        (0, 0.91, 0.21, "green"),
        (0, 0.89, 0.19, "green"),
    ],
)
def test_zero_gradients(monkeypatch: pytest.MonkeyPatch, blind: int, cover: float, hidden: float, colour: str) -> None:
    """hidden: what unseen pixels do, of what as many others do."""
    one = torch.ones(N, dtype=torch.float64)
    measuring(monkeypatch, "zero_gradients", (first(blind).double(), cover * one, hidden * one, one))
    found = judged("zero_gradients")
    assert (found.colour, found.limit) == (colour, 0.0)


@pytest.mark.parametrize(("rise", "colour"), [(0.19, "green"), (0.21, "red")])
def test_false_zeros(monkeypatch: pytest.MonkeyPatch, rise: float, colour: str) -> None:
    measuring(monkeypatch, "false_zeros", [(rise, 1.0)] * N)
    found = judged("false_zeros")
    assert (found.colour, found.limit) == (colour, 0.2)


@pytest.mark.parametrize(("zeros", "told"), [(0.04, 0), (0.06, N)])
def test_zeros_that_must_be_explained(monkeypatch: pytest.MonkeyPatch, zeros: float, told: int) -> None:
    """Of 50 pixels two are 4 %, three 6 %: the second share counts."""
    gradient = torch.ones(N, 50)
    gradient[:, : round(50 * zeros)] = 0
    monkeypatch.setattr(Subject, "gradient", lambda *given: gradient)
    monkeypatch.setattr("spikeproof.evaluation.audits.false_zeros.rise", lambda f, x, t, m, keys, d: m.double().sum(1))
    of = subject(linear(), clear(N), effort=Effort(N, 50, 10), batch_size=N)
    (batch,) = of.batches()
    assert len(parts.build("audits", {"name": "false_zeros"})._batch(of, batch)) == told


def test_every_limit_is_listed_by_its_audit() -> None:
    """An audit without a limit of its own is listed too."""
    told = limits()
    assert sorted(told) == parts.names("audits")
    assert (told["along_gradient"], told["budget_kept"]) == ({"limit": 0.9, "beaten": 0.25}, {})
