"""The command line. A verb is one file of this folder, and the folder is the registry.

A verb has `options(parser)`, which says what may be given to it, and `run(options)`, which does it and returns the exit
code; the first line of its file is its help. Only the verb that is asked for is imported. It imports what takes seconds
(torch, the figures) where it is needed, so that what is wrong with a command is said at once.
"""

from spikeproof.commands._main import main, parsed

__all__ = ["main", "parsed"]
