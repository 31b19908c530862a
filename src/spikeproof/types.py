"""What the parts promise each other.

A part must have every member of its protocol. What it may have besides is a protocol of its own (`Framed`, `Shaped`,
`Ruled` and so on), which is asked of a part; the docstring there says what holds for a part without it.

Axes, everywhere in the package: T time, B batch, C H W image, K classes, * any further axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

from torch import Tensor, nn

from spikeproof.errors import CutGraph, SpikeproofError, UsageError  # here since 0.1, where users catch them

__all__ = [
    "AfterBackward",
    "AfterStep",
    "Attack",
    "Carry",
    "Corruption",
    "Craft",
    "CutGraph",
    "Defence",
    "Encoder",
    "Estimator",
    "EventThreat",
    "Fire",
    "Framed",
    "FreeMoves",
    "Grid",
    "Knob",
    "Limited",
    "Loss",
    "Neuron",
    "Objective",
    "OneScan",
    "RetimeThreat",
    "Rule",
    "Ruled",
    "Score",
    "Shaped",
    "SpikeproofError",
    "Surface",
    "Threat",
    "ThroughReset",
    "ThroughTime",
    "Tunable",
    "UsageError",
    "VictimLike",
    "Weighing",
]


class Score(NamedTuple):
    """What an objective says of a batch: `loss` (B,), larger is more adversarial, and `fooled` (B,) bool."""

    loss: Tensor
    fooled: Tensor


Carry: TypeAlias = Any
"""An estimator's memory across the steps of one attack; None where there is none."""

Fire: TypeAlias = Callable[[Tensor, int], Tensor]
"""(membrane height above the threshold (B,*), time step) -> spikes (B,*)."""


class Neuron(Protocol):
    """Forward physics of a spiking layer. The membrane potential is a local variable of `run`."""

    def run(self, x: Tensor, fire: Fire, *, through_time: bool = True, through_reset: bool = False) -> Tensor:
        """Input currents (T,B,*) -> spikes (T,B,*), from rest."""
        ...


@runtime_checkable
class OneScan(Protocol):
    """A neuron that has its spikes in one scan where nobody wants a gradient; another one is run step by step."""

    def spikes(self, x: Tensor) -> Tensor:
        """Currents (T,B,*) -> spikes (T,B,*), bit by bit those of `run` under `exact`, without graph."""
        ...


@runtime_checkable
class Limited(Protocol):
    """A neuron with weights of its own for each step; another one runs over any number of them."""

    @property
    def steps(self) -> int:
        """The most it can run over."""
        ...


@runtime_checkable
class Weighing(Protocol):
    """A neuron that weighs its input by a number of its own for each step; another one weighs every step alike."""

    def even(self) -> Neuron:
        """The same physics with every such weight 1, and none of them learned; this neuron stays as it is."""
        ...


class Rule(Protocol):
    """The gradient of the spike. The value is always the exact spikes of `neuron`."""

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        """Currents (T,B,*) of the layer named `site` -> spikes (T,B,*)."""
        ...


@runtime_checkable
class ThroughTime(Protocol):
    """A rule that says whether gradients pass from one step to the next; of another one they do."""

    @property
    def through_time(self) -> bool: ...


@runtime_checkable
class ThroughReset(Protocol):
    """A rule that says whether gradients pass through the reset's spike; another one takes the neuron as it is."""

    @property
    def through_reset(self) -> bool: ...


class Encoder(Protocol):
    """Pixels to what the network sees over time."""

    @property
    def stochastic(self) -> bool:
        """Whether the *value* (not only the gradient) depends on the keys."""
        ...

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        """Pixels (B,*) in [0,1], T, one key per image (B,) -> (T,B,*), differentiable in x."""
        ...


@runtime_checkable
class Framed(Encoder, Protocol):
    """An encoder that says which of its frames differ; of another one every step is a frame of its own."""

    def frames(self, x: Tensor, steps: int, keys: Tensor) -> tuple[Tensor, Tensor]:
        """As the call, -> the frames that differ (F,B,*), and which of them comes at each step (T,) int64."""
        ...


@runtime_checkable
class Shaped(Protocol):
    """An encoder that says what one image is; without it an image is 'CHW'."""

    @property
    def takes(self) -> str:
        """The axes of one image in order: 'CHW', or 'TCHW' where the data come as frames."""
        ...


