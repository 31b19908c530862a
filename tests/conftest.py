"""What all tests share: the oracles on the import path, and property tests that draw the same examples every time."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("spikeproof", deadline=None, derandomize=True, print_blob=False)
settings.load_profile("spikeproof")
