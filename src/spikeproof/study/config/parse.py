"""A configuration from plain data, parsed once: checked, every default written out, every part built, every attack
rehearsed, before any work starts."""

from __future__ import annotations

import copy
import functools
import itertools
import re
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import torch
from jsonargparse import ArgumentError, ArgumentParser

from spikeproof import parts
from spikeproof.errors import SpikeproofError, UsageError, within
from spikeproof.evaluation.tiers import TIERS
from spikeproof.interop.load import factory
from spikeproof.limits import ENTRIES, NUMBER, check_different, check_name
from spikeproof.measures.gradients import SCALARS
from spikeproof.metrics.robustness import same_eps
from spikeproof.study.config.build import USING, cases_of, threats_of, training_threat, using_of
from spikeproof.study.config.once import once
from spikeproof.study.config.rehearsal import rehearse
from spikeproof.study.config.schema import (
    FOLDERS,
    LEAST,
    MOST,
    OF_TRAINING,
    PROTOCOLS,
    WRITTEN,
    Attacked,
    CellConfig,
    Evaluation,
    Generalisation,
    Gradients,
    Headline,
    Network,
    Panel,
    Paper,
    Part,
    Pixels,
    Theory,
)  # fmt: skip
from spikeproof.training.checkpoint import read_header
from spikeproof.training.facts import facts_of
from spikeproof.types import Limited, Shaped

__all__ = ["cell_from", "check_data", "check_keys", "typed"]

T = TypeVar("T")

_WHAT = "a cell's configuration"
_KINDS: dict[str, Any] = get_type_hints(CellConfig)
_SECTIONS = {name for name, kind in _KINDS.items() if is_dataclass(kind)} - {"headline"}


def cell_from(tree: Mapping[str, Any]) -> CellConfig:
    """A complete, checked configuration from nested mappings.

    Raises UsageError, with the path of what is wrong, for unknown keys, wrong types and values, and for parts, tiers
    and attacks that cannot be built or run.
    """
    check_keys(CellConfig, tree, _WHAT)
    _check_sizes(tree)
    given = {**_defaults(), **tree}
    if tree.get("network") is not None:
        given = {**_defaults(), **_of_own(tree), **tree}
        if isinstance(given["gradients"], Mapping):
            # A layer of a foreign network may meet one step at a time, which no row tells apart, and a weight nothing.
            given["gradients"] = {"layers": False, "weight_images": 0, **given["gradients"]}
    read: dict[str, Any] = {
        name: _read(name, given[name]) for name in _KINDS if name not in ("evaluations", "headline")
    }
    _check_together(read)
    evaluations = _evaluations(given["evaluations"], read["rule"], read["encoder"])
    cell = CellConfig(**read, evaluations=evaluations, headline=_headline(given["headline"], evaluations))
    rehearse(cell, in_channels=2 if _of_frames(cell.encoder) else 1, classes=10)
    return cell


@once
def _of_frames(encoder: Part) -> bool:
    """Whether the data come as frames over time, and not as images."""
    built = parts.build("encoders", encoder)
    return isinstance(built, Shaped) and "T" in built.takes


@functools.cache
def _defaults() -> dict[str, Any]:
    """What a cell says where nothing is written; a section of it is whatever its own type says."""
    made = {f.name: f.default_factory() for f in fields(CellConfig) if f.default_factory is not MISSING}
    said = {f.name: f.default for f in fields(CellConfig) if f.default is not MISSING}
    return {**said, **{n: {} if is_dataclass(v) else v for n, v in made.items()}, "evaluations": [{}], "headline": {}}


