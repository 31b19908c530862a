"""What surfaces share on which a cell holds a whole number of events."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from spikeproof.errors import SpikeproofError
from spikeproof.surfaces._unit import UnitBox
from spikeproof.tensors import on_grid
from spikeproof.types import Rule, VictimLike

__all__ = ["WholeEvents"]


class WholeEvents(UnitBox):
    """A point is what the victim takes, and each of its cells a multiple of the quantum."""

    quantum: ClassVar[float]
    holds: ClassVar[str]
    mend: ClassVar[str]

    @property
    def before_encoder(self) -> bool:
        return True

    def start(self, victim: VictimLike, x: Tensor, keys: Tensor) -> Tensor:
        """The grids themselves. Raises SpikeproofError where one holds anything else than whole events."""
        other = x != on_grid(x, self.quantum)
        if bool(other.any()):
            raise SpikeproofError(f"cells that hold {self.holds}", f"{float(x[other][0]):.6g}", mend=self.mend)
        return x.detach()

    def logits(self, victim: VictimLike, point: Tensor, rule: Rule, keys: Tensor) -> Tensor:
        return victim(point, rule, keys)

    def widest(self, norm: str, size: int) -> float:
        """As many moves as there are cells, which is never too few; norm: whichever threat of whole events."""
        return float(size)
