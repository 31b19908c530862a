"""Neurons with a learned constant for each time step: what they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.limits import STEPS
from spikeproof.neurons._stepwise import Stepwise
from spikeproof.types import Fire

__all__ = ["Paced"]


class Paced(Stepwise):
    """`pace` (steps,) is learned, one number a layer and step. A run may be shorter than `steps`, never longer.

    steps: T of the configuration; the number of steps belongs to the weights here, as nowhere else.
    """

    pace: nn.Parameter

    def __init__(self, *, steps: int = 10, v_threshold: float = 1.0, v_reset: float | None = 0.0) -> None:
        super().__init__(v_threshold=v_threshold, v_reset=v_reset)
        if not 1 <= steps <= STEPS:
            raise UsageError(f"steps in 1..{STEPS}", steps)
        self.steps = steps
        self.pace = nn.Parameter(torch.ones(steps))

    @abstractmethod
    def paced(self, v: Tensor, x: Tensor, pace: Tensor) -> Tensor:
        """Membrane after the input current x at the step of `pace` (0-dim), before the spike; shapes (B,*)."""

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        """At the first step."""
        return self.paced(v, x, self.pace[0])

    def learns(self) -> bool:
        """Always, as far as a fused backward asks: there is no one gain for all steps."""
        return True

    def run(self, x: Tensor, fire: Fire, *, through_time: bool = True, through_reset: bool = False) -> Tensor:
        """As every neuron's; SpikeproofError for more steps than were built."""
        if len(x) > self.steps:
            raise SpikeproofError(
                f"at most {self.steps} steps in {self}", len(x), mend="set neuron.steps to the steps of the cell"
            )
        paces = iter(self.pace)
        once = _Once(lambda v, current: self.paced(v, current, next(paces)), self)
        return once.run(x, fire, through_time=through_time, through_reset=through_reset)

    def extra_repr(self) -> str:
        return f"steps={self.steps}, {super().extra_repr()}"


class _Once(Stepwise):
    """The scan of one run, whose charge counts the steps, so that the count is a local variable of the run."""

    def __init__(self, charge: Callable[[Tensor, Tensor], Tensor], of: Stepwise) -> None:
        super().__init__(v_threshold=of.v_threshold, v_reset=of.v_reset)
        self._charge = charge

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        return self._charge(v, x)

    def gains(self) -> tuple[float, float]:
        raise NotImplementedError("a run has no gains of its own")
