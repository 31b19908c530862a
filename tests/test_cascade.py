"""The greedy order of `benchmarks/cascade.py`, worked out by hand."""

from __future__ import annotations

from benchmarks.cascade import Run, greedy


def test_next_comes_what_breaks_most_of_those_left_for_a_pass() -> None:
    """'cheap' breaks one of two for 2 passes each, 'same' too, for more; 'dear' both for 10 each."""
    found = {
        "cheap": {"a": Run("cheap", "a", [True, False], [2, 2]), "b": Run("cheap", "b", [False], [2])},
        "dear": {"a": Run("dear", "a", [True, True], [10, 10])},
        "same": {"a": Run("same", "a", [True, False], [3, 4])},
        "idle": {"a": Run("idle", "a", [False, False], [0, 0]), "b": Run("idle", "b", [False], [0])},
    }
    assert list(greedy(found)) == [("cheap", 1, 3, 6), ("dear", 1, 2, 10)]


def test_it_ends_where_it_is_told_to() -> None:
    found = {name: {"a": Run(name, "a", [name == str(i) for i in range(5)], [1] * 5)} for name in "01234"}
    assert len(list(greedy(found))) == 5
    assert len(list(greedy(found, most=2))) == 2
    assert list(greedy({})) == []
