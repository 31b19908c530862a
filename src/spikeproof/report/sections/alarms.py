"""The verdicts that a reader must know before any number: a banner for each kind of verdict that is not 'supported'."""

from __future__ import annotations

from spikeproof.report._blocks import Box, Fold, Paragraph, Points, Section, text
from spikeproof.report._findings import Findings
from spikeproof.report._trust import Alarm, Notice, alarms

PLACE = 210


def section(of: Findings) -> Section | None:
    some = alarms(of.cells)
    return Section("", [_banner(alarm) for alarm in some]) if some else None


def _banner(alarm: Alarm) -> Box:
    said = Paragraph(text('<strong class="{}">{}</strong> {}', alarm.tone, alarm.verdict, alarm.means))
    points = Points([_point(notice) for notice in alarm.notices])
    return Box(f"banner {alarm.tone}", [said, Fold(alarm.counted, "", [points]) if alarm.counted else points])


def _point(notice: Notice) -> str:
    red = f"Red: {notice.red}." if notice.red else "No audit was run."
    attacked = "" if notice.attacked else " No attack was run."
    return text('<a href="#{}">{}</a>. {}', notice.anchor, notice.place, red) + attacked
