"""What may be said of a robust accuracy, from the audits' rows alone, by a stated rule.

'not evaluated': an audit is red that says that the evaluation itself does not hold; there is no number then.
'overstated': any other audit is red; the worst case over all attacks is what may be published, as an upper bound.
'supported': every audit that was run is green; which were not run is said beside it.
"""

from __future__ import annotations

from spikeproof.metrics._verdict import NOT_EVALUATED, OVERSTATED, SUPPORTED, Verdict, verdict_of

__all__ = ["NOT_EVALUATED", "OVERSTATED", "SUPPORTED", "Verdict", "verdict_of"]
