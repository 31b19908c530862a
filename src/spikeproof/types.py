"""What the parts promise each other, and how spikeproof refuses.

Axes, everywhere in the package: T time, B batch, C H W image, K classes, * any further axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

from torch import Tensor

__all__ = [
    "Attack",
    "Carry",
    "Corruption",
    "Craft",
    "Defence",
    "Encoder",
    "Estimator",
    "Fire",
    "Knob",
    "Loss",
    "Neuron",
    "Objective",
    "Rule",
    "Score",
    "Threat",
    "VictimLike",
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


class Rule(Protocol):
    """The gradient of the spike. The value is always the exact spikes of `neuron`."""

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        """Currents (T,B,*) of the layer named `site` -> spikes (T,B,*)."""
        ...


class Encoder(Protocol):
    """Pixels to what the network sees over time."""

    @property
    def stochastic(self) -> bool:
        """Whether the *value* (not only the gradient) depends on the keys."""
        ...

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        """Pixels (B,*) in [0,1], T, one key per image (B,) -> (T,B,*), differentiable in x."""
        ...


class VictimLike(Protocol):
    """A classifier under attack: `encode`, then `classify`; calling it does both."""

    def encode(self, x: Tensor, keys: Tensor) -> Tensor:
        """Pixels (B,C,H,W) in [0,1], keys (B,) -> (T,B,C,H,W)."""
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


class Threat(Protocol):
    """What the attacker may do: a ball of radius `eps` on a surface, inside a box."""

    @property
    def eps(self) -> float: ...

    @property
    def norm(self) -> str: ...

    @property
    def surface(self) -> str: ...

    def project(self, x: Tensor, x0: Tensor) -> Tensor: ...

    def ascend(self, gradient: Tensor) -> Tensor: ...

    def distance(self, x: Tensor, x0: Tensor) -> Tensor: ...

    def sample(self, x0: Tensor, keys: Tensor) -> Tensor: ...

    def scaled(self, share: float) -> Threat: ...


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


class Corruption(Protocol):
    """A change of an image that nobody aims, at one severity."""

    def __call__(self, x: Tensor, keys: Tensor) -> Tensor:
        """Pixels (B,C,H,W) in [0,1], one key per image (B,) -> the same shape and range."""
        ...


class Defence(Protocol):
    """The loss of one training step.

    It may also have `after_backward(victim)`, called when the gradients of the loss are there, and
    `after_step(victim)`, called when the optimiser has moved the weights; both change them in place, and remember
    nothing.
    """

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        """Pixels (B,C,H,W), labels (B,) -> a scalar loss with graph. `craft` is called only by those that attack."""
        ...
