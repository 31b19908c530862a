"""The stages of each tier under a threat of whole events: what fits of the others' roles, and searches over swaps.

Left out are what needs a step of any length: APGD, SA-PGD, MI-FGSM, FAB, Square, blocks, searches over codes, SPSA. The
field's own attacks on events stand in `audit`, those that retime wherever events move in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spikeproof.attacks.gumbel import Gumbel
from spikeproof.attacks.random_events import RandomEvents
from spikeproof.attacks.random_swaps import RandomSwaps
from spikeproof.attacks.retiming import Retiming
from spikeproof.attacks.sparse_dynamic import SparseDynamic
from spikeproof.attacks.spike_fool import SpikeFool
from spikeproof.attacks.spike_gradient import SpikeGradient
from spikeproof.attacks.swap_search import SwapSearch
from spikeproof.attacks.top_events import TopEvents
from spikeproof.evaluation.stages import Maker, Stage
from spikeproof.losses import margin
from spikeproof.rules.pdsg import PDSG
from spikeproof.types import FreeMoves, RetimeThreat

__all__ = ["event_stages"]


def event_stages(tier: str, on: Maker) -> list[Stage]:
    """The stages of the tier of that name, which must be one."""
    return _STAGES[tier](on)


def _first(on: Maker, plain: int) -> list[Stage]:
    return [on.stage("one step", TopEvents(1)), on.stage("plain", TopEvents(plain))]


def _search(on: Maker, queries: int, steps: int) -> Stage:
    """Swaps along the gradient of the dense twin, from where it led; by chance, where a network has no gradient."""
    led = on.dense(TopEvents(steps), margin)
    if on.victim.one_gradient:
        led = on.own(led)
    if not on.victim.supports(led.case.estimator):
        led = on.stage("black box", RandomEvents(2 * steps), margin)
        search = on.stage("search", RandomSwaps(queries), margin, variant=f"after {led.name}")
        return replace(search, case=replace(search.case, after=led.case))
    case = replace(led.case, attack=SwapSearch(queries), after=led.case)
    return Stage("search", case, SwapSearch(queries).label, led.estimator, f"{led.variant} after {led.attack}".strip())


def _retimed(on: Maker, steps: int) -> list[Stage]:
    """Soft choices of times, under the rule of training and under PDSG, as they were published; in twice as many steps
    where a sum is bounded."""
    if not isinstance(on.threat, RetimeThreat):
        return []
    attack = Retiming(2 * steps if on.threat.adds_up else steps)
    by = on.estimator(PDSG())
    return [on.stage("white box", attack), on.stage("white box", attack, by=by, estimator="pdsg")]


def _published(on: Maker) -> list[Stage]:
    """What papers attack events with, under PDSG, where moves are free of each other."""
    if not isinstance(on.threat, FreeMoves):
        return []
    by = on.estimator(PDSG())
    attacks = (SparseDynamic(10), SpikeFool(), SpikeGradient(100), Gumbel(50))
    return [on.stage("white box", attack, margin, by=by, estimator="pdsg", variant="margin") for attack in attacks]


def _smoke(on: Maker) -> list[Stage]:
    return [*_first(on, 10), on.stage("random", RandomEvents(20))]


def _quick(on: Maker) -> list[Stage]:
    return [
        *_first(on, 20),
        on.dense(TopEvents(20)),
        on.stage("random", RandomEvents(20)),
        _search(on, 300, steps=20),
    ]


def _standard(on: Maker) -> list[Stage]:
    long = TopEvents(50)
    return [
        *_first(on, 20),
        on.dense(TopEvents(20)),
        on.stage("long", long, margin, variant="margin"),
        on.stage("white box", long, margin, by=on.estimator(PDSG()), estimator="pdsg", variant="margin"),
        *_retimed(on, 20),
        on.stage("random", RandomEvents(50)),
        on.stage("black box", RandomSwaps(300), margin),
        _search(on, 1200, steps=50),
    ]


def _audit(on: Maker) -> list[Stage]:
    long = TopEvents(100)
    return [
        *_standard(on),
        on.dense(long, on.ratio),
        on.stage("white box", long),
        on.stage("white box", long, on.ratio, variant=on.ratio.__name__),
        *on.others(long),
        on.adaptive("white box", long, variant="margin"),
        *_published(on),
        on.stage("random", RandomEvents(200)),
        *on.smooth(TopEvents(20)),
        on.stage("black box", RandomSwaps(2000), margin),
        on.stage("more effort", TopEvents(200), margin, variant="margin"),
        _search(on, 12000, steps=100),
    ]


_STAGES: dict[str, Callable[[Maker], list[Stage]]] = {
    "smoke": _smoke,
    "quick": _quick,
    "standard": _standard,
    "audit": _audit,
}
