"""What a result is a result of: the hash of everything that decides its numbers.

Configuration (all of it, the order of attacks included), the content of the data and of given weights, the kind of
device and the form of its scan, and the sources. Of the package the rooms that a number goes through count in whole;
of the folders of parts only the files that a cell uses, with what those import; what shows, keeps or hands out results
does not count. Where data lie does not count either: their content does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

from spikeproof import native, parts
from spikeproof.files import digest
from spikeproof.store.sources import Sources, package
from spikeproof.store.store import key_of

__all__ = ["NETWORKS", "Named", "cell_key", "code_digest", "model_key", "rows_code", "weights_code"]

Named: TypeAlias = frozenset[tuple[str, str]]
"""Parts, each as (folder, name); a name may be a dotted path."""

NETWORKS = "networks"
"""As a folder of parts: functions of a user's own that make a network, or read one."""

_TRAINING = (
    "train_images", "model", "neuron", "rule", "encoder", "steps", "defence", "training_threat", "training_attack",
    "recipe", "seed",
)  # fmt: skip
"""What a trained network depends on; the rest of a configuration only says how it is examined."""

_WEIGHTS = ("", "native", "layers", "victims", "training")
"""The rooms that a weight goes through; '' is the ground, the files at the top that are no parts."""

_ROWS = (*_WEIGHTS, "metrics", "evaluation", "measures")
"""The rooms that a row goes through."""

_JUDGES = "evaluation"
"""The room that brings parts of its own, to the cells with a panel and to no others."""


def _home(folder: str) -> str:
    return parts.home(folder).replace(".", "/")


@cache
def _room(file: str) -> str:
    """The room of a file; 'parts' in whatever folder parts are found."""
    if any(file.startswith((f"{home}/", f"{home}.py")) for home in map(_home, parts.FOLDERS)):
        return "parts"
    return file.rpartition("/")[0].partition("/")[0]


def _of_part(sources: Sources, folder: str, name: str) -> set[str]:
    """The file of a part, and the `__init__` of its folder; of a user's own its module, and of a network of one's own
    also the room that wraps it."""
    if ":" in name:
        wrapping = {file for file in sources.texts if folder == NETWORKS and _room(file) == "interop"}
        return {*wrapping, *(file for file in (sources.of_user(name.partition(":")[0]),) if file is not None)}
    module = parts.module_name(folder, name)
    return {file for one in {module, parts.home(folder)} if (file := sources.of_module(one)) is not None}


def _of_study(sources: Sources, made_by: str) -> set[str]:
    """Of the study only the module that makes the numbers, with what it imports of the study."""
    entry = sources.of_user(made_by)
    assert entry is not None, made_by
    return sources.reached([entry], lambda file: _room(file) == "study")


@lru_cache(maxsize=64)
def _every(sources: Sources, rooms: tuple[str, ...], made_by: str, panel: bool) -> tuple[set[str], set[str]]:
    """What counts for every cell: the files of these rooms and of the study, and the parts that those import."""
    whole = {file for file in sources.texts if _room(file) in rooms}
    whole |= _of_study(sources, made_by)
    speaking = {file for file in whole if panel or _room(file) != _JUDGES}
    chosen = {file for one in speaking for file in sources.imports(one) if _room(file) == "parts"}
    if panel:
        chosen |= {file for file in sources.texts if file.startswith(f"{_home('audits')}/")}
    return whole, chosen


@lru_cache(maxsize=4096)
def _code(sources: Sources, rooms: tuple[str, ...], made_by: str, named: Named, panel: bool) -> str:
    whole, chosen = _every(sources, rooms, made_by, panel)
    chosen = chosen | {file for part in named for file in _of_part(sources, *part)}
    # Parts stand on parts; a user's own may wrap a network of another framework, and stand on modules of theirs.
    return sources.digest(
        whole | sources.reached(chosen, lambda file: file not in sources.texts or _room(file) in ("parts", "interop"))
    )


def weights_code(made_by: str, named: Named) -> str:
    """A short hash of the sources that decide the weights of a network trained with these parts.

    made_by: the module that trains it, which says so itself, by its `__name__`.
    """
    return _code(package(), _WEIGHTS, made_by, named, False)


def rows_code(made_by: str, named: Named, *, panel: bool) -> str:
    """The same of the rows of a cell, by the module that makes them; panel: whether it has one."""
    return _code(package(), _ROWS, made_by, named, panel)


def code_digest(made_by: str) -> str:
    """A short hash of every source that decides a number of some cell, whose rows this module makes."""
    sources = package()
    whole = {file for file in sources.texts if _room(file) in (*_ROWS, "parts")}
    return sources.digest(whole | _of_study(sources, made_by))


def _kind(device: str) -> str:
    """cpu or cuda, the form of its scan, and whether fast paths are switched off: they all round otherwise."""
    kind = device.partition(":")[0]
    here = kind == "cpu" or (kind == "cuda" and torch.cuda.is_available())
    # Asked about a device that is not here, as for the state of a study elsewhere: the form that such a one has.
    form = native.form(torch.device(kind)) if here else "Triton" if native.fast() else "torch"
    return f"{kind}, {form}" + ("" if native.fast() else ", plain")


def model_key(config: Mapping[str, Any], code: str, training_data: str, device: str) -> str:
    """Of a resolved configuration, its `weights_code` and the digest of its training images: the name of the network it
    trains."""
    facts = {name: config[name] for name in _TRAINING}
    return key_of([code, facts, training_data, _kind(device)])


def cell_key(
    config: Mapping[str, Any], code: str, data: Mapping[str, str], device: str, network: str | None = None
) -> str:
    """Of a resolved configuration, its `rows_code` and the digests of its images: the name of its results.

    network: the digest of the weights of a network of one's own, in whatever file they came.
    """
    weights = network or (digest(Path(config["weights"])) if config["weights"] else None)
    # A hash sorts the keys of a mapping, and in the paper's protocol one attack moves the statistics of the next.
    order = [list(evaluation["attacks"]) for evaluation in config["evaluations"]]
    facts = {**config, "data": dict(data), "weights": weights}
    return key_of([code, facts, order, _kind(device)])