class VictimLike(Protocol):
    """A classifier under attack: `encode`, then `classify`; calling it does both."""

    def encode(self, x: Tensor, keys: Tensor) -> Tensor:
        """Images (B,*) in [0,1] of the axes that the encoder takes, keys (B,) -> (T,B,C,H,W)."""
        ...

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        """(T,B,C,H,W) -> logits (B,K)."""
        ...

    def __call__(self, x: Tensor, rule: Rule, keys: Tensor) -> Tensor:
        """Pixels -> logits (B,K)."""
        ...


Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(logits (B,K), labels (B,)) -> (B,); larger is more adversarial."""


class Objective(Protocol):
    """What an attack raises, and all that it may ask of the victim. Built by `spikeproof.victims.scene.Scene`."""

    @property
    def keys(self) -> Tensor:
        """One key per image (B,): an estimator's randomness is the image's own."""
        ...

    @property
    def classes(self) -> int:
        """K."""
        ...

    @property
    def final(self) -> bool:
        """Whether the attack is done with an image once it is fooled, so that no later point of it counts."""
        ...

    def __call__(self, point: Tensor, rule: Rule, salt: int) -> Score:
        """Point (B,*) on the attacked surface -> Score. The salt freshens the noise of one call; but under `exact` a
        random victim answers with the mean over a few draws, the same in every call, so that two answers compare."""
        ...

    def of(self, index: Tensor) -> Objective:
        """The same for some of the images alone: index (n,) int64 into them; its points are (n,*). An image that stands
        in it several times is asked at several points in one pass, and counted as often."""
        ...

    def aimed(self, rank: int) -> Objective:
        """The same loss in its targeted form, towards the class of clean rank 1..K-1 (1: the likeliest other)."""
        ...

    def difference(self, rank: int) -> Objective:
        """z_target - z_y, unscaled, the target as in `aimed`; above 0 the image is misclassified."""
        ...

    def encode(self, point: Tensor) -> Tensor:
        """The victim's code of any pixels (B,*) -> (B,T,*), of a deterministic encoder."""
        ...

    def encoded(self) -> Objective:
        """The same loss on the surface behind the encoder: its points are (B,T,*)."""
        ...


class Surface(Protocol):
    """Where an attacker acts. A point there is (B,*), images first; one file of surfaces/ each, without options."""

    @property
    def box(self) -> tuple[float, float]:
        """The least and the largest value of a coordinate."""
        ...

    @property
    def before_encoder(self) -> bool:
        """Whether a point is what the victim takes, so that the encoder, its slopes and its noise are in between."""
        ...

    def start(self, victim: VictimLike, x: Tensor, keys: Tensor) -> Tensor:
        """Clean images (B,*), keys (B,) -> the points (B,*) that stand for them, without graph."""
        ...

    def logits(self, victim: VictimLike, point: Tensor, rule: Rule, keys: Tensor) -> Tensor:
        """Points (B,*) -> the victim's logits (B,K)."""
        ...

    def widest(self, norm: str, size: int) -> float:
        """The eps of the ball that holds the whole box around any point of `size` coordinates."""
        ...


@runtime_checkable
class Grid(Protocol):
    """A surface on which a coordinate has few values; on another one it is any number of the box."""

    @property
    def quantum(self) -> float:
        """How far two neighbouring values are apart: 1 where a cell holds an event or none. A value that is one equals
        the product of the quantum and a whole number, as the division of that number by 1 / quantum rounds it."""
        ...


class Threat(Protocol):
    """What the attacker may do: a ball of radius `eps` around the clean point x0 on a surface, inside its box.

    Points and gradients are (B,*) on the surface. A part is built from eps, in units of [0,1] and of the norm, or a
    fraction such as '8/255', and from the name of the surface; it is a frozen dataclass, so that `replace` gives the
    same one of another eps.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def eps(self) -> float:
        """>= 0: the largest `distance`, in units of the surface's values."""
        ...

    @property
    def norm(self) -> str:
        """'Linf', 'L2' or 'L1', or the name of an `EventThreat`: as rows name it, and as attacks ask."""
        ...

    @property
    def surface(self) -> str:
        """The name of the surface, as in a configuration and in rows; `spikeproof.parts.surface` makes it."""
        ...

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """Any points (B,*), clean ones (B,*) in the box -> admissible points (B,*): within eps of x0, in the box."""
        ...

    def ascend(self, gradient: Tensor) -> Tensor:
        """Gradient (B,*) -> the step (B,*) of norm 1 that raises the loss most, each image's own; 0 where it is 0."""
        ...

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """Points (B,*) -> (B,) >= 0, in the unit of eps."""
        ...

    def sample(self, x0: Tensor, keys: Tensor) -> Tensor:
        """A random admissible point (B,*) for each clean one, drawn by its key (B,) alone."""
        ...

    def scaled(self, share: float) -> Threat:
        """The same with `share` >= 0 of its eps."""
        ...


@runtime_checkable
class EventThreat(Threat, Protocol):
    """Moves of whole events on a grid. No point lies between two others, so that attacks choose moves instead of taking
    a step."""

    @property
    def reaches_all(self) -> bool:
        """Whether with an eps that is large enough every grid is admissible."""
        ...

    def best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        """The admissible point (B,*) of the largest sum of gradient (x - x0).

        A move that gains nothing is not made, and of equal ones the first is. best(x - x0, x0) is x again.
        """
        ...

    def scaled(self, share: float) -> EventThreat:
        """The same with `share` >= 0 of its budget, rounded down."""
        ...


