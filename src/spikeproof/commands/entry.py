"""write a finished cell as an entry of a board"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._given import shown
from spikeproof.commands._machine import add_machine, machine_of
from spikeproof.errors import UsageError


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "cells", type=Path, nargs="+", help="cells/KEY, or a packed one; more: the same network from other seeds"
    )
    parser.add_argument("--into", type=Path, default=Path("board"), help="the folder of the board")
    parser.add_argument("--evaluation", default=None, help="a panel by its name (default: that of the headline)")
    parser.add_argument("--eps", default=None, help="its budget, as the configuration writes it")
    parser.add_argument("--weights", action="store_true", help="with the weights in a file beside the entry")
    parser.add_argument(
        "--inputs", default=None, choices=["bytes", "bits", "floats"],
        help="make the adversarial inputs again, and keep them beside the entry in this form",
    )  # fmt: skip
    parser.add_argument("--by", default=None, help="who submits it")
    parser.add_argument("--link", default=None, help="https://... where the network is described")
    parser.add_argument("--reported", type=float, default=None, help="the robust accuracy that a paper reports: 0.451")
    parser.add_argument("--reported_clean", type=float, default=None, help="its clean accuracy there")
    parser.add_argument("--reported_threat", default=None, help="under which threat it says so")
    parser.add_argument("--source", default=None, help="which paper, and where in it")
    parser.add_argument("--source_link", default=None, help="https://... of that paper")
    parser.add_argument("--root", type=Path, default=None, help="the folder of the data, where it is another one here")
    parser.add_argument("--trust", action="store_true", help="also run code of others that its configuration names")
    add_machine(parser, out=False)


def run(options: Namespace) -> int:
    reported = _reported(options)
    cells = [cell for folder in options.cells for cell in _shown(folder)]
    from spikeproof.board.entry import written
    from spikeproof.board.make import Told, chosen, entry_of, file_name
    from spikeproof.study.inspection import fault

    for cell in cells:
        if (said := fault(cell)) is not None:
            raise UsageError(f"a cell whose rows give its summary, for {cell.key}", said)
    at = chosen(cells[0], options.evaluation, options.eps)
    tree = entry_of(cells, at, Told(options.by, options.link, reported))
    path = options.into / f"{file_name(tree['identity']['key'], at)}.json"
    written(path, tree)  # what does not fit is refused before hours of attacks
    cell = next(cell for cell in cells if cell.key == tree["identity"]["key"])
    if options.weights or options.inputs:
        written(path, {**tree, "files": _files(options, cell, path, tree)})
    print(path)
    return 0


def _shown(path: Path) -> Any:
    """The cells of a folder, or the packed one whose file it is."""
    if path.is_file():
        from spikeproof.store.packed import PackedCell

        return [PackedCell(path)]
    return shown(path)


def _reported(options: Namespace) -> dict[str, Any] | None:
    """What a paper says, as the schema has it. UsageError where a number has no source."""
    rest = (options.reported_clean, options.reported_threat, options.source, options.source_link)
    if options.reported is None and not any(one is not None for one in rest):
        return None
    if options.reported is None or options.source is None:
        raise UsageError("--reported with its --source", "one of them alone")
    return {
        "robust": options.reported, "clean": options.reported_clean, "threat": options.reported_threat,
        "source": options.source, "link": options.source_link,
    }  # fmt: skip


def _files(options: Namespace, cell: Any, path: Path, tree: dict[str, Any]) -> dict[str, Any]:
    """Weights and inputs beside the entry, and what it says of them."""
    from spikeproof.files import write_bytes
    from spikeproof.store.store import Cell

    if not isinstance(cell, Cell):
        raise UsageError("a cell with its network, for --weights and --inputs", f"the packed one {cell.key}")
    files, source = dict(tree["files"]), cell.folder / "model.safetensors"
    if options.weights:
        data = source.read_bytes()
        write_bytes(path.with_suffix(".weights.safetensors"), data)
        files["weights"] = {**files["weights"], "file": path.with_suffix(".weights.safetensors").name}
    if options.inputs:
        from spikeproof.board.again import keep
        from spikeproof.board.entry import Entry
        from spikeproof.board.subject import subject

        entry = Entry(path, tree)
        of = subject(entry, machine_of(options), weights=source, root=options.root, trust=options.trust)
        files["inputs"] = keep(of, tree, path.with_suffix(".inputs.safetensors"), options.inputs)
    return files
