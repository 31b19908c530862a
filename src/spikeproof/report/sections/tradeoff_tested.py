"""Claims on the trade-off with their verdicts, and what these rest on."""

from __future__ import annotations

from collections.abc import Iterator

from spikeproof.metrics.resampling import SEEDS
from spikeproof.report import _tradeoff_figures, _tradeoff_text
from spikeproof.report._blocks import Block, Drawing, Fold, Grid, Paragraph, Points, Section, text
from spikeproof.report._claims import REPLICATES
from spikeproof.report._findings import Findings
from spikeproof.report._tradeoff import Answers, Front, lacking

PLACE = 410
FIGURES = ("shape", "forest", "pareto")

_TITLE = "The trade-off, tested"

_LACKING = """
Whether sparse gradients go with robustness, and dense ones with generalisation, is a question for many networks: three
seeds at least for an interval, six configurations for a rank correlation to be taken at all, and many more for a
verdict on it. This study has {}, so nothing is tested here. <code>spikeproof plan FILE</code> says what a study could
decide, before it runs.
"""

_NOTHING = """
<strong>This study decides none of the claims, and could not have decided any</strong>, whatever was found: see the
reasons in the table. <code>spikeproof plan FILE</code> says what it would take.
"""

_RULE = """
Claims, with verdicts that follow from the numbers by one rule, the same for every study. A claim is
<strong>supported</strong> where both of its 95\u00a0% intervals lie whole on the claimed side of 0 and p, corrected by
Holm\u2019s method for all claims here that the design could decide, is at most 5\u00a0%; <strong>contradicted</strong>
where the same holds on the other side; <strong>fragile</strong> where other resamples of the same data could turn it,
after 128,000 of them; and else <strong>undecided</strong>. <em>Over seeds</em>: every seed repeats the whole study, so
each correlation is taken seed by seed, over configurations, and the interval is Student\u2019s for the mean of these;
it says what other seeds would change, and nothing of other test images. <em>Over {unit}</em>: whole {unit} are
resampled within each architecture, and seeds beside them; it says how much hangs on which were chosen for the study,
and p is twice the share of resamples beyond 0, or Student\u2019s by their spread where that is larger. Max and average
pooling are compared in pairs that differ in nothing else, on the same images: there the interval is one over seeds and
images, which are crossed, and p counts flips of signs, one a seed and architecture, which is exact where the pool
changes nothing. All is ranked within an architecture, never across. With three seeds Student\u2019s interval covers
95\u00a0% for normal numbers, 89\u00a0% for such as crowd at two ends; with ten, 94\u00a0% and more.
"""

_VARIANTS = """
Each number that decides a claim, as decided and in other ways: its interval over seeds, and over configurations below
it. Green: both lie on the claimed side of 0; red: both on the other. Only the rows <em>as decided</em> decide; a
verdict that turns round in another deserves a second look. Rows that decide nothing have {} resamples, which moves
their ends by some hundredths.
"""

_FRONT = """
Means over seeds with 95\u00a0% intervals over seeds. Chance: share of resamples of whole seeds in which no other
configuration is at least as good in both and better in one. {}
"""

_CORRELATIONS = """
Measures are turned so that larger is sparser, and gaps so that larger is better. In one line the rank correlation with
its interval over seeds, below it the interval over {}. Of {} rows, one in twenty would have an interval beside 0 if
nothing went with anything.
"""


def section(of: Findings) -> Section:
    if of.answers is None:
        return Section(_TITLE, [Paragraph(text(_LACKING, lacking(of.cells)))])
    if not of.answers.decidable:  # one line says so, and nothing is lost behind it
        folded = Fold("What there is to see all the same", "claims, figures and tables", list(_blocks(of.answers)))
        return Section(_TITLE, [Paragraph(text(_NOTHING)), folded], "tradeoff.css")
    return Section(_TITLE, list(_blocks(of.answers)), "tradeoff.css")


def _blocks(answers: Answers) -> Iterator[Block]:
    yield from (drawing for drawing in _drawings(answers) if drawing.figure is not None)
    rule = Paragraph(text(_RULE, unit=answers.unit))
    yield Paragraph(_tradeoff_text.told(answers))
    yield Grid("Verdicts on the claims", _tradeoff_text.claims_table(answers), [rule])
    yield Fold("What the verdicts rest on", "", [Points(_tradeoff_text.notes(answers))])
    variants, pairs = _tradeoff_text.variants_table(answers), _tradeoff_text.pairs_table(answers)
    if variants is not None:
        yield Grid("The deciding correlations in other ways", variants, [Paragraph(text(_VARIANTS, REPLICATES))])
    if pairs is not None:
        yield Grid("Max less average pool", pairs)
    yield from map(_front, answers.fronts)
    for name, table in _tradeoff_text.correlation_tables(answers):
        words = Paragraph(text(_CORRELATIONS, answers.unit, len(table.rows)))
        note = "secondary: none of these decides a claim by being found"
        yield Fold(f"Every correlation, {name}", note, [Grid(f"Correlations of {name}", table, [words])])


def _front(front: Front) -> Fold:
    name, table = front.architecture, _tradeoff_text.front_table(front)
    words = Paragraph(text(_FRONT, _tradeoff_text.absent(front)))
    return Fold(f"The front of {name}", f"{len(table.rows)} configurations", [Grid(f"Front of {name}", table, [words])])


def _drawings(answers: Answers) -> Iterator[Drawing]:
    grid, bounded = answers.design, _tradeoff_text.bounded(answers)
    seeds = len(grid.seeds)
    yield Drawing(
        "shape", "Sparsity, scale and what goes with them",
        f"One mark for each network ({len(grid.cells)}). Across: Gini index of its input gradient, sparser to the "
        "right. Up: worst-case robust accuracy at the headline (above) and clean test accuracy (below). Colour: "
        "l1 norm of the same gradient, on a logarithmic scale, the larger the lighter. If shape decided, marks of "
        "one colour would climb to the right; if scale decides, it is the dark marks that stand high, wherever "
        f"they are.{bounded}",
        "Robust and clean accuracy against the sparsity of the input gradient, coloured by its scale",
        _tradeoff_figures.shape(answers), _tradeoff_figures.titles(answers),
    )  # fmt: skip
    yield Drawing(
        "forest", "What goes with robustness, and what with accuracy",
        "Rank correlations of each measure of sparsity (all turned so that the right is sparser) with robust "
        "accuracy (left) and clean test accuracy (right), by rank within each architecture. Hollow: as it is. "
        "Filled blue: with the gradient's l1 held fixed. Filled orange, below: the l1 itself, with the Gini of the "
        f"input gradient held fixed. Thick bars: 95 % intervals over {seeds} seeds (no bar: fewer than {SEEDS}). "
        f"Thin bars: 95 % intervals over {answers.unit} and seeds. Only Gini at the input and the zero share behind "
        "the first layer enter a verdict, filled on the left and hollow on the right; the rest is shown for what else "
        "there is to see.",
        "Rank correlations of robust and of clean accuracy with every measure of sparsity, with intervals",
        _tradeoff_figures.forest(answers),
    )  # fmt: skip
    yield Drawing(
        "pareto", "Who is on the front",
        f"One mark for each configuration: means over {seeds} seeds of clean and worst-case robust accuracy, "
        "bars: 95 % intervals over seeds. The line joins those that no other beats in one without losing in the "
        "other. Colour: share of resamples of the seeds in which a configuration is on that line. Numbers: see "
        f"the table.{bounded}",
        "The Pareto front of clean and worst-case robust accuracy, one mark for each configuration",
        _tradeoff_figures.pareto(answers),
    )  # fmt: skip
