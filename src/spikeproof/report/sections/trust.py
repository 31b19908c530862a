"""Every panel: its verdict in one row, then its cascade and its audits in full."""

from __future__ import annotations

from collections.abc import Iterator

from spikeproof.report._blocks import Block, Drawing, Fold, Grid, Heading, Paragraph, Points, Section, missing, text
from spikeproof.report._findings import Findings
from spikeproof.report._readings_figure import readings
from spikeproof.report._trust import MANY_PANELS, Account, accounts, overview

PLACE = 205
FIGURES = ("readings",)

_LABEL = "Each panel from its clean accuracy to its worst case and to where that may fall yet"

_DESCENT = (
    "A line for each panel, from the images that are right when clean (its end) over those that the plain attack left "
    "(tick) to the worst case (dot; hollow where it is unsettled), and on over the slack's upper end (bar): the images "
    "that eight times the passes might break besides. Of more than 40 panels, those at the headline alone."
)

_PANEL = """
A panel attacks each network with a fixed set of attacks, one after the other, most of them on what those before it
left standing, and then audits the attacks. Three readings follow. The <em>gap</em>: images that the plain attack left
and the others broke, a finding about the usual protocol and no alarm; most audits look for its reasons. The
<em>power</em> (D21): how many of the adversarial examples that are there by construction the attacks find. The
<em>slack</em> (D22): how many more images an attacker with eight times the passes would break, by when those fell that
did. <strong>supported</strong>: power holds and the slack's upper end is small. <strong>unsettled</strong>: one of the
two does not hold or was not measured, and the worst case is an upper bound. <strong>not evaluated</strong>: an audit
says that the evaluation itself does not hold; then there is no number.
"""

_SHARES = """
Four shares that must not be mixed. <strong>A₀</strong>: images that are right when clean, of all images.
<strong>Aᵣ</strong>, the robust accuracy: images that are right when clean and that no attack of the panel fools, of
all images. <strong>ASR_cond</strong> = (A₀ \N{MINUS SIGN} Aᵣ) / A₀: images that an attack fools, of those right when
clean. <strong>ASR_all</strong> = 1 \N{MINUS SIGN} Aᵣ: the same with the images that are wrong when clean counted as
successes, of all images. Numbers of evaluations that are not a panel were not audited and have no verdict.
"""

_CASCADE = """
In a cascade, <em>left after it</em> counts the images that are right when clean and that neither this stage nor one
before it fooled, of all images: it is no accuracy of this attack alone. <em>Newly broken</em> are those that it fooled
and none before it had. An audit's value and limit are in a unit of its own. Where the limit is on a share of images,
the whole 95 % interval must lie beyond it before the audit is red, for one image of a few is no evidence; a limit of 0
is strict.
"""


def section(of: Findings) -> Section | None:
    table = overview(of.cells)
    if table is None:
        return None
    figure = readings(of.cells)
    drawn = [] if figure is None else [Drawing("readings", "How far each number may fall", _DESCENT, _LABEL, figure)]
    above = [Paragraph(text(words)) for words in (_PANEL, _SHARES, _CASCADE)]
    blocks: list[Block] = [*drawn, Grid("The verdict on every panel", table, above)]
    panels = [_account(account) for account in accounts(of.cells)]
    if len(panels) > MANY_PANELS:
        blocks.append(Fold("Every panel in full", f"{len(panels)} cascades and their audits", panels, "long"))
    else:
        blocks += panels
    return Section("Can the number be trusted?", blocks, "panel.css")


def _account(of: Account) -> Fold:
    summary = text('{} <strong class="{}">{}</strong>', of.title, of.tone, of.verdict)
    return Fold(summary, f"tier {of.tier}", list(_blocks(of)), "panel", of.anchor, of.unfolded)


def _blocks(of: Account) -> Iterator[Block]:
    yield Paragraph(of.means)
    if of.red:
        yield Heading("Red audits")
        red = "<strong>{code} {name}</strong>: {says}. {means} <em>To mend:</em> {mend}"
        yield Points([text(red, **audit) for audit in of.red])
    yield Heading("The cascade of attacks")
    if of.cascade is None:
        yield missing("No attack was run: what it finds on such a network would mean nothing.")
    else:
        yield Grid(f"Cascade of {of.title}", of.cascade)
    yield Heading("The audits")
    if of.audits is not None:
        yield Grid(f"Audits of {of.title}", of.audits)
    if of.absent:
        yield Paragraph("Not run:")
        yield Points([f"{audit['code']} {audit['name']}: {audit['says']}" for audit in of.absent])
    elif of.audits is None:
        yield missing("No audit was run.")
