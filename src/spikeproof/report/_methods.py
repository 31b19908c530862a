"""A paragraph of methods: what a cell's network is, what attacked it on which images, the result, every setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spikeproof.metrics.summaries import EvaluationSummary, PanelSummary
from spikeproof.metrics.verdict import NOT_EVALUATED, UNSETTLED
from spikeproof.report._data import data_words
from spikeproof.report._summary import Summary, interval
from spikeproof.report._tables import Entry, told
from spikeproof.report._text import MISSING, listed, with_interval
from spikeproof.report._trust import readings

__all__ = ["methods", "words_of"]

_SPLITS = ("train", "validation", "test")

_INTERVALS = (
    "Robust accuracy is the share of images that are right when clean and that no attack fooled, taken image by image; "
    "an attack that was not run can only lower it. Brackets are exact binomial 95 % intervals (Clopper and Pearson), "
    "over test images; the slack's end is one-sided, at 95 %."
)

_VERSIONS = ("spikeproof", "torch", "numpy", "python", "machine", "threads", "scan", "code", "date")


def methods(cell: Summary) -> str:
    """All of it, as plain text on one line."""
    panels = {(panel["evaluation"], panel["eps"]): panel for panel in cell.numbers["panels"]}
    said = [_network(cell), _data(cell)]
    for entry in cell.numbers["evaluations"]:
        said.append(_evaluation(cell, entry, panels.get((entry["evaluation"], entry["eps"]))))
    for panel in cell.numbers["panels"]:
        if not panel["attacked"]:
            said.append(
                f"Evaluation {panel['evaluation']} at eps {panel['eps_text']}, tier {panel['tier']}: {_verdict(panel)}."
            )
    if not cell.numbers["evaluations"] and not cell.numbers["panels"]:
        said.append("No attack was run.")
    return " ".join([*said, _INTERVALS, _made(cell), _settings(cell)])


def words_of(entry: Entry) -> str:
    """What an entry of the page's tables says, on one line."""
    beside = entry.small if entry.small.startswith("[") or not entry.small else f"({entry.small})"
    return f"{entry.main} {beside}".rstrip()


def _network(cell: Summary) -> str:
    if cell.config.get("network"):
        return _own(cell)
    coding = f"{_part(cell.config.get('encoder'))} coding over T = {cell.setting('steps')} steps"
    built = (
        f"{cell.name} is {_part(cell.config.get('model'))} with {_part(cell.config.get('neuron'))} neurons, {coding}"
    )
    if cell.setting("weights") is not None:
        return f"{built}, with given weights ({cell.setting('weights')})."
    epochs, best = cell.setting("recipe", "epochs"), cell.provenance.get("best_epoch")
    chosen = "" if best is None else f", of which the weights of epoch {best} are taken"
    return (
        f"{built}, trained with {_part(cell.config.get('defence'))} for {epochs} epochs{chosen}, under the surrogate "
        f"{_part(cell.config.get('rule'))}, seed {cell.setting('seed')}."
    )


def _own(cell: Summary) -> str:
    """A network that was made and trained elsewhere."""
    seen: Mapping[str, Any] = cell.provenance.get("network") or {}
    frameworks = [f"{name} {version}" for name, version in (seen.get("frameworks") or {}).items()]
    steps = cell.setting("steps")
    coding = "makes its own time" if steps is None else (
        f"gets {_part(cell.config.get('encoder'))} coding over T = {steps} steps, fed as {seen.get('feed')}"
    )  # fmt: skip
    rule = cell.config.get("rule")
    return (
        f"{cell.name} is a network that was made and trained elsewhere, a {seen.get('class')}"
        + (f" of {listed(frameworks)}" if frameworks else "")
        + f" from {cell.setting('network', 'make')}, weights of digest {seen.get('weights')}, in eval mode; it {coding}"
        f"; attacked under {seen.get('rule') if rule is None else _part(rule)}, seed {cell.setting('seed')}."
        + "".join(f" Note: {note}." for note in seen.get("notes") or ())
    )


def _data(cell: Summary) -> str:
    counts = {split: cell.clean(split) for split in _SPLITS}
    seen = [f"{found.total:,} {split}" for split, found in counts.items() if found is not None]
    return (
        f"Data: {_part(cell.config.get('data'))}, {listed(seen) or 'no'} images; clean test accuracy "
        f"{with_interval(cell.clean('test'))}. {'. '.join(data_words(cell))}."
    )


def _evaluation(cell: Summary, entry: EvaluationSummary, panel: PanelSummary | None) -> str:
    worst = told(entry, "robust")
    bound = " (an upper bound)" if entry["verdict"] == UNSETTLED else ""
    ran = list(entry["attacks"]) if panel is None else [stage["attack"] for stage in panel["stages"]]
    tier = "" if panel is None else f"tier {panel['tier']}: "
    costs = f"{entry['worst']['forwards']:,} forwards and {entry['worst']['backwards']:,} backwards"
    result = NOT_EVALUATED if entry["verdict"] == NOT_EVALUATED else f"{words_of(worst)}{bound}"
    return (
        f"Evaluation {entry['evaluation']} (protocol {entry['protocol']}), {entry['norm']} on {entry['surface']}, "
        f"eps {entry['eps_text']}, {tier}{listed(ran)}; {costs}, on {entry['images']:,} test images, of which "
        f"{with_interval(interval(entry['clean']))} are right when clean. Robust accuracy: {result}"
        + ("." if panel is None else f"; verdict {_verdict(panel)}.")
    )


def _verdict(panel: PanelSummary) -> str:
    gap, power, slack = map(words_of, readings(panel))
    audits = [f"{len(panel['green'])} audits green", f"red: {', '.join(panel['red']) or 'none'}"]
    attacked = "" if panel["attacked"] else "; no attack was run"
    absent = f"; not run: {', '.join(panel['absent'])}" if panel["absent"] else ""
    return (
        f"{panel['verdict']} (gap to the plain attack {gap}, power {power}, slack {slack}; {'; '.join(audits)}{absent}"
        f"{attacked})"
    )


def _made(cell: Summary) -> str:
    known: Mapping[str, Any] = cell.provenance
    versions = [f"{name} {known[name]}" for name in _VERSIONS if known.get(name) is not None]
    data = [f"{split} {digest}" for split, digest in (known.get("data") or {}).items()]
    return f"Made with {', '.join(versions)}; digests of the data: {', '.join(data) or MISSING}; cell {cell.key}."


def _settings(cell: Summary) -> str:
    return f"Every setting: {'; '.join(f'{name} = {value}' for name, value in _leaves(cell.config))}."


def _leaves(tree: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Every setting by its dotted name."""
    if isinstance(tree, Mapping) and tree:
        for name, value in tree.items():
            yield from _leaves(value, f"{at}.{name}" if at else str(name))
    elif isinstance(tree, list) and any(isinstance(one, Mapping) for one in tree):
        for number, value in enumerate(tree):
            yield from _leaves(value, f"{at}.{number}")
    else:
        yield at, ", ".join(map(str, tree)) if isinstance(tree, list) else str(tree)


def _part(spec: Any) -> str:
    """A part with its options, and what it stands on."""
    if not isinstance(spec, Mapping):
        return MISSING
    options = [
        f"{name} {_part(value) if isinstance(value, Mapping) else value}"
        for name, value in spec.items()
        if name != "name"
    ]
    return f"{spec.get('name')}" + (f" ({', '.join(options)})" if options else "")
