"""What an evaluation found: the rows, and the numbers and words that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from spikeproof.errors import SpikeproofError
from spikeproof.metrics.robustness import Interval, asr_all, asr_conditional, robust, summarise
from spikeproof.metrics.summaries import PanelSummary, Slack
from spikeproof.metrics.verdict import NOT_EVALUATED, Verdict
from spikeproof.rows import AuditRow, Row, of_kind

__all__ = ["Examination"]


_RED = "see the red audits"
_NONE_RIGHT = "no image is right when clean; look at the weights, the labels and the order of the classes"


@dataclass(frozen=True)
class Examination:
    """What `evaluate` found: the rows (one per image and attack, one per audit), and what they say."""

    tier: str
    rows: list[Row]
    clean: Interval
    verdict: Verdict

    @property
    def attacked(self) -> bool:
        """Whether attacks were run at all: not where the victim itself was found unfit."""
        return any(row["kind"] == "attack" for row in self.rows)

    @property
    def robust(self) -> Interval:
        """Worst-case robust accuracy with its 95 % interval. SpikeproofError where the verdict is 'not evaluated'."""
        return robust(self.rows, *self._headline())

    def _headline(self) -> tuple[str, float]:
        """The evaluation and budget of the rows; refused where no number may be told."""
        if self.verdict.word == NOT_EVALUATED:
            raise SpikeproofError(
                "an evaluation that holds", str(self.verdict), mend="see `findings` for what each audit says"
            )
        first = next(row for row in self.rows if row["kind"] == "attack")
        return first["evaluation"], first["eps"]

    @property
    def asr_conditional(self) -> Interval | None:
        """(A0 - Ar) / A0: attack success among the images that are right when clean. Raises as `robust` does."""
        return asr_conditional(self.rows, *self._headline())

    @property
    def asr_all(self) -> Interval:
        """1 - Ar: clean errors count as success. Raises as `robust` does."""
        return asr_all(self.rows, *self._headline())

    @property
    def gap(self) -> Interval | None:
        """Images that the plain attack left and another broke, of all; None where there is no plain attack or number:
        how far the usual protocol is from the worst case."""
        found = self._summary["gap"]
        return None if found is None else Interval(**found)

    @property
    def power(self) -> Interval | None:
        """Examples that are there by construction and that the attacks found; None where it was not measured.

        The audit D21 says more of it.
        """
        found = self._summary["power"]
        return None if found is None else Interval(**found)

    @property
    def slack(self) -> Slack | None:
        """How many more images an attacker with eight times the passes would break, as shares of all: expected, and the
        one-sided 95 % upper end. None where it was not measured, or there is no number."""
        return self._summary["slack"]

    @cached_property
    def _summary(self) -> PanelSummary:
        return summarise(self.rows)["panels"][0]

    @property
    def findings(self) -> list[AuditRow]:
        """The audits' rows."""
        return of_kind(self.rows, AuditRow)

    def left(self) -> dict[str, float]:
        """Share of images still standing after each attack, in the order of the cascade."""
        attacks = [row for row in self.rows if row["kind"] == "attack"]
        fallen: set[int] = set()
        left = {}
        for name in dict.fromkeys(row["attack"] for row in attacks):
            # What fell before is down, also where this attack, which was run on everyone, did not break it again.
            fallen |= {row["image"] for row in attacks if row["attack"] == name and row["fooled"]}
            left[name] = 1 - len(fallen) / len({row["image"] for row in attacks})
        return left

    def __str__(self) -> str:
        lines = [f"tier {self.tier}: {self.verdict}", f"clean accuracy {self.clean}"]
        if self.verdict.word != NOT_EVALUATED:
            lines.append(f"robust accuracy, worst case: {self.robust}")
            lines += self._readings()
            lines += [f"  after {attack:28s} {100 * share:5.1f} %" for attack, share in self.left().items()]
        else:
            reds = any(row["colour"] == "red" for row in self.findings)
            lines.append(f"robust accuracy: no number, {_RED if reds else _NONE_RIGHT}")
        lines += [f"  {row['code']:4s} {row['colour']:8s} {row['name']}: {row['says']}" for row in self.findings]
        red = [row for row in self.findings if row["colour"] == "red"]
        lines += [f"  {row['code']}: {row['means']} To mend: {row['mend']}" for row in red]
        return "\n".join(lines)

    def _readings(self) -> list[str]:
        gap, power, slack = self.gap, self.power, self.slack
        told = {
            "gap: left by the plain attack alone": None if gap is None else str(gap),
            "power: planted examples found": None if power is None else str(power),
            "slack: with eight times the passes": None
            if slack is None
            else f"{100 * slack['expected']:.1f} points less, at most {100 * slack['high']:.1f}",
        }
        return [f"  {name}: {said or 'not measured'}" for name, said in told.items()]
