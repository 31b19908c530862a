"""One cell's configuration, complete and typed: what decides its numbers, and nothing else.

Nothing here is left open: every default is written out, because `cell_from` alone makes these. None means something of
its own (all images, no given weights), never 'to be filled in'.
"""

from __future__ import annotations

from dataclasses import dataclass, field, is_dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from spikeproof import parts
from spikeproof.evaluation.paper import PROTOCOL
from spikeproof.limits import STEPS
from spikeproof.measures.gradients import SCALARS
from spikeproof.training.train import Recipe

__all__ = [
    "FOLDERS", "LEAST", "MOST", "OF_TRAINING", "PROTOCOLS", "WRITTEN", "Attacked", "CellConfig", "Energy", "Evaluation",
    "Generalisation", "Gradients", "Headline", "Network", "Panel", "Paper", "Part", "Pixels", "Theory",
]  # fmt: skip

Part: TypeAlias = dict[str, Any]
"""A part's 'name' and its options, as `spikeproof parts` lists them."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an attacker may do, in every protocol.

    eps: texts such as 8/255, each another budget. rule, encoder: the attacker's; where none is written, those of
    training, and the rule None is what a network of one's own brings. images: how many of the test images, None for
    all.
    """

    name: str
    protocol: str
    norm: str
    surface: Literal["pixels", "encoded", "events", "counts", "relaxed"]
    eps: list[str]
    rule: Part | None
    encoder: Part
    images: int | None
    batch_size: int

    USUAL: ClassVar[dict[str, Any]]
    """What is filled in where nothing is written; rule and encoder are those of the cell."""

    def written(self) -> dict[str, Any]:
        """As YAML has it: the same keys in the same order for every protocol."""
        return {name: _plain(getattr(self, name, usual)) for name, usual in WRITTEN.items()}


_LEAVES = frozenset({str, int, float, bool, type(None)})


def _plain(said: Any) -> Any:
    """Plain data of its own, section by section; many times as fast as `asdict`, which a grid would feel."""
    if type(said) in _LEAVES:
        return said
    if isinstance(said, dict):
        return {name: _plain(value) for name, value in said.items()}
    if isinstance(said, list):
        return [_plain(value) for value in said]
    if isinstance(said, Evaluation):
        return said.written()
    return _plain(vars(said)) if is_dataclass(said) else said


@dataclass(frozen=True, kw_only=True)
class Attacked(Evaluation):
    """What names its own attacks, by the name that their rows have.

    An encoder of the attacker's must have the forward of the network's own, and is there to choose another gradient
    through the code. An attack may have its own loss, rule, encoder and estimator under 'using': {name: square, using:
    {loss: margin}}.
    """

    attacks: dict[str, Part]
    loss: str
    estimator: Part


