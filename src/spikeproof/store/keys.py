"""What a result is a result of: the hash of everything that decides its numbers.

Configuration (all of it, the order of attacks included), the content of the data and of given weights, the kind of
device, the package's sources, and the sources of parts named by a dotted path. Where data lie does not count.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import spikeproof
from spikeproof.files import digest
from spikeproof.native import fast
from spikeproof.store.store import key_of

__all__ = ["AFTER_TRAINING", "cell_key", "code_digest", "model_key"]

_TRAINING = (
    "train_images", "model", "neuron", "rule", "encoder", "steps", "defence", "training_threat", "training_attack",
    "recipe", "seed",
)  # fmt: skip
"""What a trained network depends on; the rest of a configuration only says how it is examined."""

_NO_NUMBERS = (
    "report/", "store.py", "cli.py", "card.py", "findings.py", "identity.py", "controls.py", "transfer.py", "lines.py",
    "rehearsal.py", "plan.py", "executors.py", "loaded.py", "progress.py", "reproduction.py", "packed.py", "brief.py",
)  # fmt: skip
"""Sources that decide no number of a cell."""

AFTER_TRAINING = (
    "measure.py", "paper.py", "metrics/", "audits/", "panel.py", "tiers.py", "examine.py", "generalisation.py",
    "energy.py", "theory.py", "corruptions/",
)  # fmt: skip
"""Sources that decide no weight of a trained network."""


@cache
def code_digest(*without: str) -> str:
    """A short hash of the package's sources that decide numbers, less those whose path begins with one of `without`.

    Read once: sources that are edited during a long run are not those that are running.
    """
    root = Path(spikeproof.__file__).parent
    total = hashlib.sha256()
    for path in sorted((*root.rglob("*.py"), *root.rglob("*.c"))):
        name = path.relative_to(root).as_posix()
        if not name.startswith((*_NO_NUMBERS, *without)):
            total.update(f"{name}\n".encode() + path.read_bytes())
    return total.hexdigest()[:16]


def _dotted(tree: Any) -> Iterator[str]:
    """Every 'name' of the form package.module:Name in a configuration."""
    if isinstance(tree, Mapping):
        if isinstance(tree.get("name"), str) and ":" in tree["name"]:
            yield tree["name"]
        for value in tree.values():
            yield from _dotted(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _dotted(value)


def _own_sources(config: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of each file that a dotted path of the configuration leads to."""
    files = {name: inspect.getsourcefile(import_module(name.partition(":")[0])) for name in _dotted(config)}
    return {name: digest(Path(file)) for name, file in files.items() if file is not None}


def _kind(device: str) -> str:
    """cpu or cuda, and whether fast paths are switched off: they round otherwise."""
    return device.partition(":")[0] + ("" if fast() else ", plain")


def model_key(config: Mapping[str, Any], training_data: str, device: str) -> str:
    """Of a resolved configuration and the digest of its training images: the name of the network it trains."""
    facts = {name: config[name] for name in _TRAINING}
    return key_of([code_digest(*AFTER_TRAINING), _own_sources(facts), facts, training_data, _kind(device)])


def cell_key(config: Mapping[str, Any], data: Mapping[str, str], device: str) -> str:
    """Of a resolved configuration and the digests of its images: the name of its results."""
    weights = digest(Path(config["weights"])) if config["weights"] else None
    # A hash sorts the keys of a mapping, and in the paper's protocol one attack moves the statistics of the next.
    order = [list(evaluation["attacks"]) for evaluation in config["evaluations"]]
    facts = {**config, "data": dict(data), "weights": weights}
    return key_of([code_digest(), _own_sources(config), facts, order, _kind(device)])
