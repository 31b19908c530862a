"""look at every result in a folder and say what is damaged, or not what its rows give"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikeproof.errors import UsageError


def options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="where cells were written, or packed")


def run(options: Namespace) -> int:
    from spikeproof.store.packed import packed_files
    from spikeproof.store.store import Store
    from spikeproof.study.inspection import inspect

    store = Store(options.folder)
    cells, models, packed = store.folders(), store.models(), packed_files(options.folder)
    found = list(inspect(options.folder))
    if not (cells or models or packed or found):
        raise UsageError(f"results under {options.folder}", "none", mend="run a study into it first")
    for one in found:
        print(f"{'WRONG' if one.wrong else 'note '}  {one.path}: {one.says}")
    wrong = sum(one.wrong for one in found)
    print(f"{len(cells) + len(packed)} cells, {len(models)} networks: {wrong} wrong")
    return 1 if wrong else 0