@dataclass(frozen=True, kw_only=True)
class Pixels(Attacked):
    """Attacks at budgets, judged soundly."""

    protocol: Literal["pixels"] = "pixels"

    USUAL: ClassVar[dict[str, Any]] = {
        "name": "pixels", "norm": "linf", "surface": "pixels", "eps": ["8/255"],
        "attacks": {"fgsm": {"name": "fgsm"}, "pgd-20": {"name": "pgd", "steps": 20}},
        "loss": "cross_entropy", "estimator": {"name": "white_box"}, "images": None, "batch_size": 64,
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Paper(Attacked):
    """Attacks at budgets, as the paper's code makes and judges them (evaluation/paper.py)."""

    protocol: Literal["paper"] = "paper"

    USUAL: ClassVar[dict[str, Any]] = {**Pixels.USUAL, **PROTOCOL}


@dataclass(frozen=True, kw_only=True)
class Panel(Evaluation):
    """A named tier of attacks and audits, which brings all that an attacker has but the rule."""

    protocol: Literal["panel"] = "panel"
    tier: str

    USUAL: ClassVar[dict[str, Any]] = {
        **{k: v for k, v in Pixels.USUAL.items() if k not in ("attacks", "loss", "estimator")}, "tier": "quick",
        "batch_size": 128,
    }  # fmt: skip


PROTOCOLS: dict[str, type[Pixels | Paper | Panel]] = {"pixels": Pixels, "panel": Panel, "paper": Paper}

WRITTEN: dict[str, Any] = {
    "name": None, "protocol": None, "norm": None, "surface": None, "eps": None, "attacks": {}, "loss": "cross_entropy",
    "rule": None, "encoder": None, "estimator": parts.resolve("estimators", {"name": "white_box"}), "images": None,
    "batch_size": None, "tier": None,
}  # fmt: skip
"""The keys of an evaluation in YAML, and what stands there where its protocol has no such field."""


@dataclass(frozen=True)
class Gradients:
    """What is measured of gradients: on the first `images` test images, weights on `weight_images` (0: on none)."""

    images: int = 64
    weight_images: int = 8
    scalars: list[str] = field(default_factory=lambda: list(SCALARS))
    layers: bool = True
    train_mode: bool = False
    batch_size: int = 16


@dataclass(frozen=True)
class Generalisation:
    """How far the network reaches beyond its training images; 0 images leave a part out.

    corruption_images: test images that are corrupted, each in every way at five severities; corruptions: the ways.
    robust_images: training images, and as many test images, that one plain PGD of `steps` steps attacks within eps in
    L-inf on pixels.
    """

    corruption_images: int = 0
    corruptions: list[str] = field(default_factory=lambda: parts.names("corruptions"))
    robust_images: int = 0
    eps: float | str = "8/255"
    steps: int = 20
    batch_size: int = 64

    @property
    def attack(self) -> Part:
        return {"name": "pgd", "steps": self.steps}


@dataclass(frozen=True)
class Energy:
    """Spikes and synaptic operations are counted on `images` test images; 0 for none."""

    images: int = 0
    batch_size: int = 16


@dataclass(frozen=True)
class Theory:
    """First-order theory is held against the network on `images` test images, and the bounds on its weight gradients on
    `weight_images`; 0 for none.

    eps: the L-inf ball on pixels; draws: points of noise in it; steps: those of the PGD that looks for the largest
    change.
    """

    images: int = 0
    weight_images: int = 0
    eps: float | str = "2/255"
    draws: int = 100
    steps: int = 20
    batch_size: int = 16

    @property
    def attack(self) -> Part:
        return {"name": "pgd", "steps": self.steps}


@dataclass(frozen=True)
class Headline:
    """Which evaluation and budget the report puts first."""

    evaluation: str
    eps: str


@dataclass(frozen=True)
class Network:
    """A network that somebody else has made and trained, as `wrap` takes it.

    make: a dotted path to a function without arguments that makes it, package.module:make. step_mode: 'm', it takes all
    steps at once, 's', one a call; None: as modules of its framework say. readout: a dotted path to a function from
    what it returns to logits (B,K); None: as `wrap` reads it. tolerance: by how much its logits may differ from those
    of its own code, of their size.
    """

    make: str
    step_mode: Literal["m", "s"] | None = None
    readout: str | None = None
    tolerance: float = 1e-6

    @property
    def paths(self) -> tuple[str, ...]:
        """The dotted paths that it names."""
        return (self.make,) if self.readout is None else (self.make, self.readout)


FOLDERS = {
    "data": "data",
    "model": "models",
    "neuron": "neurons",
    "rule": "rules",
    "encoder": "encoders",
    "defence": "defences",
    "training_attack": "attacks",
}
"""The fields of a cell that are parts, and where each is found."""

OF_TRAINING = ("model", "neuron", "defence", "training_threat", "training_attack", "recipe")
"""What is said of a network that is built and trained here, and of no other."""


def _named(name: str, **options: Any) -> Any:
    return field(default_factory=lambda: {"name": name, **options})


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """A network, its training, and how it is examined. The defaults are the paper's architecture on digits.

    train_images, test_images: how many, None for all. weights: a safetensors file with the body's state dict
    (SpikingJelly's names); nothing is trained then.

    network: one of the user's own instead, with which `OF_TRAINING` says nothing. It is looked at on test images alone
    unless train_images is set; rule: None for the one that it brings; steps: None where it makes its own time; weights:
    also a torch state dict.
    """

    name: str = "cell"
    data: Part = _named("digits")
    train_images: int | None = None
    test_images: int | None = None
    model: Part = _named("small_sew_resnet")
    neuron: Part = _named("if")
    rule: Part | None = _named("atan")
    encoder: Part = _named("phase")
    steps: int | None = 10
    defence: Part = _named("vanilla")
    training_threat: Part = _named("linf", eps="2/255")
    training_attack: Part = _named("fgsm")
    recipe: Recipe = field(default_factory=Recipe)
    weights: str | None = None
    network: Network | None = None
    evaluations: list[Pixels | Paper | Panel]
    gradients: Gradients = field(default_factory=Gradients)
    generalisation: Generalisation = field(default_factory=Generalisation)
    energy: Energy = field(default_factory=Energy)
    theory: Theory = field(default_factory=Theory)
    headline: Headline
    seed: int = 0

    def resolved(self) -> dict[str, Any]:
        """The same as plain data, as it is stored and hashed; `cell_from` reads it back."""
        unsaid = ("network",) if self.network is None else OF_TRAINING
        return {name: _plain(value) for name, value in vars(self).items() if name not in unsaid}


LEAST: dict[type, dict[str, int]] = {
    CellConfig: {"train_images": 1, "test_images": 1, "steps": 1},
    Pixels: {"images": 1, "batch_size": 1},
    Paper: {"images": 1, "batch_size": 1},
    Panel: {"images": 1, "batch_size": 1},
    Gradients: {"images": 1, "weight_images": 0, "batch_size": 1},
    Generalisation: {"corruption_images": 0, "robust_images": 0, "steps": 1, "batch_size": 1},
    Energy: {"images": 0, "batch_size": 1},
    Theory: {"images": 0, "weight_images": 0, "draws": 1, "steps": 1, "batch_size": 1},
}
"""The smallest number that an option may be."""

MOST: dict[type, dict[str, int]] = {CellConfig: {"steps": STEPS}}
"""The largest, where it is not that of every whole number in a configuration."""
