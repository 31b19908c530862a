"""Is the robustness the network's, or the attacker's blindness? One diagnostic a file; `spikeproof.panel` runs them."""

from spikeproof.audits._evidence import Audit, Effort, Finding, Subject
from spikeproof.audits._limits import Limits

__all__ = ["Audit", "Effort", "Finding", "Limits", "Subject"]
