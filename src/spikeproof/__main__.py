"""The command line, as `python -m spikeproof`."""

import sys

from spikeproof.commands import main

if __name__ == "__main__":
    sys.exit(main())
