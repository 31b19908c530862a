"""Parts by name: every file of every folder is found, and every wrong name or option is told what is right."""

from __future__ import annotations

import copy
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

import spikeproof
from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.rules.atan import ATan

PACKAGE = Path(spikeproof.__file__).parent
GIVEN: dict[str, dict[str, Any]] = {
    "models": {"in_channels": 1, "classes": 10, "neuron": lambda: parts.build("neurons", {"name": "if"})},
    "threats": {"eps": "8/255", "surface": "pixels"},
    "estimators": {"rule": ATan()},
    "corruptions": {"severity": 3},
}
NEEDED = {name: {"root": "somewhere"} for name in (
    "image_folder", "cifar10", "cifar100", "nmnist", "dvs128_gesture", "cifar10_dvs",
)}  # fmt: skip
"""Options without a default."""


def given_to(folder: str, name: str) -> dict[str, Any]:
    """What spikeproof hands over; a threat of whole events has a number of them, on a surface of its own."""
    surface = parts.find(folder, name).surface if folder == "threats" else "pixels"
    return {"eps": 8, "surface": surface} if surface != "pixels" else GIVEN.get(folder, {})


def every_part() -> list[tuple[str, str]]:
    return [(folder, name) for folder in parts.FOLDERS for name in parts.names(folder)]


def spec_of(folder: str, name: str) -> dict[str, Any]:
    known = inspect.signature(parts.find(folder, name)).parameters
    return {"name": name, **{k: v for k, v in NEEDED.get(name, {}).items() if k in known}}


@pytest.mark.parametrize("folder", [f for f in parts.FOLDERS if (PACKAGE / f).is_dir()])
def test_the_folder_is_the_registry(folder: str) -> None:
    files = {path.stem for path in (PACKAGE / folder).glob("*.py") if not path.name.startswith("_")}
    assert files
    assert parts.names(folder) == sorted(stem.rstrip("_") for stem in files)
    for stem in files:
        module = importlib.import_module(f"spikeproof.{folder}.{stem}")
        assert len(module.__all__) == 1, f"{stem} must have one public class, that is the part"
        assert parts.find(folder, stem.rstrip("_")) is getattr(module, module.__all__[0])


@pytest.mark.parametrize("folder", ["losses", "threats"])
def test_a_single_file_may_hold_several_parts(folder: str) -> None:
    module = importlib.import_module(f"spikeproof.{folder}")
    found = {parts.find(folder, name) for name in parts.names(folder)}
    assert len(found) == len(parts.names(folder)) >= 2
    assert all(getattr(module, part.__name__) is part for part in found)


def test_a_name_that_is_a_python_keyword_is_found() -> None:
    assert parts.find("neurons", "if").__name__ == "IF"


@pytest.mark.parametrize(("folder", "name"), every_part())
def test_every_part_is_built_from_its_defaults_and_resolved_to_them(folder: str, name: str) -> None:
    spec = spec_of(folder, name)
    before = copy.deepcopy(spec)
    resolved = parts.resolve(folder, spec)
    assert spec == before
    assert parts.resolve(folder, resolved) == resolved
    part, built = parts.find(folder, name), parts.build(folder, spec, **given_to(folder, name))
    if folder == "losses":
        assert built is part
    else:
        assert type(built) is part
        assert set(resolved) == {"name", *inspect.signature(part).parameters} - set(GIVEN.get(folder, {}))


@pytest.mark.parametrize("folder", parts.FOLDERS)
def test_an_unknown_name_is_told_every_valid_one(folder: str) -> None:
    with pytest.raises(UsageError) as error:
        parts.find(folder, "nowhere")
    for name in (*parts.names(folder), "'nowhere'", "package.module:Name"):
        assert name in str(error.value)


def test_an_unknown_folder_is_told_every_valid_one() -> None:
    with pytest.raises(UsageError, match=r"valid: neurons, rules, .*data"):
        parts.names("nowhere")


