"""Configurations: typed, refused with what is valid, and written out so that they read back to the same."""

from __future__ import annotations

import copy
import inspect
import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from tinycell import tiny

import spikeproof
from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.evaluation.paper import PROTOCOL
from spikeproof.neurons.dlif import DLIF
from spikeproof.study.config import CellConfig, Gradients, Headline, Study, cell_from, load_study, rehearse
from spikeproof.training.train import Recipe

SHIPPED = sorted((Path(spikeproof.__file__).parent / "studies").glob("*.yaml"))
EVALUATION = [
    "name", "protocol", "norm", "surface", "eps", "attacks", "loss", "rule", "encoder", "estimator", "images",
    "batch_size", "tier",
]  # fmt: skip
"""The keys of an evaluation, whatever its protocol, as every configuration beside results has them."""
PARTS = {
    "data": "data", "model": "models", "neuron": "neurons", "rule": "rules", "encoder": "encoders",
    "defence": "defences", "training_attack": "attacks",
}  # fmt: skip


def names_of(kind: Any) -> list[str]:
    return [f.name for f in fields(kind)]


@pytest.mark.parametrize(
    ("tree", "valid"),
    [
        ({"wat": 1}, names_of(CellConfig)),
        ({"recipe": {"wat": 1}}, names_of(Recipe)),
        ({"gradients": {"wat": 1}}, names_of(Gradients)),
        ({"headline": {"wat": 1}}, names_of(Headline)),
        ({"evaluations": [{"name": "fine"}, {"wat": 1}]}, EVALUATION),
        ({"model": {"name": "small_sew_resnet", "wat": 1}}, ["connect='ADD'", "pool='max'", "width=16"]),
        ({"evaluations": [{"attacks": {"a": {"name": "pgd", "wat": 1}}}]}, ["steps=20", "restarts=1"]),
        ({"evaluations": [{"rule": {"name": "atan", "wat": 1}}]}, ["alpha=2.0"]),
        ({"training_threat": {"name": "linf", "eps": 0.1, "wat": 1}}, []),
    ],
)
def test_an_unknown_key_is_refused_at_every_level(tree: dict[str, Any], valid: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        cell_from(tree)
    assert "'wat'" in str(error.value)
    said = str(error.value).partition("valid: ")[2]
    assert said
    assert all(name in said for name in valid)


@pytest.mark.parametrize(
    "tree",
    [
        {"recipe": 3},
        {"recipe": ["adam"]},
        {"recipe": {"lr": "fast"}},
        {"recipe": {"lr": 0}},
        {"recipe": {"lr": float("nan")}},
        {"recipe": {"lr": float("inf")}},
        {"recipe": {"weight_decay": -1.0}},
        {"recipe": {"momentum": 1.5}},
        {"recipe": {"optimiser": "adamw"}},
        {"recipe": {"schedule": "step"}},
        {"recipe": {"select": "best"}},
        {"recipe": {"epochs": 0}},
        {"recipe": {"batch_size": 1}},
        {"recipe": {"validation_share": 0.0}},
        {"recipe": {"validation_share": 1.0}},
        {"steps": 0},
        {"steps": "many"},
        {"steps": True},
        {"seed": 1.5},
        {"data": 3},
        {"data": {"root": "x"}},
        {"train_images": 0},
        {"test_images": -1},
        {"model": {"width": 4}},
        {"model": {"name": "nowhere"}},
        {"neuron": {"name": "plif", "init_tau": 1.0}},
        {"neuron": {"name": "dlif", "steps": 3}, "steps": 4},
        {"defence": {"name": "sr", "base": {"name": "nowhere"}}},
        {"defence": {"name": "rat", "base": {"name": "trades", "beta": -1.0}}},
        {"training_threat": {"name": "linf"}},
        {"training_threat": {"eps": 0.1}},
        {"training_threat": {"name": "linf", "eps": -1}},
        {"gradients": {"images": 0}},
        {"gradients": {"scalars": ["wat"]}},
        {"evaluations": []},
        {"evaluations": {"name": "not a list"}},
        {"evaluations": [3]},
        {"evaluations": [{"name": "a"}, {"name": "a"}]},
        {"evaluations": [{"name": "a/b"}]},
        {"evaluations": [{"name": "../a"}]},
        {"evaluations": [{"name": ""}]},
        {"evaluations": [{"protocol": "theirs"}]},
        {"evaluations": [{"surface": "events"}]},
        {"evaluations": [{"norm": "l7"}]},
        {"evaluations": [{"loss": "nowhere"}]},
        {"evaluations": [{"attacks": {}}]},
        {"evaluations": [{"eps": []}]},
        {"evaluations": [{"eps": ["8/0"]}]},
        {"evaluations": [{"eps": ["eight"]}]},
        {"evaluations": [{"eps": [-0.1]}]},
        {"evaluations": [{"eps": [float("nan")]}]},
        {"evaluations": [{"eps": 0.1}]},
        {"evaluations": [{"images": 0}]},
        {"evaluations": [{"batch_size": 0}]},
        {"headline": {"evaluation": "nowhere"}},
        {"headline": {"eps": "7/255"}},
    ],
    ids=str,
)
def test_wrong_values_are_refused_before_any_work(tree: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^expected .*, got "):
        cell_from(tree)


def test_a_neuron_that_cannot_run_so_long_is_refused_whatever_its_option_is_called() -> None:
    """The neuron that is built is asked, not its options: one of a user's may call them as it likes."""
    cell_from(tiny(neuron={"name": "dlif", "steps": 4}, steps=4))
    cell_from(tiny(neuron={"name": f"{__name__}:Short"}, steps=2))
    for neuron in ({"name": "dlif", "steps": 3}, {"name": f"{__name__}:Short"}):
        with pytest.raises(UsageError, match="a neuron of 4 steps or more") as error:
            cell_from(tiny(neuron=neuron, steps=4))
        assert error.value.path == ("neuron",)


class Short(DLIF):
    """A user's neuron."""

    def __init__(self, beats: int = 2) -> None:
        super().__init__(steps=beats)


def test_what_is_given_is_not_changed() -> None:
    tree = tiny()
    before = copy.deepcopy(tree)
    cell_from(tree).resolved()
    assert tree == before


def every_cell() -> list[Any]:
    """The files of the shipped studies, of which the first cell is meant, and cells as they are written."""
    named = {path: next(load_study(path).combinations())[0] for path in SHIPPED}
    shipped = [pytest.param(path, id=f"{path.stem}-{name}") for path, name in named.items()]
    more = [
        {"evaluations": [{"name": "zero", "eps": [0, 1, "1", 1e-05, "1e-3", "0.050", "2/255"]}]},
        {"headline": {"eps": 0.1}, "evaluations": [{"eps": [0.2, 0.1]}], "training_threat": {"name": "l2", "eps": 1}},
        {"encoder": {"name": "poisson"}, "neuron": {"name": "plif"}, "defence": {"name": "sr", "weight": 2.0}},
        {"evaluations": [{"name": "p", "protocol": "panel"}]},
        {"evaluations": [{"name": "p", "protocol": "panel", "tier": "standard", "norm": "l2", "eps": ["1/2", 0.25],
                          "images": 20, "batch_size": 5, "rule": {"name": "triangle"}}, {"name": "q"}]},
    ]  # fmt: skip
    return [*shipped, pytest.param({}, id="defaults"), pytest.param(tiny(), id="tiny"), *more]


def resolved_of(written: dict[str, Any] | Path) -> dict[str, Any]:
    return (load_study(written).cells()[0] if isinstance(written, Path) else cell_from(written)).resolved()


@pytest.mark.parametrize("tree", every_cell())
def test_the_resolved_configuration_reads_back_to_itself(tree: dict[str, Any] | Path) -> None:
    resolved = resolved_of(tree)
    again = cell_from(yaml.safe_load(yaml.safe_dump(resolved)))
    assert again.resolved() == resolved
    assert cell_from(again.resolved()) == again
    assert json.loads(json.dumps(resolved)) == resolved


@pytest.mark.parametrize("tree", every_cell())
def test_the_resolved_configuration_writes_out_every_default(tree: dict[str, Any] | Path) -> None:
    resolved = resolved_of(tree)
    assert list(resolved) == [name for name in names_of(CellConfig) if name != "network"]  # of one's own
    assert list(resolved["recipe"]) == names_of(Recipe)
    assert list(resolved["gradients"]) == names_of(Gradients)
    assert None not in resolved["headline"].values()
    named = [(PARTS[field], resolved[field]) for field in PARTS]
    for evaluation in resolved["evaluations"]:
        assert list(evaluation) == EVALUATION
        assert {k for k, v in evaluation.items() if v is None} <= {"images", "tier"}
        assert (evaluation["tier"] is None) == (evaluation["protocol"] != "panel")
        named += [("rules", evaluation["rule"]), ("encoders", evaluation["encoder"])]
        for attack in evaluation["attacks"].values():
            own = attack.pop("using", {})
            named += [(f"{name}s", part) for name, part in own.items() if name != "loss"]
            named.append(("attacks", attack))
    for folder, part in named:
        options = inspect.signature(parts.find(folder, part["name"])).parameters
        given = {"models": ("in_channels", "classes", "neuron"), "estimators": ("rule",)}.get(folder, ())
        assert set(part) == {"name", *options} - set(given)


def evaluation_of(**written: Any) -> dict[str, Any]:
    (found,) = cell_from({"evaluations": [written]}).resolved()["evaluations"]
    return dict(found)


def test_the_paper_s_protocol_fills_in_its_own_settings_and_leaves_those_that_are_given() -> None:
    paper = evaluation_of(protocol="paper")
    assert paper["attacks"] == {n: parts.resolve("attacks", a) for n, a in PROTOCOL["attacks"].items()}
    assert {name: paper[name] for name in PROTOCOL if name != "attacks"} == {
        name: value for name, value in PROTOCOL.items() if name != "attacks"
    }
    assert evaluation_of(protocol="paper", eps=[0.5])["eps"] == ["0.5"]
    sound = evaluation_of()
    assert (sound["norm"], sound["surface"], sound["eps"], sound["batch_size"]) == ("linf", "pixels", ["8/255"], 64)
    assert list(sound["attacks"]) == ["fgsm", "pgd-20"]


def test_a_panel_brings_its_own_attacks_and_is_of_the_quick_tier_where_none_is_named() -> None:
    panel = evaluation_of(protocol="panel")
    assert [panel[n] for n in ("tier", "attacks", "norm", "surface", "eps")] == [
        "quick",
        {},
        "linf",
        "pixels",
        ["8/255"],
    ]
    assert evaluation_of(protocol="panel", tier="audit", batch_size=3)["tier"] == "audit"


def test_each_protocol_has_a_type_of_its_own_and_nothing_in_it_is_open() -> None:
    """None is an answer for the number of images alone."""
    kinds = {p: cell_from({"evaluations": [{"protocol": p}]}).evaluations[0] for p in ("pixels", "paper", "panel")}
    assert [type(one).__name__ for one in kinds.values()] == ["Pixels", "Paper", "Panel"]
    for protocol, one in kinds.items():
        assert one.protocol == protocol
        assert [name for name, value in vars(one).items() if value is None] == ["images"]
        assert hasattr(one, "attacks") == (protocol != "panel") != hasattr(one, "tier")


def test_a_budget_is_named_by_one_text_however_it_is_written() -> None:
    cell = cell_from({"evaluations": [{"eps": [0.1, "8/255", 1e-05, "0.050"]}], "headline": {"eps": "0.10"}})
    assert cell.evaluations[0].eps == ["0.1", "8/255", "1e-05", "0.05"]
    assert cell.headline == Headline("pixels", "0.1")


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({"tier": "quick"}, "a tier for protocol 'panel' and nothing else.*the other protocols have no tier"),
        ({"protocol": "paper", "tier": "quick"}, "got protocol paper, tier quick.*the other protocols have no tier"),
        ({"protocol": "panel", "attacks": {"f": {"name": "fgsm"}}}, r"attacks \['f'\].*a panel brings its own attacks"),
        ({"protocol": "panel", "encoder": {"name": "direct"}}, "encoder .*direct.*a panel brings its own attacks"),
        ({"protocol": "panel", "tier": "thorough"}, "a tier, got 'thorough'; valid: smoke, quick, standard, audit"),
        ({"protocol": "panel", "eps": []}, "one eps"),
        ({"protocol": "panel", "eps": ["8/255", 8 / 255]}, "different eps"),
        ({"protocol": "panel", "batch_size": 0}, "batch_size >= 1"),
    ],
    ids=str,
)
def test_a_panel_with_what_is_not_its_own_is_refused(evaluation: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){said}"):
        cell_from({"evaluations": [evaluation]})