@runtime_checkable
class FreeMoves(EventThreat, Protocol):
    """At most eps moves, of which each unit (a cell, or the two of one place) may make one, whatever the others do."""

    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        """Gradient (B,*), clean grids (B,*) -> what each unit's move adds to a loss of that gradient, -inf where it has
        none: (B,units)."""
        ...

    def per_unit(self, values: Tensor) -> Tensor:
        """Values (B,*) of cells, added up in each unit: (B,units)."""
        ...

    def moved(self, units: Tensor, way: Tensor, x0: Tensor) -> Tensor:
        """Clean grids (B,*) with the moves of some units (B,units) bool, which must be there; the way (B,*) says up or
        down, by its sign, where a move can be either."""
        ...


@runtime_checkable
class RetimeThreat(EventThreat, Protocol):
    """Events of grids (B,T,*) at other times, each in its own line. Here grids are (B,T,L), a line (B,T) of each."""

    @property
    def adds_up(self) -> bool:
        """Whether eps bounds what all lines cost together, and not what each does."""
        ...

    def line_costs(self, lines: Tensor, clean: Tensor) -> Tensor:
        """What each line costs, (B,L) >= 0; every line has as many events as it had."""
        ...

    def one_move(self, bins: Tensor) -> Tensor:
        """What it costs to move one event by so many bins, 0 or more."""
        ...

    def room(self, lines: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Where eps bounds each line: whether up to each cell there may be one event more, and one less, (B,T,L) bool
        each; elsewhere all may."""
        ...


class Estimator(Protocol):
    """Where an attack gets its gradient from."""

    def init(self, x: Tensor) -> Carry:
        """The memory at the start of one attack run."""
        ...

    def __call__(self, f: Objective, x: Tensor, carry: Carry, salt: int) -> tuple[Score, Tensor, Carry]:
        """Score at x, gradient of the loss (B,*), the memory for the next step."""
        ...

    def of(self, carry: Carry, index: Tensor) -> Carry:
        """The memory of some of the images alone: index (n,) int64 into them."""
        ...


@runtime_checkable
class Ruled(Protocol):
    """An estimator that takes the gradient of one rule; one without it, or with None, has no rule of its own."""

    @property
    def rule(self) -> Rule | None: ...


class Attack(Protocol):
    """Proposes x_adv; it never judges itself (`spikeproof.evaluation.judge` does)."""

    def __call__(
        self,
        f: Objective,
        x0: Tensor,
        threat: Threat,
        estimator: Estimator,
        keys: Tensor,
        *,
        start: Tensor | None = None,
    ) -> Tensor:
        """Clean points (B,*) -> points of the threat's ball.

        start: points (B,*) that another attack found, projected into this ball; its first run begins there instead of
        where it would, and what keeps its best point returns none that is worse. None: its own start.
        """
        ...


class Craft(Protocol):
    """The training attack, given to a defence; `spikeproof.evaluation.judge.crafter` makes it."""

    def __call__(
        self,
        x: Tensor,
        y: Tensor,
        keys: Tensor,
        *,
        share: float = 1.0,
        against: Callable[[Tensor], Loss] | None = None,
    ) -> Tensor:
        """Pixels (B,C,H,W), labels (B,), keys (B,) -> attacked pixels without graph.

        share: of the threat's eps. against: what to raise instead of the training attack's own loss, made from the
        logits (B,K) of the clean images in eval mode.
        """
        ...


class Knob(NamedTuple):
    """The one number that traces a part's trade-off, and the values that are worth a sweep, weakest first.

    option: of the part itself; one with a dot is a path in the configuration (training_threat.eps).
    """

    option: str
    values: tuple[float | str, ...]


@runtime_checkable
class Tunable(Protocol):
    """The class of a part with a knob: a defence, or an encoder that is one. One without it trades nothing."""

    KNOB: ClassVar[Knob]


class Corruption(Protocol):
    """A change of an image that nobody aims, at one severity."""

    def __call__(self, x: Tensor, keys: Tensor) -> Tensor:
        """Pixels (B,C,H,W) in [0,1], one key per image (B,) -> the same shape and range."""
        ...


class Defence(Protocol):
    """The loss of one training step. It may also be `AfterBackward` and `AfterStep`."""

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        """Pixels (B,C,H,W), labels (B,) -> a scalar loss with graph. `craft` is called only by those that attack."""
        ...


@runtime_checkable
class AfterBackward(Protocol):
    """A defence that changes the gradients of its loss; of another one the optimiser takes them as they are."""

    def after_backward(self, victim: nn.Module) -> None:
        """Called when the gradients are there. Changes them in place, and remembers nothing."""
        ...


@runtime_checkable
class AfterStep(Protocol):
    """A defence that changes the weights; of another one they stay as the optimiser leaves them."""

    def after_step(self, victim: nn.Module) -> None:
        """Called when the optimiser has moved the weights. Changes them in place, and remembers nothing."""
        ...
