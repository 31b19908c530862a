"""Can the number be trusted? The banner at the top of the page and, for each panel, its verdict, cascade and audits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from spikeproof.metrics.summaries import EvaluationSummary, PanelSummary, StageSummary
from spikeproof.metrics.verdict import NOT_EVALUATED, SUPPORTED, UNSETTLED
from spikeproof.report._summary import Summary, interval
from spikeproof.report._tables import Entry, Table, bounded, counted_share, numbers, share, told, word, words
from spikeproof.report._text import MISSING, listed, number, percent
from spikeproof.rows import Found

__all__ = ["MANY_PANELS", "TONES", "Account", "Alarm", "Notice", "accounts", "alarms", "attacks_of", "overview"]

_FEW = 3
"""Up to so many panels that are not supported stand unfolded."""

MANY_PANELS = 12
"""More panels than that are counted first, and named under a fold."""

TONES = {SUPPORTED: "good", UNSETTLED: "warn", NOT_EVALUATED: "bad", "green": "good", "red": "bad"}

_MEANS = {
    SUPPORTED: "The attacks find what is planted for them, and with eight times the passes few more images would fall.",
    UNSETTLED: "The attacks may miss what is there, or with more passes would break more than a few images besides, so "
    "the worst case over all of them is no more than an upper bound, and is marked so wherever it stands.",
    NOT_EVALUATED: "The evaluation itself does not hold, so there is no robust accuracy to show, neither high nor low.",
}


class Notice(NamedTuple):
    """One cell and evaluation, at every eps that came out alike; `anchor` leads to the first of these panels."""

    anchor: str
    place: str
    red: str
    attacked: bool


class Alarm(NamedTuple):
    """A verdict that a reader must know before any number, what it means, and on what it was passed.

    counted: how many panels that are and which audits are red in how many, where these are too many to read; else ''.
    """

    verdict: str
    tone: str
    means: str
    counted: str
    notices: list[Notice]


class Account(NamedTuple):
    """One panel. `cascade` is None where no attack was run; `red` and `absent` are audits as the rows hold them."""

    anchor: str
    unfolded: bool
    title: str
    tier: str
    verdict: str
    tone: str
    means: str
    cascade: Table | None
    audits: Table | None
    red: list[Found]
    absent: list[Found]


def alarms(cells: Sequence[Summary]) -> list[Alarm]:
    """The verdicts other than 'supported', the worst first; empty where every panel is supported, or there is none."""
    return [
        Alarm(verdict, TONES[verdict], _MEANS[verdict], _counted(cells, verdict), notices)
        for verdict in (NOT_EVALUATED, UNSETTLED)
        if (notices := _notices(cells, verdict))
    ]


def overview(cells: Sequence[Summary]) -> Table | None:
    """Every panel in one row, its four numbers named apart; None where no panel was run."""
    columns = [
        *words("cell", "evaluation", "eps", "verdict"),
        *numbers("A₀", "Aᵣ", "ASR_cond", "ASR_all", "gap", "power", "slack"),
        *words("audits"),
    ]
    rows = [
        [
            word(cell.label),
            Entry(panel["evaluation"], f"tier {panel['tier']}", numeric=False),
            word(panel["eps_text"]),
            Entry(panel["verdict"], numeric=False, tone=TONES[panel["verdict"]]),
            *_four(attacks_of(cell, panel)),
            *readings(panel),
            word(f"{len(panel['red'])} red, {len(panel['green'])} green, {len(panel['absent'])} not run"),
        ]
        for cell, _, panel in _panels(cells)
    ]
    return Table(columns, rows) if rows else None


def accounts(cells: Sequence[Summary]) -> list[Account]:
    """Every panel of every cell in full; unfolded where it is not supported, unless these are too many to read on."""
    panels = list(_panels(cells))
    few = sum(panel["verdict"] != SUPPORTED for _, _, panel in panels) <= _FEW
    return [
        Account(
            anchor,
            few and panel["verdict"] != SUPPORTED,
            f"{cell.label}: {panel['evaluation']}, eps {panel['eps_text']}",
            panel["tier"],
            panel["verdict"],
            TONES[panel["verdict"]],
            _MEANS[panel["verdict"]],
            _cascade(panel, attacks_of(cell, panel)),
            _audits(panel),
            [audit for audit in panel["audits"] if audit["colour"] == "red"],
            [audit for audit in panel["audits"] if audit["colour"] == "not run"],
        )
        for cell, anchor, panel in panels
    ]


def _panels(cells: Sequence[Summary]) -> Iterator[tuple[Summary, str, PanelSummary]]:
    """Every panel with its cell and the id that it has on the page."""
    for place, cell in enumerate(cells):
        for index, panel in enumerate(cell.numbers["panels"]):
            yield cell, f"panel-{place}-{index}", panel


def attacks_of(cell: Summary, panel: PanelSummary) -> EvaluationSummary | None:
    """What the attacks of a panel found; None where none was run."""
    where = panel["evaluation"], panel["eps"]
    return next((e for e in cell.numbers["evaluations"] if (e["evaluation"], e["eps"]) == where), None)


def _notices(cells: Sequence[Summary], verdict: str) -> list[Notice]:
    alike: dict[tuple[str, str, str, bool], list[tuple[str, str]]] = {}
    for cell, anchor, panel in _panels(cells):
        if panel["verdict"] == verdict:
            key = (cell.label, panel["evaluation"], _red(panel), panel["attacked"])
            alike.setdefault(key, []).append((anchor, panel["eps_text"]))
    return [
        Notice(found[0][0], f"{label}: {evaluation}, eps {', '.join(eps for _, eps in found)}", red, attacked)
        for (label, evaluation, red, attacked), found in alike.items()
    ]


def _counted(cells: Sequence[Summary], verdict: str) -> str:
    panels = [panel for _, _, panel in _panels(cells)]
    some = [panel for panel in panels if panel["verdict"] == verdict]
    if len(some) <= MANY_PANELS:
        return ""
    red = Counter(audit["code"] for panel in some for audit in panel["audits"] if audit["colour"] == "red")
    often = [f"{code} in {count}" for code, count in red.most_common()]
    return f"{len(some)} of {len(panels)} panels; red: {listed(often)}." if often else f"{len(some)} of {len(panels)}."


def _red(panel: PanelSummary) -> str:
    red = [f"{audit['code']} {audit['name']}" for audit in panel["audits"] if audit["colour"] == "red"]
    return ", ".join(red)


def _four(attacks: EvaluationSummary | None) -> list[Entry]:
    """A0, Ar, ASR_cond and ASR_all."""
    if attacks is None:
        return [Entry("no attack"), *[Entry(NOT_EVALUATED)] * 3]
    return [share(interval(attacks["clean"])), *(told(attacks, f) for f in ("robust", "asr_conditional", "asr_all"))]


def readings(panel: PanelSummary) -> list[Entry]:
    """The gap to the plain attack, the attacks' power, and the upper end of the slack."""
    slack = panel["slack"]
    return [
        share(interval(panel["gap"])),
        share(interval(panel["power"])),
        Entry(MISSING)
        if slack is None
        else Entry(f"≤ {percent(slack['high'])}", f"{percent(slack['expected'])} expected"),
    ]


