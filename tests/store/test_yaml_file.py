"""YAML from anywhere: what it says where it is small, and one sentence, soon, where it is not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeproof.errors import UsageError
from spikeproof.limits import TEXT_CHARACTERS, YAML_CHARACTERS, YAML_DEPTH
from spikeproof.store.store import Cell
from spikeproof.store.yaml_file import TooMuch, load_yaml, looked_through
from spikeproof.study.config.yaml_lines import read_yaml

Reader = Callable[[Path, str], Any]


def laughs(levels: int, each: int = 9) -> str:
    """Every line a list of `each` times the line before."""
    lines = [f"a0: &a0 [{', '.join(['x'] * each)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * each)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def merged(levels: int) -> str:
    """Mappings that merge the one before twice: quadratic, and worse, in PyYAML's own hands."""
    lines = ["m0: &m0 {x: 1}"]
    lines += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def aliases(times: int) -> str:
    """A list of a hundred characters, written out so many times, in a list."""
    return f"[&a [{', '.join('1' * 99)}], {', '.join(['*a'] * (times - 1))}]"


def chained(links: int) -> str:
    """Aliases that make a deep value of shallow ones."""
    lines = ["c0: &c0 [[[x]]]", *(f"c{n}: &c{n} [[[*c{n - 1}]]]" for n in range(1, links))]
    return "\n".join(lines) + "\n"


BOMBS = {
    "nested aliases": laughs(9),
    "nested aliases in keys": laughs(6) + "? [*a5, *a5]\n: 1\n",
    "merges": merged(9),
    "deep": "a: " + "[" * 500 + "]" * 500,
    "very deep": "[" * 90_000 + "]" * 90_000,
    "deep blocks": "".join(f"{' ' * n}a:\n" for n in range(400)),
    "deep through aliases": chained(60),
    "itself": "a: &a [*a]\n",
    "itself by two": "a: &a {b: &b [*a, *b]}\n",
    "large": "a: 'x'\n" * (YAML_CHARACTERS // 7 + 1),
    "endless": "x" * 50_000_000,
    "long text": f"a: {'x' * (TEXT_CHARACTERS + 1)}\n",
    "long number": f"a: {'9' * 100_000}\n",
    "long text by aliases": f"a: &a {'x' * 4000}\nb: [{', '.join(['*a'] * 60)}]\n",
    "no alias": "a: *nowhere\n",
    "no date": "a: 2001-99-99\n",
    "no number": "a: !!int twelve\n",
    "no truth": "a: !!bool perhaps\n",
    "code": "a: !!python/object/apply:os.getcwd []\n",
    "half a character": 'a: "\\ud800"\n',
}


@pytest.mark.parametrize("read", [load_yaml, read_yaml])
@pytest.mark.parametrize("name", BOMBS)
def test_what_is_too_much_or_no_yaml_is_one_sentence_within_a_second(tmp_path: Path, read: Reader, name: str) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(BOMBS[name], encoding="utf-8")
    started = time.process_time()
    with pytest.raises(UsageError, match=r"^expected a thing in YAML at .*bomb\.yaml, got ") as error:
        read(path, "a thing")
    assert time.process_time() - started < 1.0
    assert len(str(error.value)) < 1000


def test_the_configuration_of_a_stored_cell_is_read_with_the_same_care(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(laughs(9), encoding="utf-8")
    with pytest.raises(UsageError, match="every alias written out"):
        _ = Cell("key", tmp_path).config


@pytest.mark.parametrize(
    ("fits", "not_any_more"),
    [
        ("[" * YAML_DEPTH + "]" * YAML_DEPTH, "[" * (YAML_DEPTH + 1) + "]" * (YAML_DEPTH + 1)),
        ("x" * TEXT_CHARACTERS, "x" * (TEXT_CHARACTERS + 1)),
        (f"# {'x' * (YAML_CHARACTERS - 4)}\n1", f"# {'x' * (YAML_CHARACTERS - 3)}\n1"),
        (aliases(1999), aliases(2000)),
    ],
    ids=["depth", "text", "file", "aliases"],
)  # fmt: skip
def test_the_limits_are_those_that_are_said(fits: str, not_any_more: str) -> None:
    assert looked_through(fits) == fits
    with pytest.raises(TooMuch, match="more than"):
        looked_through(not_any_more)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=30,
)


@given(PLAIN, st.booleans())
@settings(deadline=None)
def test_whatever_is_small_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, value: Any, flow: bool
) -> None:
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_text(yaml.safe_dump([value, value], default_flow_style=flow, sort_keys=False), encoding="utf-8")
    for found in (load_yaml(path, "a thing"), read_yaml(path, "a thing")[0]):
        assert json.dumps(found) == json.dumps([value, value])


TAGS = (
    "",
    "!!int ",
    "!!float ",
    "!!bool ",
    "!!null ",
    "!!timestamp ",
    "!!binary ",
    "!!set ",
    "!!omap ",
    "!!str ",
    "!x ",
)


@given(st.sampled_from(TAGS), st.text("0123456789-:.eE+_xTZabn~[]{}, '\"&*", max_size=12))
@settings(deadline=None, max_examples=300)
def test_whatever_a_file_holds_there_is_a_value_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, tag: str, text: str
) -> None:
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_text(f"a: {tag}{text}\n", encoding="utf-8")
    for read in (load_yaml, read_yaml):
        with suppress(UsageError):
            read(path, "a thing")
