"""judge adversarial inputs of anybody on the network of a board's entry"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._machine import add_machine, machine_of
from spikeproof.errors import UsageError


def options(parser: ArgumentParser) -> None:
    parser.add_argument("entry", type=Path, help="its JSON file")
    parser.add_argument("inputs", type=Path, help=".npz or .safetensors with inputs and ids, or .npy with all inputs")
    parser.add_argument("--weights", type=Path, default=None, help="those of the entry, where they are not beside it")
    parser.add_argument("--root", type=Path, default=None, help="the folder of the data, where it is another one here")
    parser.add_argument("--by", default=None, help="who has made the inputs: write what they lower into the entry")
    parser.add_argument("--how", default="", help="with which attack")
    parser.add_argument("--trust", action="store_true", help="also run code of others that its configuration names")
    add_machine(parser, out=False)


def run(options: Namespace) -> int:
    if not options.inputs.is_file():
        raise UsageError("a file of inputs", f"none at {options.inputs}")
    from spikeproof.board.entry import read

    entry = read(options.entry)
    from spikeproof.board.verify import accept, verify

    found = verify(
        entry, options.inputs, machine_of(options), weights=options.weights, root=options.root, trust=options.trust
    )
    print(f"{entry.name} ({entry['identity']['key']}): {found}")
    if options.by is not None:
        accept(entry, found, by=options.by, how=options.how)
        print(f"written into {options.entry}")
    return 0