def _cascade(panel: PanelSummary, attacks: EvaluationSummary | None) -> Table | None:
    """What every stage left of all images, and what that took."""
    if attacks is None:
        return None
    columns = [
        *words("stage", "group"),
        *numbers("left after it", "attacked", "broken", "newly broken", "forwards", "backwards"),
    ]
    rows = [
        [
            word(stage["attack"]),
            word(stage["group"]),
            _left(panel, stage),
            *(Entry(f"{stage[name]:,}") for name in ("attacked", "broken", "newly_broken", "forwards", "backwards")),
        ]
        for stage in panel["stages"]
    ]
    return Table(columns, rows)


def _left(panel: PanelSummary, stage: StageSummary) -> Entry:
    found = interval(stage["left"])
    if found is None:
        return Entry(NOT_EVALUATED)
    last = stage is panel["stages"][-1]
    plain = counted_share(found)
    return bounded(found)._replace(small=plain.small) if last and panel["verdict"] == UNSETTLED else plain


def _audits(panel: PanelSummary) -> Table | None:
    """The audits that were run; None where none was."""
    columns = [*words("audit", "name", "colour"), *numbers("value", "limit", "images"), *words("what it found")]
    rows = [
        [
            word(audit["code"]),
            word(audit["name"]),
            Entry(audit["colour"], numeric=False, tone=TONES[audit["colour"]]),
            *(Entry("none" if found is None else number(found)) for found in (audit["value"], audit["limit"])),
            Entry(f"{audit['n']:,}"),
            word(audit["says"]),
        ]
        for audit in panel["audits"]
        if audit["colour"] != "not run"
    ]
    return Table(columns, rows) if rows else None
