"""What the rows of one cell say, as plain JSON: the types of `results` in a cell's summary.json.

None stands where nothing was measured, where a number does not exist, and where it may not be told: after an attack in
an evaluation whose verdict is 'not evaluated', and of an attack that was not run on every image.
"""

from __future__ import annotations

from typing import TypeAlias, TypedDict

from spikeproof.metrics.verdict import Word
from spikeproof.rows import Found, Mark, Protocol, Spent

__all__ = [
    "AttackSummary", "CleanGaps", "CorruptionKind", "CorruptionSummary", "EnergySummary", "EvaluationSummary", "Gap",
    "GeneralisationSummary", "GradientSummary", "GradientTree", "Layer", "NormalMean", "Numbers", "PanelSummary",
    "Ratio", "Results", "Rise", "RobustGap", "RobustnessSummary", "Share", "Shares", "SiteRate", "Slack",
    "StageSummary", "TheorySummary", "WeightDensity",
]  # fmt: skip


class Share(TypedDict):
    """`metrics.robustness.Interval`: correct / total in [0,1] and the ends of its 95 % interval."""

    share: float
    low: float
    high: float
    correct: int
    total: int


class Gap(TypedDict):
    """One share less another, in [-1,1], with Newcombe's 95 % interval: over images, not over training seeds."""

    gap: float
    low: float
    high: float


class Shares(TypedDict):
    """Of one attack, or of the worst case over all, per image."""

    robust: Share | None  # right when clean and fooled by no attack; of random code, the majority of fresh draws
    survived: Share | None  # fooled by no attack, clean errors not excepted, where a protocol attacks every image
    asr_conditional: Share | None  # (A0 - Ar) / A0: success among the images that are right when clean
    asr_all: Share | None  # 1 - Ar: clean errors count as success
    deployed: Share | None  # robust where the deployed network judges the points, if every attacked row says so
    every_draw: Share | None  # robust in all fresh draws
    mean_draw: float | None  # mean share of fresh draws that are right


class Numbers(Shares, Spent):
    """With the totals of what it cost."""

    zero_gradient: Share | None  # attacked images whose gradient was zero everywhere


class AttackSummary(Numbers):
    """One attack. If it was not run alone, what is left after it stands in the stages of the panel."""

    alone: bool  # run on every image that is right when clean


class EvaluationSummary(TypedDict):
    """One evaluation at one eps."""

    evaluation: str
    protocol: Protocol
    surface: str
    norm: str
    eps: float
    eps_text: str
    attacks: dict[str, AttackSummary]
    verdict: Word | None  # of its panel
    images: int
    clean: Share  # accuracy on the same images before the attack
    worst: Numbers


class StageSummary(Spent):
    """One attack of a panel's cascade."""

    attack: str
    group: str
    attacked: int  # images it was run on
    broken: int
    newly_broken: int  # of them, those that no attack before had broken
    left: Share | None  # of all images, standing after it


class Slack(TypedDict):
    """How many more images an attacker with eight times the passes would break, as shares of all images."""

    expected: float
    high: float  # the upper end of the one-sided 95 % interval


class PanelSummary(Mark):
    """One panel at one eps, attacked or not. Its three readings are None where they were not, or may not be, taken."""

    verdict: Word
    gap: Share | None  # of all images: left by the plain attack and broken by another
    power: Share | None  # of the images for which an example was planted: those whose example was found
    slack: Slack | None
    red: list[str]  # codes of audits
    green: list[str]
    absent: list[str]
    attacked: bool  # whether attacks were run
    stages: list[StageSummary]
    audits: list[Found]


class RobustnessSummary(TypedDict):
    clean: dict[str, Share | None]  # by split
    evaluations: list[EvaluationSummary]
    panels: list[PanelSummary]
    twin_differs: Share | None  # proposed points to which the frozen twin that attacks see answers otherwise
    forwards: int  # totals of the cell
    backwards: int


GradientSummary: TypeAlias = dict[str, float | None]
"""Measure -> mean over images; beside them `order`, the depth of the site, `images`, and `undefined`, the images whose
gradient is all zero, which the means of scale-free measures leave out."""

GradientTree: TypeAlias = dict[str, dict[str, dict[str, GradientSummary]]]
"""batchnorm -> site -> scalar. Sites: 'image', 'encoded', the name of each layer (the gradient that *enters* it),
'weights' (all together) and 'weight:' with the name of each layer, which have the measure `masked_share` too."""


class CleanGaps(TypedDict):
    """Clean accuracy on training images less that on others."""

    train_test: Gap | None
    train_validation: Gap | None


class RobustGap(Gap):
    """Robust accuracy under one attack and budget, of training images less that of test images."""

    eps: float
    eps_text: str
    attack: str
    train: Share
    test: Share


class NormalMean(TypedDict):
    """A mean over images in [0,1] with its normal 95 % interval."""

    mean: float
    low: float
    high: float


class CorruptionKind(TypedDict):
    mean: float
    severities: list[float]  # accuracy at each


class CorruptionSummary(TypedDict):
    images: int
    accuracy: NormalMean  # over corruptions, severities and images
    clean: Share  # on the same images
    drop: float  # the one less the other
    kinds: dict[str, CorruptionKind]


class GeneralisationSummary(TypedDict):
    clean: CleanGaps
    robust: RobustGap | None
    corruptions: CorruptionSummary | None


class Layer(TypedDict):
    """Synaptic operations."""

    effective_acs: float
    effective_macs: float
    dense: float  # every connection, zeros as well


class SiteRate(TypedDict):
    firing_rate: float


class EnergySummary(Layer):
    """Means over images, of one inference."""

    images: int
    steps: int
    firing_rate: float | None  # spikes per neuron and step over all spiking layers, in [0,1]
    activation_sparsity: float | None  # 1 less that
    spikes: float
    synaptic_operations: float  # effective_acs and effective_macs together
    energy_pj: float
    dense_energy_pj: float  # if every connection were a MAC
    layers: dict[str, Layer]
    sites: dict[str, SiteRate]  # each layer of neurons


class Rise(TypedDict):
    """Medians over images of how far the cross-entropy rises."""

    predicted: float | None
    measured: float | None
    quotient: float | None  # median of measured by predicted, over images whose predicted rise is not 0


class Ratio(TypedDict):
    """Medians over images of what an attack gains over noise."""

    measured: float | None
    predicted: float | None
    bound: float | None
    quotient: float | None  # median of measured by predicted
    undefined: int  # images that have no ratio of either kind


class WeightDensity(TypedDict):
    """Means over images of the fields of `rows.Tightness`."""

    density: float
    support: float
    product: float
    count: float
    delta: float
    quotient: float | None  # density by support


class TheorySummary(TypedDict):
    images: int
    eps: float | None
    eps_text: str | None
    ratio: Ratio | None
    rise: Rise | None
    weights: dict[str, WeightDensity] | None  # by layer


class Results(RobustnessSummary):
    """Every number of a cell."""

    gradients: GradientTree
    generalisation: GeneralisationSummary
    energy: EnergySummary | None
    theory: TheorySummary | None