def test_an_attacker_without_a_rule_of_its_own_has_that_of_training() -> None:
    resolved = cell_from(tiny(rule={"name": "triangle", "alpha": 3.0})).resolved()
    assert {e["rule"]["name"] for e in resolved["evaluations"]} == {"triangle"}
    assert {e["rule"]["alpha"] for e in resolved["evaluations"]} == {3.0}


def test_another_rule_has_its_own_defaults() -> None:
    own = parts.resolve("rules", {"name": "sigmoid"})
    assert cell_from({"rule": {"name": "sigmoid"}}).resolved()["rule"] == own


@pytest.mark.parametrize("options", [{"name": "l1", "share": 0.01}, {"name": "l1", "share": 0.9}, {"name": "l2"}])
def test_every_option_of_a_training_threat_is_in_the_key(options: dict[str, Any]) -> None:
    plain = cell_from({"training_threat": {"name": "l1", "eps": 5}}).resolved()
    other = cell_from({"training_threat": {**options, "eps": 5}}).resolved()
    assert other["training_threat"]["name"] == options["name"]
    assert other["training_threat"] != plain["training_threat"]
    assert cell_from(other).resolved() == other


# --- studies ---


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_study_is_valid_and_its_cells_have_different_names(path: Path) -> None:
    study = load_study(path)
    names = [cell.name for cell in study.cells()]
    assert len(set(names)) == len(names) >= 1
    assert study.title