def _of_own(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell of one's own network says where nothing is written. Raises UsageError for what no such cell says."""
    for name in OF_TRAINING:
        if name in tree:
            with within(name):
                mend = "leave it out, or the network"
                raise UsageError(
                    f"no {name!r} beside a network of one's own, which is not trained here", tree[name], mend=mend
                )
    if tree.get("steps") is None and tree.get("encoder") not in (None, {"name": "direct"}):
        with within("encoder"):
            raise UsageError(
                "steps for the encoder of a network of one's own", "none", mend="say how many steps to encode"
            )
    named = tree["network"].get("make") if isinstance(tree["network"], Mapping) else None
    return {
        "name": str(named), "rule": None, "encoder": {"name": "direct"}, "steps": None,
        "evaluations": [{"name": "panel", "protocol": "panel"}],
    }  # fmt: skip


@once
def _read(name: str, value: Any) -> Any:
    """One field of a cell, whatever the others say."""
    if name == "network":
        return None if value is None else _network(value)
    if name == "rule" and value is None:
        return None
    if name in FOLDERS:
        with within(name):
            return _part(FOLDERS[name], value)
    if name == "training_threat":
        with within(name):
            return _training_threat(value)
    kind = _KINDS[name]
    if name in _SECTIONS:
        section: Any = typed(kind, value, f"{name!r} in {_WHAT}", name)
        with within(name):
            _check_section(name, section)
        return replace(section, eps=_budget(section.eps)) if isinstance(section, Generalisation | Theory) else section
    # Most are of their type as they come; the parser is asked for the others, and takes a hundred times as long.
    plain = value if type(value) in (kind, *get_args(kind)) else _parsed(name, kind, value)
    with within(name):
        _check_least(CellConfig, {name: plain})
        if name == "seed" and plain < 0:
            raise UsageError("a seed in 0..2^63 - 1", plain)
        if name == "name":
            check_name("the name of a cell", plain)
    return plain


def _part(folder: str, spec: Part) -> Part:
    """With every default written out; built once, unless it needs what only the others can say."""
    return parts.resolve(folder, spec, tried=folder != "models")


def _network(value: Any) -> Network:
    """With something to call at each of its paths."""
    found: Network = typed(Network, value, f"'network' in {_WHAT}", "network")
    for path in found.paths:
        with within("network", "make" if path == found.make else "readout"):
            factory(path)
    if not found.tolerance >= 0:  # nor NaN
        with within("network", "tolerance"):
            raise UsageError("network.tolerance >= 0", found.tolerance)
    return found


def _training_threat(spec: Any) -> Part:
    if not isinstance(spec, Mapping) or "eps" not in spec:
        raise UsageError("training_threat with an eps", spec, mend="for example 2/255")
    training_threat(spec)
    return {**parts.resolve("threats", {k: v for k, v in spec.items() if k != "eps"}), "eps": str(spec["eps"])}


def _budget(eps: Any) -> str:
    """The text that rows and the report name a budget by: of 0.1 and '0.10' the same, of '8/255' itself."""
    with suppress(TypeError, ValueError, OverflowError):
        return str(eps if isinstance(eps, bool) else float(eps))
    return str(eps)


# --- what depends on several fields ---


def _check_together(read: Mapping[str, Any]) -> None:
    neuron, steps, weights = read["neuron"], read["steps"], read["weights"]
    if weights is not None:
        with within("weights"):
            _check_weights(Path(weights), torch_too=read["network"] is not None)
    if read["network"] is not None:
        return
    for name in ("rule", "steps"):
        if read[name] is None:
            with within(name):
                raise UsageError(
                    f"{name} of a network that is trained here", "none", mend=f"set {name}, or network.make"
                )
    with within("neuron"):
        _check_steps(neuron, steps)
    with within("model"):
        _check_model(read["model"], neuron)
    if _of_frames(read["encoder"]):
        _check_frames(read["generalisation"], read["theory"])


def _check_frames(generalisation: Generalisation, theory: Theory) -> None:
    """What is measured by a change of pixels is not measured of frames of events."""
    for section, option, count in (
        ("generalisation", "corruption_images", generalisation.corruption_images),
        ("generalisation", "robust_images", generalisation.robust_images),
        ("theory", "images", theory.images),
    ):
        if count:
            with within(section, option):
                mend = "leave it out: it is measured by changes of an image's pixels"
                raise UsageError(f"{section}.{option} 0 for frames of events", count, mend=mend)


@once
def _check_steps(neuron: Part, steps: int) -> None:
    built = parts.build("neurons", neuron)
    if isinstance(built, Limited) and built.steps < steps:
        raise UsageError(f"a neuron of {steps} steps or more", neuron, mend="set neuron.steps to the cell's steps")


def _check_weights(path: Path, *, torch_too: bool) -> None:
    """What is no file of tensors is refused here, by its header, and not after the images have been read.

    torch_too: whether it may be a torch state dict, which has no header, and is read with the network.
    """
    if torch_too and path.suffix != ".safetensors":
        file = Path(str(path).rpartition(":")[0] or path)  # behind a colon a set of weights in it may be named
        if not path.is_file() and not file.is_file():
            raise UsageError(f"weights at {path}", "no regular file" if path.exists() else "no such file")
        return
    try:
        facts_of(read_header(path), path)
    except SpikeproofError as error:
        raise UsageError(error.expected, error.got, mend=error.mend) from error


@once
def _check_model(model: Part, neuron: Part) -> None:
    with torch.random.fork_rng(devices=[]):  # the weights, which nobody will use, are drawn there
        built = parts.build("neurons", neuron)
        parts.build("models", model, in_channels=1, classes=10, neuron=lambda: built)


def _evaluations(written: Any, rule: Part | None, encoder: Part) -> list[Pixels | Paper | Panel]:
    with within("evaluations"):
        if not isinstance(written, list) or not written:
            raise UsageError("a list of one evaluation or more", repr(written))
        read = []
        for number, one in enumerate(written):
            with within(number):
                read.append(_evaluation(one, rule, encoder))
        if len({e.name for e in read}) != len(read):
            raise UsageError("evaluations of different names", [e.name for e in read])
    return read


@once
def _evaluation(written: Any, rule: Part | None, encoder: Part) -> Pixels | Paper | Panel:
    """One evaluation, complete; rule and encoder: those of the cell."""
    what = f"an entry of 'evaluations' in {_WHAT}"
    _check_mapping(written, WRITTEN, what)
    given = {name: value for name, value in written.items() if value is not None}
    protocol = given.get("protocol", "pixels")
    if protocol not in tuple(PROTOCOLS):
        with within("protocol"):
            raise UsageError("a protocol", repr(protocol), valid=PROTOCOLS)
    kind = PROTOCOLS[protocol]
    usual = {**WRITTEN, **kind.USUAL, "protocol": protocol, "rule": rule, "encoder": encoder}
    if usual["surface"] == "pixels" and _of_frames(encoder):
        usual["surface"] = "relaxed"
    full = {**usual, **given}
    full["eps"] = list(map(_budget, full["eps"])) if isinstance(full["eps"], list) else full["eps"]
    _check_foreign(kind, full, encoder)
    found = _resolved(typed(kind, {f.name: full[f.name] for f in fields(kind)}, what))
    _check_evaluation(found, encoder)
    return found


def _check_foreign(kind: type[Evaluation], full: Mapping[str, Any], encoder: Part) -> None:
    """What a protocol does not have must be as if nobody had written it."""
    own = {f.name for f in fields(kind)} - ({"encoder"} if kind is Panel else set())
    usual = {name: value for name, value in {**WRITTEN, "encoder": encoder}.items() if name not in own}
    said = {name: _own_part(name, full[name]) for name in usual}
    if said != usual:
        got = f"protocol {full['protocol']}, tier {full['tier']}, attacks {list(full['attacks'])}, "
        got += f"encoder {full['encoder']}, loss {full['loss']}, estimator {full['estimator']}"
        mend = "a panel brings its own attacks; the other protocols have no tier"
        raise UsageError(f"a tier for protocol 'panel' and nothing else in {full['name']!r}", got, mend=mend)


def _own_part(name: str, value: Any) -> Any:
    """What an attacker, or one of its attacks, has of its own; a part with every default written out."""
    if name not in USING or name == "loss" or value is None:
        return value
    with within(name):
        return parts.resolve(USING[name], value)


def _resolved(e: Pixels | Paper | Panel) -> Pixels | Paper | Panel:
    """The same with every part written out."""
    whole: dict[str, Any] = {name: _own_part(name, getattr(e, name)) for name in ("rule", "encoder")}
    if isinstance(e, Attacked):
        whole["estimator"] = _own_part("estimator", e.estimator)
        whole["attacks"] = {name: _attack(name, attack) for name, attack in e.attacks.items()}
    return replace(e, **whole)


def _attack(name: str, attack: Part) -> Part:
    with within("attacks", name):
        own = {key: _own_part(key, value) for key, value in using_of(name, attack).items()}
        plain = parts.resolve("attacks", {k: v for k, v in attack.items() if k != "using"})
        return {**plain, **({"using": own} if "using" in attack else {})}


def _check_evaluation(e: Pixels | Paper | Panel, encoder: Part) -> None:
    with within("name"):
        check_name("the name of an evaluation", e.name)
        if not re.fullmatch(r"\w[\w.-]*", e.name):
            raise UsageError("an evaluation named in letters, digits, '.', '_' and '-'", repr(e.name))
    if isinstance(e, Panel) and e.tier not in TIERS:
        with within("tier"):
            raise UsageError("a tier", repr(e.tier), valid=TIERS)
    attacks = e.attacks if isinstance(e, Attacked) else e.tier
    if not e.eps or not attacks:
        raise UsageError(f"one eps and one attack or more in evaluation {e.name!r}", f"{e.eps}, {attacks}")
    for name in e.attacks if isinstance(e, Attacked) else ():
        with within("attacks"):
            check_name("the name of an attack", name)
    with within("surface"):
        _check_surface(e.surface, frames=_of_frames(encoder))
    budgets = [threat.eps for threat in threats_of({"name": e.norm}, e.eps, e.surface).values()]
    if any(same_eps(a, b) for a, b in itertools.combinations(budgets, 2)):
        raise UsageError(f"different eps in evaluation {e.name!r}", e.eps)
    cases = cases_of(e, encoder) if isinstance(e, Attacked) else {}
    if e.surface == "encoded" and any(case.encoder is not None for case in cases.values()):
        raise UsageError(f"no attacker's encoder in {e.name!r}, which attacks behind the encoder", e.encoder)


def _check_surface(surface: str, *, frames: bool) -> None:
    """A ball around frames of events is called relaxed; an image has no events."""
    if frames and surface == "pixels":
        raise UsageError("a surface of frames", repr(surface), valid=["events", "counts", "relaxed", "encoded"])
    if not frames and surface in ("events", "counts", "relaxed"):
        mend = "set the encoder to frames, and data of events"
        raise UsageError("a surface of images", repr(surface), valid=["pixels", "encoded"], mend=mend)


def _headline(written: Any, evaluations: list[Pixels | Paper | Panel]) -> Headline:
    """The evaluation and the budget that are named, or the first."""
    with within("headline"):
        named = {k: v for k, v in written.items() if v is not None}
        by_name = {e.name: e for e in evaluations}
        name = named.get("evaluation", evaluations[0].name)
        if name not in tuple(by_name):
            with within("evaluation"):
                raise UsageError("headline.evaluation", repr(name), valid=by_name)
        budgets = by_name[name].eps
        eps = _budget(named.get("eps", budgets[0]))
        if eps not in budgets:
            with within("eps"):
                raise UsageError(f"headline.eps among those of {name!r}", repr(eps), valid=budgets)
        return Headline(name, eps)


def _check_section(name: str, section: Any) -> None:
    if isinstance(section, Gradients):
        with within("scalars"):
            check_different("scalars in gradients.scalars", section.scalars)
        for scalar in section.scalars:
            if scalar not in SCALARS:
                with within("scalars"):
                    raise UsageError("a scalar in gradients.scalars", repr(scalar), valid=SCALARS)
    if isinstance(section, Generalisation | Theory):
        with within("eps"):
            (threat,) = threats_of({"name": "linf"}, [section.eps], "pixels").values()
            if not 0 < threat.eps < 0.5:
                raise UsageError(f"{name}.eps between 0 and 1/2", section.eps, mend="for example 2/255")
    if isinstance(section, Generalisation):
        with within("corruptions"):
            if not section.corruptions:
                raise UsageError("one or more generalisation.corruptions", section.corruptions)
            check_different("generalisation.corruptions", section.corruptions)
            for corruption in section.corruptions:
                parts.build("corruptions", {"name": corruption}, severity=1)


# --- types ---


def check_keys(target: Any, tree: object, what: str) -> None:
    """Every level a mapping with known keys, else UsageError that lists the valid ones."""
    kinds = _hints(target)
    _check_mapping(tree, kinds, what)
    assert isinstance(tree, Mapping)
    for key, value in tree.items():
        if is_dataclass(kinds[key]):
            with within(str(key)):
                check_keys(kinds[key], value, f"{key!r} in {what}")


@functools.cache
def _hints(target: Hashable) -> dict[str, Any]:
    return get_type_hints(target)


def check_data(tree: object) -> None:
    """UsageError, with the path, for what is too large to look at or would be more than data to the parser."""
    _check_sizes(tree)
    _refuse_code(tree)


def _check_sizes(value: object, *keys: str | int) -> None:
    """As many entries, and whole numbers as large, as loops and tensors can be made of; seeds, and images, which are
    counted, are free."""
    if isinstance(value, Mapping | list):
        if len(value) > ENTRIES:  # the parser needs the square of their number to check them
            with within(*keys):
                raise UsageError(f"at most {ENTRIES} entries", len(value))
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            _check_sizes(inner, *keys, key)
    elif isinstance(value, int):
        free = str(keys[-1]) == "seed" or str(keys[-1]).endswith("images")
        if abs(value) > (most := 2**63 - 1 if free else NUMBER):
            size = value.bit_length()  # a very long number cannot be written out in decimals
            with within(*keys):
                raise UsageError(f"a whole number of at most {most}", value if size < 99 else f"one of {size} bits")


def _check_mapping(tree: object, known: Mapping[str, Any], what: str) -> None:
    if not isinstance(tree, Mapping):
        raise UsageError(f"{what} as a mapping", repr(tree), valid=known)
    for key in tree:
        if key not in known:
            with within(str(key)):
                raise UsageError(f"a key of {what}", repr(key), valid=known)


def _check_least(kind: type, values: Mapping[str, Any], at: str = "") -> None:
    for option, least in LEAST.get(kind, {}).items():
        value = values.get(option)
        if value is not None and value < least:
            with within(*([option] if at or kind is not CellConfig else [])):
                raise UsageError(f"{at}{option} >= {least}", value)
    for option, most in MOST.get(kind, {}).items():
        value = values.get(option)
        if value is not None and value > most:
            raise UsageError(f"{at}{option} <= {most}", values[option])


@functools.cache  # a parser takes longer to make than a configuration to check
def _parser(kind: Hashable, at: str | None) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    if is_dataclass(kind):
        parser.add_class_arguments(kind, at)
    else:
        parser.add_argument(f"--{at}", type=kind)
    return parser


def _parsed(name: str, kind: Any, value: Any) -> Any:
    """A single value of its type."""
    _refuse_code(value)
    parts.refuse_none(CellConfig, {name: value})
    try:
        return _parser(kind, name).parse_object({name: copy.deepcopy(value)})[name]
    except (ArgumentError, TypeError, KeyError) as error:
        with within(name):
            raise UsageError(_WHAT, str(error).strip()) from error


def _refuse_code(value: Any) -> None:
    """jsonargparse imports the class at a 'class_path' wherever a type leaves open what stands there, also where it
    stands in a text that can be read as YAML or JSON (which may spell it with escapes)."""
    if isinstance(value, Mapping | list):
        for key, one in value.items() if isinstance(value, Mapping) else enumerate(value):
            with within(key if isinstance(key, int) else str(key)):
                if key == "class_path":
                    raise UsageError("data alone", "a 'class_path'", mend="a part has a 'name' and its options")
                _refuse_code(one)
    elif isinstance(value, str) and ":" in value and ("class_path" in value or {'"', "\\"} <= {*value}):
        raise UsageError("data alone", f"a text that may hold a 'class_path': {value!r}")


def typed(kind: type[T], tree: Any, what: str, at: str | None = None) -> T:
    """A dataclass from a mapping, every value checked against its type and its least; at: its key in a cell."""
    asked: Any = kind
    _refuse_code(tree)
    with within(*([] if at is None else [at])):
        parts.refuse_none(kind, tree if isinstance(tree, Mapping) else {})
    parser = _parser(asked, at)
    try:
        # A copy, because the parser writes its own objects into the lists that it is given.
        read = parser.instantiate(parser.parse_object(copy.deepcopy(tree if at is None else {at: tree})))
        found: T = read[at] if at is not None else kind(**vars(read))
    except (ArgumentError, TypeError, KeyError) as error:
        with within(*parts.key_in(error)):
            raise UsageError(what, str(error).strip()) from error
    except UsageError as error:  # a value that the dataclass itself refuses
        with within(*([] if at is None else [at])):
            error.path = error.path or parts.refused_alone(kind, tree)
            raise
    with within(*([] if at is None else [at])):
        _check_least(kind, vars(found), "" if at is None else f"{at}.")
    return found
