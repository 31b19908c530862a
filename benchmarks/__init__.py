"""spikeproof against its peers on the same networks; see README.md."""

import os

GIVEN = {**os.environ}
"""The environment before spikeproof is imported, which says in it how long threads spin: processes of peers have what
their users have."""