def test_a_study_is_the_grid_of_its_axes_and_seeds() -> None:
    study = Study(
        title="grid",
        base=tiny(),
        axes={"pool": {"max": None, "avg": {"model.pool": "avg"}}, "lr": {"slow": {"recipe.lr": 0.001}, "fast": {}}},
        seeds=[3, 4],
    )
    cells = {cell.name: cell for cell in study.cells()}
    assert list(cells) == [f"{p}-{r}-s{s}" for p in ("max", "avg") for r in ("slow", "fast") for s in (3, 4)]
    one = cells["avg-slow-s4"]
    assert (one.model["pool"], one.model["width"], one.recipe.lr, one.seed) == ("avg", 4, 0.001, 4)
    assert cells["max-fast-s3"] == cell_from(tiny(name="max-fast-s3", seed=3))


def test_many_seeds_are_read_in_their_order_and_in_seconds(tmp_path: Path) -> None:
    """Where the parser looks at each entry, it copies the list for it: 10,000 took it a minute."""
    seeds = [*range(10_000, 0, -1)]
    (tmp_path / "many.yaml").write_text(f"title: t\nbase: {{}}\nseeds: {seeds}\n", encoding="utf-8")
    began = time.process_time()
    assert load_study(tmp_path / "many.yaml").seeds == seeds
    assert time.process_time() - began < 20


