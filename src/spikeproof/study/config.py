"""One cell's configuration, typed: what decides its numbers, and nothing else.

YAML in, resolved YAML beside the results. A part is a mapping with its 'name' and its options (`spikeproof parts` lists
them); everything is checked, and every part built once, before any work starts.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import torch
from jsonargparse import ArgumentError, ArgumentParser

from spikeproof import parts
from spikeproof.errors import UsageError, within
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case
from spikeproof.evaluation.paper import PROTOCOL
from spikeproof.evaluation.tiers import tier_of
from spikeproof.losses import cross_entropy
from spikeproof.measures.gradients import SCALARS
from spikeproof.metrics.robustness import same_eps
from spikeproof.study.rehearsal import rehearse, rehearse_training, toy
from spikeproof.study.yaml_lines import Keys, Lines, line_of, read_yaml
from spikeproof.training.train import Recipe
from spikeproof.types import Threat
from spikeproof.victims.victim import Victim

__all__ = [
    "CellConfig", "Energy", "Evaluation", "Generalisation", "Gradients", "Headline", "Study", "Theory", "cases_of",
    "cell_from", "load_study", "overlaid", "threats_of",
]  # fmt: skip

Part = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """Attacks at budgets. protocol 'pixels' judges soundly; 'panel' runs a named tier of attacks and audits (tiers.py);
    'paper' does what the paper's code does (see paper.py).

    What is None is filled in: for 'paper' its own fixed settings, for 'pixels' the L-inf ball on pixels, FGSM and
    PGD-20, and batches of 64; for 'panel' the same ball and the tier 'quick'. eps: floats or fractions such as 8/255.
    loss, rule, encoder and estimator are the attacker's; no rule or encoder means that of training; an attacker's
    encoder must have the same forward, and is there to choose another gradient through the code. An attack may have its
    own of each, under 'using': {name: square, using: {loss: margin}}; a panel brings its own attacks. images: how many
    of the test images, None for all.
    """

    name: str = "pixels"
    protocol: Literal["pixels", "panel", "paper"] = "pixels"
    norm: str | None = None
    surface: Literal["pixels", "encoded"] | None = None
    eps: list[float | str] | None = None
    attacks: dict[str, Part] | None = None
    loss: str = "cross_entropy"
    rule: Part | None = None
    encoder: Part | None = None
    estimator: Part = field(default_factory=lambda: {"name": "white_box"})
    images: int | None = None
    batch_size: int | None = None
    tier: Literal["smoke", "quick", "standard", "audit"] | None = None

    def resolved(self) -> Evaluation:
        """The same with every None of a setting replaced."""
        usual: dict[str, Any] = {
            "norm": "linf",
            "surface": "pixels",
            "eps": ["8/255"],
            "attacks": {"fgsm": {"name": "fgsm"}, "pgd-20": {"name": "pgd", "steps": 20}},
            "batch_size": 64,
        }
        panel = {**usual, "attacks": {}, "tier": "quick"}
        settings = {"paper": PROTOCOL, "panel": panel, "pixels": usual}[self.protocol]
        missing: dict[str, Any] = {k: v for k, v in settings.items() if getattr(self, k) is None}
        return replace(self, **missing)


@dataclass(frozen=True)
class Gradients:
    """What is measured of gradients: on the first `images` test images, weights on `weight_images` of them."""

    images: int = 64
    weight_images: int = 8
    scalars: list[str] = field(default_factory=lambda: list(SCALARS))
    layers: bool = True
    train_mode: bool = False
    batch_size: int = 16


@dataclass(frozen=True)
class Generalisation:
    """How far the network reaches beyond its training images; 0 images leave a part out.

    corruption_images: test images that are corrupted, each in every way at five severities; corruptions: the ways.
    robust_images: training images, and as many test images, that one plain PGD of `steps` steps attacks within eps in
    L-inf on pixels.
    """

    corruption_images: int = 0
    corruptions: list[str] = field(default_factory=lambda: parts.names("corruptions"))
    robust_images: int = 0
    eps: float | str = "8/255"
    steps: int = 20
    batch_size: int = 64


@dataclass(frozen=True)
class Energy:
    """Spikes and synaptic operations are counted on `images` test images; 0 for none."""

    images: int = 0
    batch_size: int = 16


@dataclass(frozen=True)
class Theory:
    """First-order theory is held against the network on `images` test images, and the bounds on its weight gradients on
    `weight_images`; 0 for none.

    eps: the L-inf ball on pixels; draws: points of noise in it; steps: those of the PGD that looks for the largest
    change.
    """

    images: int = 0
    weight_images: int = 0
    eps: float | str = "2/255"
    draws: int = 100
    steps: int = 20
    batch_size: int = 16


@dataclass(frozen=True)
class Headline:
    """Which evaluation and budget the report puts first; None for the first of each."""

    evaluation: str | None = None
    eps: float | str | None = None


_FOLDERS = {
    "data": "data",
    "model": "models",
    "neuron": "neurons",
    "rule": "rules",
    "encoder": "encoders",
    "defence": "defences",
    "training_attack": "attacks",
}
"""The fields of a cell that are parts, and where each is found."""


def _named(name: str, **options: Any) -> Any:
    return field(default_factory=lambda: {"name": name, **options})


@dataclass(frozen=True)
class CellConfig:
    """A network, its training, and how it is examined. The defaults are the paper's architecture on digits.

    weights: a safetensors file with the body's state dict (SpikingJelly's names); nothing is trained then.
    """

    name: str = "cell"
    data: Part = _named("digits")
    train_images: int | None = None
    test_images: int | None = None
    model: Part = _named("small_sew_resnet")
    neuron: Part = _named("if")
    rule: Part = _named("atan")
    encoder: Part = _named("phase")
    steps: int = 10
    defence: Part = _named("vanilla")
    training_threat: Part = _named("linf", eps="2/255")
    training_attack: Part = _named("fgsm")
    recipe: Recipe = field(default_factory=Recipe)
    weights: str | None = None
    evaluations: list[Evaluation] = field(default_factory=lambda: [Evaluation()])
    gradients: Gradients = field(default_factory=Gradients)
    generalisation: Generalisation = field(default_factory=Generalisation)
    energy: Energy = field(default_factory=Energy)
    theory: Theory = field(default_factory=Theory)
    headline: Headline = field(default_factory=Headline)
    seed: int = 0

    def resolved(self) -> dict[str, Any]:
        """Plain data with every default written out, as it is stored and hashed. Raises UsageError as `check` does."""
        self.check()
        evaluations = [e.resolved() for e in self.evaluations]
        first = next(e for e in evaluations if self.headline.evaluation in (None, e.name))
        eps = self.headline.eps if self.headline.eps is not None else (first.eps or [0.0])[0]
        tree = asdict(replace(self, evaluations=evaluations, headline=Headline(first.name, str(eps))))
        for name, folder in _FOLDERS.items():
            tree[name] = parts.resolve(folder, tree[name])
        budget = {"eps": str(self.training_threat["eps"])}
        options = {name: value for name, value in self.training_threat.items() if name != "eps"}
        tree["training_threat"] = {**parts.resolve("threats", options), **budget}
        for examination in ("generalisation", "theory"):
            tree[examination]["eps"] = str(tree[examination]["eps"])
        for evaluation in tree["evaluations"]:
            evaluation["eps"] = [str(e) for e in evaluation["eps"]]
            evaluation["rule"] = parts.resolve("rules", evaluation["rule"] or self.rule)
            evaluation["encoder"] = parts.resolve("encoders", evaluation["encoder"] or self.encoder)
            evaluation["estimator"] = parts.resolve("estimators", evaluation["estimator"])
            for name, spec in evaluation["attacks"].items():
                using = {"using": _resolved_using(spec["using"])} if "using" in spec else {}
                evaluation["attacks"][name] = {**parts.resolve("attacks", _without_using(spec)), **using}
        return tree

    def check(self) -> None:
        """Build every part once, and rehearse every attack. Raises UsageError with what is valid, and its path."""
        for name in ("data", "rule", "encoder", "defence", "training_attack"):
            with within(name):
                parts.build(_FOLDERS[name], getattr(self, name))
        with within("neuron"):
            neuron = parts.build(_FOLDERS["neuron"], self.neuron)
            if getattr(neuron, "steps", self.steps) < self.steps:  # a neuron with weights of its own for each step
                mend = "set neuron.steps to the steps of the cell"
                raise UsageError(f"a neuron of {self.steps} steps or more", neuron, mend=mend)
        with within("model"):
            _build_model(_text(self.model), _text(self.neuron))
        with within("training_threat"):
            if "eps" not in self.training_threat:
                raise UsageError("training_threat with an eps", self.training_threat, mend="for example 2/255")
            threats_of(self.training_threat, [self.training_threat["eps"]], "pixels")
        self._check_numbers()
        _check_examinations(self.generalisation, self.energy, self.theory)
        with within("evaluations"):
            if not self.evaluations:
                raise UsageError("one evaluation or more", "none")
            if len({e.name for e in self.evaluations}) != len(self.evaluations):
                raise UsageError("evaluations of different names", [e.name for e in self.evaluations])
            for number, evaluation in enumerate(self.evaluations):
                with within(number):
                    _check_evaluation(evaluation.resolved(), self.rule, self.encoder)
        with within("headline"):
            self._check_headline()
        self.rehearse()

    def _check_numbers(self) -> None:
        if self.weights is not None and not Path(self.weights).is_file():
            with within("weights"):
                raise UsageError("weights as a safetensors file", f"no file at {self.weights!r}")
        if self.steps < 1:
            with within("steps"):
                raise UsageError("steps >= 1", self.steps)
        if not 0 <= self.seed < 2**63:
            with within("seed"):
                raise UsageError("a seed in 0..2^63 - 1", self.seed)
        wanted = self.gradients
        sizes: dict[Keys, int | None] = {
            ("train_images",): self.train_images,
            ("test_images",): self.test_images,
            ("gradients", "images"): wanted.images,
            ("gradients", "weight_images"): wanted.weight_images,
            ("gradients", "batch_size"): wanted.batch_size,
        }
        for keys, size in sizes.items():
            if size is not None and size < 1:
                with within(*keys):
                    raise UsageError("a number of images >= 1", size)
        for scalar in self.gradients.scalars:
            if scalar not in SCALARS:
                with within("gradients", "scalars"):
                    raise UsageError("a scalar in gradients.scalars", repr(scalar), valid=SCALARS)

    def rehearse(self, in_channels: int = 1, classes: int = 10) -> None:
        """Every attack for a moment on a toy of so many channels and classes. Raises UsageError with its path."""
        parts_of = (self.rule, self.encoder, self.neuron, self.steps, in_channels, classes)
        with within("training_attack"):
            _rehearse_training(_text(self.training_attack), _text(self.training_threat), _text(parts_of))
        for number, evaluation in enumerate(self.evaluations):
            with within("evaluations", number):
                _rehearse(_text(asdict(evaluation.resolved())), _text(parts_of))

    def _check_headline(self) -> None:
        by_name = {e.name: e.resolved() for e in self.evaluations}
        name = self.headline.evaluation or self.evaluations[0].name
        if name not in by_name:
            with within("evaluation"):
                raise UsageError("headline.evaluation", repr(name), valid=by_name)
        budgets = [str(e) for e in by_name[name].eps or []]
        if self.headline.eps is not None and str(self.headline.eps) not in budgets:
            with within("eps"):
                raise UsageError(f"headline.eps among those of {name!r}", repr(self.headline.eps), valid=budgets)


def _text(facts: Any) -> str:
    return json.dumps(facts)


# The cells of a study share most of what is built and rehearsed, so what has gone well is remembered by its text.
@lru_cache(maxsize=4096)
def _build_model(model: str, neuron: str) -> None:
    with torch.random.fork_rng(devices=[]):  # the weights, which nobody will use, are drawn there
        built = parts.build("neurons", json.loads(neuron))
        parts.build("models", json.loads(model), in_channels=1, classes=10, neuron=lambda: built)


@lru_cache(maxsize=4096)
def _rehearse_training(attack: str, threat: str, parts_of: str) -> None:
    rule, encoder, neuron, steps, in_channels, classes = json.loads(parts_of)
    victim = _toy(encoder, neuron, steps, in_channels, classes)
    spec = json.loads(threat)
    (ball,) = threats_of(spec, [spec["eps"]], "pixels").values()
    own = Case(parts.build("attacks", json.loads(attack)), WhiteBox(parts.build("rules", rule)), cross_entropy)
    rehearse_training(victim, own, ball)


@lru_cache(maxsize=4096)
def _rehearse(evaluation: str, parts_of: str) -> None:
    e = Evaluation(**json.loads(evaluation))
    rule, encoder, neuron, steps, in_channels, classes = json.loads(parts_of)
    victim = _toy(encoder, neuron, steps, in_channels, classes)
    threats = threats_of({"name": e.norm}, e.eps or [], e.surface or "pixels")
    if e.protocol == "panel":
        for threat in threats.values():
            tier_of(str(e.tier), victim, parts.build("rules", e.rule or rule), threat)
    else:
        with within("attacks"):
            rehearse(victim, cases_of(e, rule), threats)


def _toy(encoder: Part, neuron: Part, steps: int, in_channels: int, classes: int) -> Victim:
    built = parts.build("encoders", encoder), parts.build("neurons", neuron)
    return toy(*built, steps, in_channels=in_channels, classes=classes)


def _check_examinations(generalisation: Generalisation, energy: Energy, theory: Theory) -> None:
    least = {
        "generalisation": ({"corruption_images": 0, "robust_images": 0, "steps": 1, "batch_size": 1}, generalisation),
        "energy": ({"images": 0, "batch_size": 1}, energy),
        "theory": ({"images": 0, "weight_images": 0, "draws": 1, "steps": 1, "batch_size": 1}, theory),
    }
    for name, (limits, wanted) in least.items():
        for option, limit in limits.items():
            if getattr(wanted, option) < limit:
                with within(name, option):
                    raise UsageError(f"{name}.{option} >= {limit}", getattr(wanted, option))
    for name, eps in {"generalisation": generalisation.eps, "theory": theory.eps}.items():
        (threat,) = threats_of({"name": "linf"}, [eps], "pixels").values()
        if not 0 < threat.eps < 0.5:
            raise UsageError(f"{name}.eps between 0 and 1/2", eps, mend="for example 2/255")
    for corruption in generalisation.corruptions:
        parts.build("corruptions", {"name": corruption}, severity=1)
    if not generalisation.corruptions or len(set(generalisation.corruptions)) < len(generalisation.corruptions):
        got = generalisation.corruptions
        raise UsageError("different generalisation.corruptions, one or more", got)


def threats_of(spec: Mapping[str, Any], eps: list[float | str], surface: str) -> dict[str, Threat]:
    """One threat per budget, by the text of its eps."""
    options = {k: v for k, v in spec.items() if k != "eps"}
    return {str(e): parts.build("threats", options, eps=e, surface=surface) for e in eps}


_USING = {"rule": "rules", "encoder": "encoders", "estimator": "estimators"}


def _resolved_using(using: Mapping[str, Any]) -> dict[str, Any]:
    """What an attack has of its own, with every default written out."""
    return {k: parts.resolve(_USING[k], v) if k in _USING else v for k, v in using.items()}


def _without_using(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in spec.items() if k != "using"}


def cases_of(e: Evaluation, rule: Part) -> dict[str, Case]:
    """The cases of a resolved evaluation by name; `rule` is the training rule. Raises UsageError for a wrong part."""
    return {name: _case(name, spec, e, rule) for name, spec in (e.attacks or {}).items()}


def _case(name: str, spec: Part, e: Evaluation, rule: Part) -> Case:
    with within("attacks", name):
        using: dict[str, Any] = {"loss": e.loss, "rule": e.rule or rule, "encoder": e.encoder, "estimator": e.estimator}
        own = spec.get("using", {})
        if not isinstance(own, Mapping) or not own.keys() <= using.keys():
            raise UsageError(f"what attack {name!r} is 'using'", own, valid=using)
        using.update(own)
        encoder = using["encoder"]
        return Case(
            attack=parts.build("attacks", _without_using(spec)),
            estimator=parts.build("estimators", using["estimator"], rule=parts.build("rules", using["rule"])),
            loss=parts.build("losses", {"name": using["loss"]}),
            encoder=None if encoder is None else parts.build("encoders", encoder),
        )


def _check_evaluation(e: Evaluation, rule: Part, encoder: Part) -> None:
    if not re.fullmatch(r"\w[\w.-]*", e.name):
        raise UsageError("an evaluation named in letters, digits, '.', '_' and '-'", repr(e.name))
    panel = e.protocol == "panel"
    foreign = e.encoder is not None and parts.build("encoders", e.encoder) != parts.build("encoders", encoder)
    plain = parts.resolve("estimators", {"name": "white_box"})
    foreign = foreign or e.loss != Evaluation.loss or parts.resolve("estimators", e.estimator) != plain
    if (e.tier is not None) != panel or (panel and (e.attacks or foreign)):
        got = f"protocol {e.protocol}, tier {e.tier}, attacks {list(e.attacks or {})}, encoder {e.encoder}, "
        got += f"loss {e.loss}, estimator {e.estimator}"
        mend = "a panel brings its own attacks; the other protocols have no tier"
        raise UsageError(f"a tier for protocol 'panel' and nothing else in {e.name!r}", got, mend=mend)
    if not e.eps or not (e.attacks or panel):
        raise UsageError(f"one eps and one attack or more in evaluation {e.name!r}", f"{e.eps}, {e.attacks}")
    budgets = [threat.eps for threat in threats_of({"name": e.norm}, e.eps, e.surface or "pixels").values()]
    if any(same_eps(a, b) for a, b in itertools.combinations(budgets, 2)):
        raise UsageError(f"different eps in evaluation {e.name!r}", e.eps)
    own, cases = parts.build("encoders", encoder), cases_of(e, rule)
    if e.surface == "encoded" and any(case.encoder not in (None, own) for case in cases.values()):
        raise UsageError(f"no attacker's encoder in {e.name!r}, which attacks behind the encoder", e.encoder)
    if (e.images is not None and e.images < 1) or (e.batch_size or 0) < 1:
        raise UsageError(f"images and batch_size >= 1 in evaluation {e.name!r}", f"{e.images}, {e.batch_size}")


def cell_from(tree: Mapping[str, Any]) -> CellConfig:
    """A checked configuration from nested mappings; unknown keys and wrong types raise UsageError."""
    config = _typed(CellConfig, tree, "a cell's configuration")
    config.check()
    return config


def _check_keys(target: Any, tree: object, what: str) -> None:
    """Every level a mapping (or a list of them) with known keys, else UsageError that lists the valid ones."""
    kinds = get_type_hints(target)
    if not isinstance(tree, Mapping):
        raise UsageError(f"{what} as a mapping", repr(tree), valid=kinds)
    for key, value in tree.items():
        with within(str(key)):
            if key not in kinds:
                raise UsageError(f"a key of {what}", repr(key), valid=kinds)
            if is_dataclass(kinds[key]):
                _check_keys(kinds[key], value, f"{key!r} in {what}")
            for item in filter(is_dataclass, get_args(kinds[key])):
                for number, entry in enumerate(value if isinstance(value, list) else []):
                    if not isinstance(entry, item):  # type: ignore[arg-type]  # the default of the command line is one
                        with within(number):
                            _check_keys(item, entry, f"an entry of {key!r} in {what}")


def _field_refused(target: Any, tree: Mapping[str, Any]) -> Keys:
    """The keys of the field that a nested dataclass refuses also where it is the only one given, () if none."""
    for name, kind in get_type_hints(target).items():
        given = tree.get(name) if is_dataclass(kind) else None
        for field_name, value in given.items() if isinstance(given, Mapping) else ():
            try:
                kind(**{field_name: value})
            except UsageError:
                return name, field_name
            except TypeError:  # a text where a number belongs, which the parser has read as one
                continue
    return ()


@cache  # a parser takes longer to make than a configuration to check
def _parser(target: type) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(target)
    return parser


def _typed(target: type[T], tree: object, what: str) -> T:
    """A dataclass from nested mappings, every value checked against its type."""
    _check_keys(target, tree, what)
    kind: Any = target
    parser = _parser(kind)
    try:
        # A copy, because the parser writes its own objects into the lists that it is given.
        return target(**vars(parser.instantiate(parser.parse_object(copy.deepcopy(tree)))))
    except (ArgumentError, TypeError, KeyError) as error:
        with within(*parts.key_in(error)):
            raise UsageError(what, str(error).strip()) from error
    except UsageError as error:  # a value that the dataclass itself refuses
        error.path = error.path or _field_refused(target, tree if isinstance(tree, Mapping) else {})
        raise


def overlaid(tree: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted overrides laid over a tree. Another 'name' of a part drops the options of the part it replaces."""
    result = copy.deepcopy(tree)
    # Names first: an option beside its part's new name belongs to the new part, in whatever order they are written.
    for path, value in sorted(overrides.items(), key=lambda item: not item[0].endswith(".name")):
        node = result
        *above, last = path.split(".")
        for step in above:
            node = node.setdefault(step, {})
            if not isinstance(node, dict):
                with within(*path.split(".")):
                    raise UsageError(f"a mapping at {step!r} of {path!r}", repr(node))
        if above and last == "name" and node.get("name") not in (None, value):
            node.clear()
        node[last] = value
    return result


