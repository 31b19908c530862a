"""What a page is made from: the summaries of its cells, the threat they are compared at, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from spikeproof.report._summary import Headline, Summary
from spikeproof.report._text import threat
from spikeproof.report._tradeoff import Answers, answer

__all__ = ["Findings"]


@dataclass(frozen=True)
class Findings:
    """Of one page. Without a headline the cells name no common threat."""

    cells: Sequence[Summary]
    headline: Headline | None

    @cached_property
    def answers(self) -> Answers | None:
        """What the trade-off comes to; None where the study is too small for it."""
        return answer(self.cells)

    @property
    def threat(self) -> str:
        """The headline in words."""
        return "no common threat" if self.headline is None else threat(self.headline, self.cells)
