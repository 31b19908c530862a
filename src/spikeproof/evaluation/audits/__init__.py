"""Is the robustness the network's, or the attacker's blindness? One diagnostic a file; the panel runs them."""

from spikeproof.evaluation.audits._evidence import Audit, Effort, Finding, Subject
from spikeproof.evaluation.audits._limits import Limits

__all__ = ["Audit", "Effort", "Finding", "Limits", "Subject"]
