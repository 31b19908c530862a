"""list every part with its options"""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from spikeproof import parts


def options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", default=None, help=f"one of {', '.join(parts.FOLDERS)}")


def run(options: Namespace) -> int:
    for folder in [options.folder] if options.folder else parts.FOLDERS:
        listing = parts.describe(folder)
        print(f"{folder}:")
        for name, arguments, line in listing:
            print(f"  {name}({arguments})\n      {line}")
    return 0