@dataclass(frozen=True)
class Study:
    """A grid of cells: `base`, and for each axis its named values, each a mapping of dotted overrides.

    seeds: every combination once for each; none given, the base's own seed.
    """

    title: str
    base: dict[str, Any]
    axes: dict[str, dict[str, dict[str, Any] | None]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)

    def cells(self) -> list[CellConfig]:
        """Every combination, named by its values and its seed. Raises UsageError that names the combination."""
        found = []
        seeds: list[int | None] = [*self.seeds] or [None]
        for values in itertools.product(*(axis.items() for axis in self.axes.values())):
            for seed in seeds:
                name = "-".join([*(str(value) for value, _ in values), *([f"s{seed}"] if len(self.seeds) > 1 else [])])
                tree = self.base
                try:
                    for _, overrides in values:
                        tree = overlaid(tree, overrides or {})
                    seeded = {} if seed is None else {"seed": seed}
                    found.append(cell_from({**tree, "name": name or "cell", **seeded}))
                except UsageError as error:
                    raise self.refused(name or "cell", error) from error
        return found

    def refused(self, name: str, error: UsageError) -> UsageError:
        """The same error with the name of its cell."""
        return error.at(f"cell {name!r}")


@dataclass(frozen=True)
class _Written(Study):
    """A study that was read from a file, and knows the line of everything in it."""

    file: str = ""
    lines: Lines = field(default_factory=dict, repr=False)

    def refused(self, name: str, error: UsageError) -> UsageError:
        return super().refused(name, error).at(f"{self.file}:{self._line(name, error.path)}")

    def _line(self, name: str, path: Keys) -> int:
        """Where the file says what the cell of that name has at `path`: an axis' value lies over the base."""
        axes = self._values(name)
        for depth in range(len(path), 0, -1):
            wanted = path[:depth]
            for axis, value in reversed(axes):
                for dotted in reversed(list(self.axes[axis][value] or {})):
                    keys = tuple(dotted.split("."))
                    shared = min(len(keys), depth)
                    written = ("axes", axis, value, dotted, *wanted[len(keys) :])
                    if keys[:shared] == wanted[:shared] and written in self.lines:
                        return self.lines[written]
            if ("base", *wanted) in self.lines:
                return self.lines["base", *wanted]
        return line_of(self.lines, ("seeds",) if path == ("seed",) else ("base",))

    def _values(self, name: str) -> list[tuple[str, str]]:
        """The axes of a cell with its values, by its name."""
        for values in itertools.product(*self.axes.values()):
            joined = "-".join(str(value) for value in values)
            if name in (joined or "cell", *("-".join(filter(None, [joined, f"s{seed}"])) for seed in self.seeds)):
                return list(zip(self.axes, values, strict=True))
        return []


def load_study(path: Path) -> Study:
    """A study from a YAML file. What is wrong in it, or in a cell of it, raises UsageError with file and line."""
    tree, lines = read_yaml(path, "a study")
    try:
        study = _typed(Study, tree, f"a study in {path.name}")
    except UsageError as error:
        raise error.at(f"{path}:{line_of(lines, error.path)}") from error
    return _Written(study.title, study.base, study.axes, study.seeds, str(path), lines)
