"""What holds for every file of every folder of parts: one public name, a docstring, settings that cannot change."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from typing import Any

import pytest
from torch import nn

from spikeproof import parts
from spikeproof.errors import UsageError

SINGLE = {"losses"}
EVERY = [(folder, name) for folder in parts.FOLDERS for name in parts.names(folder)]
FILED = [(folder, name) for folder, name in EVERY if folder not in SINGLE]

GIVEN = {
    "models": {"in_channels": 1, "classes": 10, "neuron": lambda: parts.build("neurons", {"name": "if"})},
    "threats": {"eps": 0.1, "surface": "pixels"},
    "estimators": {"rule": None},
    "corruptions": {"severity": 1},
}


def built(folder: str, name: str) -> Any:
    """The part with its defaults; one that needs an option of its own (a folder, a path) gets a text."""
    target = parts.find(folder, name)
    given = dict(GIVEN.get(folder, {}))
    if folder == "threats" and target.surface != "pixels":
        given = {"eps": 3}
    if folder == "estimators":
        given["rule"] = parts.build("rules", {"name": "atan"})
    needed = [
        n
        for n, p in inspect.signature(target).parameters.items()
        if p.default is p.empty and n not in given and p.kind is not p.VAR_KEYWORD
    ]
    return target(**given, **dict.fromkeys(needed, "here"))


@pytest.mark.parametrize("folder", sorted(set(parts.FOLDERS) - SINGLE))
def test_every_file_of_a_folder_is_a_part(folder: str) -> None:
    """The folder is the registry: what is not private is found, and nothing else is."""
    module = importlib.import_module(parts.find(folder, parts.names(folder)[0]).__module__.rpartition(".")[0])
    files = {m.name for m in pkgutil.iter_modules(module.__path__)}
    assert {n.rstrip("_") for n in files if not n.startswith("_")} == set(parts.names(folder))
    assert parts.names(folder)


@pytest.mark.parametrize(("folder", "name"), FILED)
def test_a_file_has_one_public_name_and_says_what_it_is(folder: str, name: str) -> None:
    target = parts.find(folder, name)
    module = inspect.getmodule(target)
    assert module is not None
    assert module.__name__.rstrip("_").endswith(f".{folder}.{name}")
    assert module.__all__ == [target.__name__]
    assert inspect.getdoc(module)
    assert target.__doc__


@pytest.mark.parametrize(("folder", "name"), [(f, n) for f, n in EVERY if f not in ("losses", "models", "neurons")])
def test_settings_are_frozen_equal_by_value_and_hashable(folder: str, name: str) -> None:
    part, twin = built(folder, name), built(folder, name)
    assert dataclasses.is_dataclass(part)
    assert part == twin
    assert hash(part) == hash(twin)
    with pytest.raises(dataclasses.FrozenInstanceError):
        part.no_such_field = 1


@pytest.mark.parametrize(("folder", "name"), [(f, n) for f, n in EVERY if f in ("models", "neurons")])
def test_what_has_weights_is_a_module(folder: str, name: str) -> None:
    assert isinstance(built(folder, name), nn.Module)


@pytest.mark.parametrize(("folder", "name"), EVERY)
def test_an_unknown_option_is_refused_with_the_valid_ones(folder: str, name: str) -> None:
    with pytest.raises(UsageError, match="no_such_option"):
        parts.build(folder, {"name": name, "no_such_option": 1})


def test_audits_have_codes_of_their_own_and_say_what_a_red_one_means() -> None:
    audits = [parts.find("audits", name) for name in parts.names("audits")]
    assert len({audit.code for audit in audits}) == len(audits)
    assert len({audit.title for audit in audits}) == len(audits)
    for audit in audits:
        assert re.fullmatch(r"D\d{1,2}[a-z]?", audit.code)
        assert audit.means.endswith(".")
        assert audit.mend.endswith(".")
        assert audit.breaks in ("nothing", "unsettled", "not evaluated")


@pytest.mark.parametrize(("folder", "name"), EVERY)
def test_every_part_is_described_in_one_line(folder: str, name: str) -> None:
    (line,) = [text for part, _, text in parts.describe(folder) if part == name]
    assert line