@pytest.mark.parametrize("name", ["__init__", "_best", "../attacks/pgd", "pgd.py", "PGD", "", "attacks.pgd"])
def test_only_names_of_parts_are_names(name: str) -> None:
    with pytest.raises(UsageError, match="expected a part of attacks"):
        parts.find("attacks", name)


def test_a_dotted_path_stands_wherever_a_name_does() -> None:
    built = parts.build("attacks", {"name": "spikeproof.attacks.pgd:PGD", "steps": 3})
    assert built == parts.build("attacks", {"name": "pgd", "steps": 3})
    assert parts.resolve("attacks", {"name": "spikeproof.attacks.pgd:PGD"})["name"] == "spikeproof.attacks.pgd:PGD"


@pytest.mark.parametrize("name", ["nowhere:X", "spikeproof.attacks.pgd:Nothing", ":X", "math:", ".x:Y", "math:pi"])
def test_a_dotted_path_to_nothing_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as error:
        parts.build("attacks", {"name": name})
    assert repr(name) in str(error.value)


def test_an_unknown_option_is_told_the_valid_ones_with_their_defaults() -> None:
    with pytest.raises(UsageError) as error:
        parts.build("attacks", {"name": "pgd", "stepz": 3})
    for text in ("'stepz'", "attacks 'pgd'", "steps=20", "restarts=1"):
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("folder", "spec"),
    [
        ("attacks", {"name": "pgd", "steps": "many"}),
        ("attacks", {"name": "pgd", "steps": 2.5}),
        ("attacks", {"name": "pgd", "random_start": 3}),
        ("encoders", {"name": "phase", "gradient": "nothing"}),
        ("models", {"name": "sew_resnet", "depth": 19}),
        ("attacks", {"steps": 3}),
        ("losses", {"name": "margin", "scale": 2.0}),
        ("models", {"name": "small_sew_resnet", "classes": 3}),
        ("threats", {"name": "linf", "surface": "pixels"}),
        ("data", {"name": "image_folder"}),
    ],
)
def test_wrong_options_are_refused(folder: str, spec: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^expected .*, got "):
        parts.build(folder, spec, **GIVEN.get(folder, {}))


@pytest.mark.parametrize("folder", parts.FOLDERS)
def test_the_listing_shows_every_part_with_its_options_and_one_line(folder: str) -> None:
    listing = parts.describe(folder)
    assert [name for name, _, _ in listing] == parts.names(folder)
    for name, options, line in listing:
        assert len(line) > 10, f"{name} says nothing of itself"
        if folder != "losses":
            known = set(inspect.signature(parts.find(folder, name)).parameters) - set(GIVEN.get(folder, {}))
            assert all(option in options for option in known)


class Opaque:
    """No plain data: its text does not tell one from another, nor from None."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "None"


class Silent:
    """An object that cannot say what it is."""

    def __repr__(self) -> str:
        raise RuntimeError


USUAL = Opaque("usual")


class Noted:
    """A part of somebody's own that notes what it is given, and adds to its list."""

    def __init__(self, sizes: list[float], scale: bool | int | float | str = 1, far: Any = USUAL) -> None:
        self.given, self.far = ([*sizes], scale), far
        sizes.append(0.0)


def test_options_are_read_as_they_are_written_however_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was parsed once is known by its text: no equal number of another type, no list as a part left it, and no
    object in another's place."""
    monkeypatch.setitem(sys.modules, "noted", sys.modules[__name__])

    def made(**options: Any) -> Any:
        return parts.build("attacks", {"name": "noted:Noted", "sizes": [2, 2.5], **options})

    for far in (None, Opaque("one"), Opaque("other"), Silent()):
        for scale in (1, 1.0, True, "one", 1, 1.0, True, "one"):
            assert repr(made(scale=scale, far=far).given) == repr(([2.0, 2.5], scale))
            assert made(scale=scale, far=far).far is far
    assert all(made().far is USUAL for _ in range(2))
