"""The schema of an entry: every word in it is understood, and a value that does not fit is named by its field."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeproof.board._schema import Fault, fault, schema

WORDS = {
    "$schema", "$id", "$defs", "$ref", "title", "description", "type", "const", "enum", "required", "properties",
    "additionalProperties", "items", "minItems", "maxItems", "minimum", "maximum", "minLength", "maxLength", "pattern",
    "anyOf",
}  # fmt: skip


def rules(of: Any, inside: str = "") -> list[dict[str, Any]]:
    """Every schema inside a schema."""
    if isinstance(of, list):
        return [one for item in of for one in rules(item)]
    if not isinstance(of, dict):
        return []
    here = [] if inside in ("properties", "$defs") else [of]
    return here + [one for name, value in of.items() for one in rules(value, name if here else "")]


def test_the_schema_uses_no_other_words_and_closes_every_object() -> None:
    for rule in rules(schema()):
        assert rule.keys() <= WORDS
        if "properties" in rule:
            assert (sorted(rule["required"]), rule["additionalProperties"]) == (sorted(rule["properties"]), False)
        if "$ref" in rule:
            assert rule["$ref"].removeprefix("#/$defs/") in schema()["$defs"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a tree but those in the configuration, which is anybody's."""
    if path[:1] == ("config",) and len(path) > 1:
        return []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, one in inner for place in places(one, (*path, name)))]


def test_a_value_of_another_kind_is_found_wherever_it_stands(tree: dict[str, Any]) -> None:
    assert fault(tree, schema()) is None
    for place in places(tree)[1:]:
        changed = copy.deepcopy(tree)
        holder = changed
        for name in place[:-1]:
            holder = holder[name]
        holder[place[-1]] = [{"no": "such"}]
        found = fault(changed, schema())
        said = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in place).lstrip(".")
        assert found is not None
        assert found.field.startswith(said), (place, found)


def test_a_missing_and_an_unknown_field_are_found(tree: dict[str, Any]) -> None:
    for section in ("identity", "network", "data", "threat", "result", "readings", "cost", "files", "outcomes"):
        for name in tree[section]:
            without = {**tree, section: {k: v for k, v in tree[section].items() if k != name}}
            assert fault(without, schema()) == Fault(section, f"no {name}")
        more = {**tree, section: {**tree[section], "more": 1}}
        assert fault(more, schema()) == Fault(section, "an unknown field 'more'")


@pytest.mark.parametrize(
    ("link", "fits"),
    [
        ("https://example.org/a?b=c#d", True), ("http://example.org", False), ("javascript:alert(1)", False),
        ('https://example.org/"onclick=x', False), ("https://example.org/<b>", False), ("https://a b", False),
        ("https://example.org\n", False), ("https://example.org/\u202egnp", False),
    ],
)  # fmt: skip
def test_a_link_is_plain(tree: dict[str, Any], link: str, fits: bool) -> None:
    tree["identity"]["link"] = link
    assert (fault(tree, schema()) is None) == fits


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", ".hidden", "a/b", "a\\b", "", "a\n"])
def test_a_file_lies_beside_the_entry(tree: dict[str, Any], name: str) -> None:
    tree["files"]["weights"]["file"] = name
    found = fault(tree, schema())
    assert found is not None
    assert found.field == "files.weights.file"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["object", "array", "string", "boolean", "integer", "number", "null"]),
        "minimum": st.integers(-2, 2), "maximum": st.integers(-2, 2), "minLength": st.integers(0, 3),
        "maxItems": st.integers(0, 2), "enum": st.lists(st.integers(0, 2) | st.text("ab", max_size=1), min_size=1),
    },
)  # fmt: skip

KINDS: dict[type, set[str]] = {
    dict: {"object"}, list: {"array"}, str: {"string"}, bool: {"boolean"}, int: {"integer", "number"},
    float: {"number"}, type(None): {"null"},
}  # fmt: skip


def plain(value: Any, rule: dict[str, Any]) -> bool:
    """The words of the specification one by one, in plain sight."""
    kind = type(value)
    number, wrong = kind in (int, float), False
    wrong |= "type" in rule and rule["type"] not in KINDS[kind]
    wrong |= "minimum" in rule and number and value < rule["minimum"]
    wrong |= "maximum" in rule and number and value > rule["maximum"]
    wrong |= "minLength" in rule and kind is str and len(value) < rule["minLength"]
    wrong |= "maxItems" in rule and kind is list and len(value) > rule["maxItems"]
    wrong |= "enum" in rule and json.dumps(value) not in [json.dumps(one) for one in rule["enum"]]
    return not wrong


@settings(max_examples=40)
@given(value=ANYTHING, rule=RULES, other=RULES)
def test_rules_decide_as_the_specification_says(value: Any, rule: dict[str, Any], other: dict[str, Any]) -> None:
    assert (fault(value, rule) is None) == plain(value, rule)
    assert (fault(value, {"anyOf": [rule, other]}) is None) == (plain(value, rule) or plain(value, other))
    inside = {"type": "object", "required": ["a"], "properties": {"a": {"items": rule}}, "additionalProperties": False}
    assert (fault({"a": [value]}, inside) is None) == plain(value, rule)