def test_the_cells_of_a_study_do_not_touch_one_another_or_the_base() -> None:
    base = tiny(data={"name": "digits"})
    before = copy.deepcopy(base)
    axes = {"a": {"one": {"gradients.images": 1, "recipe.epochs": 5}, "two": {}}}
    one, two = Study("t", base, axes).cells()
    assert (one.gradients.images, one.recipe.epochs) == (1, 5)
    assert (two.gradients.images, two.recipe.epochs) == (4, 2)
    assert base == before


@pytest.mark.parametrize("turn", [1, -1])
def test_another_name_of_a_part_drops_the_options_of_the_part_it_replaces(turn: int) -> None:
    overrides = dict([("encoder.name", "phase"), ("encoder.planes", 4), ("encoder.gradient", "straight")][::turn])
    base = tiny(encoder={"name": "latency"}) | {"name": "of the base"}
    (cell,) = Study("t", {**base, "rule": {"name": "atan", "alpha": 9.0}},
                    {"a": {"v": {**overrides, "rule.name": "triangle"}}}).cells()  # fmt: skip
    assert cell.encoder == parts.resolve("encoders", {"name": "phase", "planes": 4, "gradient": "straight"})
    assert cell.rule == parts.resolve("rules", {"name": "triangle"})
    assert cell.model == parts.resolve("models", base["model"])
    assert cell.name == "v"


def test_the_same_name_of_a_part_keeps_its_options() -> None:
    (cell,) = Study("t", tiny(), {"a": {"v": {"model.name": "small_sew_resnet", "model.pool": "avg"}}}).cells()
    assert cell.model == {"name": "small_sew_resnet", "connect": "ADD", "width": 4, "pool": "avg"}


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"a": {"good": {}, "bad": {"model.wat": 1}}}, "cell 'bad'.*'wat'.*width=16"),
        ({"a": {"bad": {"wat": 1}}}, "cell 'bad'.*'wat'.*valid: name, data"),
        ({"a": {"bad": {"steps.deep": 1}}}, "a mapping at 'steps'"),
        ({"a": {"bad": {"recipe.lr": "fast"}}}, "cell 'bad'.*recipe.lr"),
    ],
)
def test_a_wrong_override_names_the_cell(axes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){said}"):
        Study("t", tiny(), axes).cells()


@pytest.mark.parametrize(
    "text",
    [
        "title: t\nbase: {}\nwat: 3\n",
        "title: t\n",
        "base: {}\n",
        "just text\n",
        "- a\n- list\n",
        "",
        "title: [\n",
        "title: t\nbase: {}\nseeds: [a]\n",
        "title: t\nbase: {}\naxes: {a: {b: 3}}\n",
        "title: t\nbase: 3\n",
        b"\xff\xfe\x00\x01",
    ],
    ids=repr,
)
def test_a_file_that_is_no_study_is_refused_by_its_name(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=r"mine\.yaml"):
        load_study(path)


def test_a_study_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        load_study(tmp_path / "nowhere.yaml")
    with pytest.raises(UsageError, match=tmp_path.name):
        load_study(tmp_path)


# --- the line that is wrong ---

WRITTEN = """\
title: lines
base:
  data: {name: digits}
  model: {name: small_sew_resnet, width: 4}
  recipe:
    epochs: 1
    lr: 0.01
  evaluations:
    - name: pixels
      eps: [0.1]
      attacks:
        plain: {name: fgsm}
axes:
  pool:
    max: {model.pool: max}
    avg:
      model.pool: avg
      recipe.batch_size: 8
seeds: [0, 1]
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("width: 4", "width: wide", 4, "width"),
        ("width: 4", "width: 0", 4, "width >= 1"),
        ("width: 4", "wat: 4", 4, "'wat'"),
        ("name: small_sew_resnet", "name: nowhere", 4, "'nowhere'"),
        ("lr: 0.01", "lr: -1", 7, "lr > 0"),
        ("lr: 0.01", "lr: fast", 7, "recipe.lr"),
        ("    epochs: 1", "    epoch: 1", 6, "'epoch'"),
        ("eps: [0.1]", "eps: [8/0]", 9, "8/0"),
        ("plain: {name: fgsm}", "plain: {name: nowhere}", 12, "'nowhere'"),
        ("eps: [0.1]", "norm: l2\n      eps: [1]", 13, None),
        ("model.pool: avg", "model.pool: mean", 17, "cell 'avg-s0'.*mean"),
        ("recipe.batch_size: 8", "recipe.batch_size: 1", 18, "batch_size >= 2"),
        ("recipe.batch_size: 8", "wat.deep: 1", 18, "'wat'"),
        ("seeds: [0, 1]", "seeds: [0, -1]", 19, "a seed in"),
        ("seeds: [0, 1]", "seeds: [0, a]", 19, "seeds"),
        ("seeds: [0, 1]", "seed: [0]", 19, "'seed'"),
        ("    lr: 0.01", "    epochs: 2", 7, "'epochs' for the second time, after line 6"),
        ("    avg:", "    max:", 16, "'max' for the second time, after line 15"),
    ],
)
def test_what_is_wrong_in_a_study_is_named_by_its_line(
    tmp_path: Path, old: str, new: str, line: int, said: str | None
) -> None:
    text = WRITTEN.replace(old, new, 1)
    assert text != WRITTEN
    if said is None:  # an attack that cannot be under this norm
        text, said = text.replace("{name: fgsm}", "{name: square}"), "'plain' cannot be run: expected the Linf"
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=rf"(?s)(mine\.yaml:{line}: |line {line}: ).*{said}"):
        load_study(path).cells()


def test_what_is_right_in_a_study_is_no_one_s_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(WRITTEN, encoding="utf-8")
    names = [cell.name for cell in load_study(tmp_path / "mine.yaml").cells()]
    assert names == ["max-s0", "max-s1", "avg-s0", "avg-s1"]


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({"norm": "l2", "attacks": {"a": {"name": "square"}}}, "Linf threat on images"),
        ({"norm": "l2", "attacks": {"a": {"name": "sa_pgd"}}}, "use pgd or apgd"),
        ({"surface": "encoded", "attacks": {"a": {"name": "code_search"}}}, "Linf on encoded"),
        ({"loss": "dlr", "attacks": {"a": {"name": "fgsm"}}}, None),
        ({"attacks": {"a": {"name": "apgd", "targets": 1, "using": {"loss": "dlr"}}}}, None),
    ],
    ids=str,
)
def test_an_impossible_pair_is_refused_before_any_work(evaluation: dict[str, Any], said: str | None) -> None:
    if said is not None:
        with pytest.raises(UsageError, match=f"attack 'a' cannot be run.*{said}"):
            cell_from(tiny(evaluations=[evaluation]))
        return
    cell = cell_from(tiny(evaluations=[evaluation]))  # possible with ten classes
    with pytest.raises(UsageError, match=r"'a' cannot be run: expected at least [34] classes") as refused:
        rehearse(cell, in_channels=1, classes=2)
    assert refused.value.path == ("evaluations", 0, "attacks", "a")


def test_the_attack_of_training_is_rehearsed_too() -> None:
    with pytest.raises(UsageError, match="the training attack cannot be run") as refused:
        cell_from(tiny(training_attack={"name": "square"}, training_threat={"name": "l2", "eps": 1}))
    assert refused.value.path == ("training_attack",)
