"""The card beside a trained network: what it is, how robust it was found, and by what."""

from __future__ import annotations

from typing import Any

import yaml

from spikeproof.data_facts import NOT_RECORDED, words_of_data
from spikeproof.metrics.summaries import EvaluationSummary, PanelSummary, RobustnessSummary, Share
from spikeproof.metrics.verdict import NOT_EVALUATED, UNSETTLED
from spikeproof.store.summary import Written

__all__ = ["card"]


def _percent(interval: Share | None) -> str:
    if interval is None:
        return "not measured"
    low, high = 100 * interval["low"], 100 * interval["high"]
    return f"{100 * interval['share']:.1f} % (95 % interval {low:.1f} to {high:.1f}, n = {interval['total']})"


def _worst(entry: EvaluationSummary) -> str:
    """The worst case of one evaluation, as far as the verdict on its panel lets it be said."""
    if entry["verdict"] == NOT_EVALUATED:
        return NOT_EVALUATED
    found = _percent(entry["worst"]["robust"])
    return f"at most {found}, {UNSETTLED}" if entry["verdict"] == UNSETTLED else found


def _rows(results: RobustnessSummary) -> list[str]:
    """Every evaluation and eps as a row of the table; panels whose attacks were not run have no surface and norm."""
    rows = [
        f"| {e['evaluation']} | {e['protocol']} | {e['surface']} | {e['norm']} | {e['eps_text']} | {_worst(e)} |"
        for e in results["evaluations"]
    ]
    unattacked = [panel for panel in results["panels"] if not panel["attacked"]]
    return rows + [f"| {p['evaluation']} | panel | - | - | {p['eps_text']} | {p['verdict']} |" for p in unattacked]


def _verdicts(panels: list[PanelSummary]) -> list[str]:
    """The verdict on every panel, with the audits that are red and those that were not run."""
    if not panels:
        return []
    return ["Can the number be trusted? What the audits of the attacks say:", "", *map(_verdict, panels), ""]


def _verdict(panel: PanelSummary) -> str:
    named = {
        colour: [f"{audit['code']} {audit['name']}" for audit in panel["audits"] if audit["colour"] == colour]
        for colour in ("red", "not run")
    }
    said = [f"{colour}: {', '.join(audits)}" for colour, audits in named.items() if audits]
    attacked = [] if panel["attacked"] else ["no attack was run"]
    where = f"{panel['evaluation']}, eps {panel['eps_text']}, tier {panel['tier']}"
    return f"- {where}: **{panel['verdict']}** ({'; '.join([*said, *attacked]) or 'no audit is red'})."


def _twin(results: RobustnessSummary) -> list[str]:
    found = results["twin_differs"]
    if found is None:
        return []
    share = f"{100 * found['share']:.2f} % of {found['total']} proposed points"
    return [f"The frozen twin that attacks were crafted on answers otherwise than this network to {share}.", ""]


def _trained(config: dict[str, Any]) -> str:
    """What a network that is built here is."""
    return (
        f"{config['model']['name']} with {config['neuron']['name']} neurons, {config['encoder']['name']} coding over "
        f"{config['steps']} steps, "
        + (
            f"weights from {config['weights']}."
            if config["weights"]
            else f"training: {config['defence']['name']}, seed {config['seed']}."
        )
    )


def _own(config: dict[str, Any], summary: Written) -> str:
    """Whose a network is that was made elsewhere, its weights, and how it was wrapped."""
    network, seen = config["network"], summary["provenance"]["network"]
    coded = "it makes its own time" if config["steps"] is None else (
        f"{config['encoder']['name']} coding over {config['steps']} steps, fed as {seen['feed']!r}"
    )  # fmt: skip
    read = "" if network["readout"] is None else f", logits by `{network['readout']}`"
    rule = f"attacked under {seen['rule']}" if config["rule"] is None else f"attacked under {config['rule']['name']}"
    versions = ", ".join(f"{name} {version}" for name, version in seen["frameworks"].items())
    return (
        f"A network that was made and trained elsewhere: `{network['make']}` makes a {seen['class']}"
        + (f" ({versions})" if versions else "")
        + f"; weights: {seen['loaded'] or 'those that it is made with'}, digest {seen['weights']}. "
        f"In eval mode; {coded}{read}, logits within {network['tolerance']:g} of its own; {rule}."
        + "".join(f"\n- {note}" for note in seen["notes"])
    )


def _samples(summary: Written) -> list[str]:
    """What data it was trained and tested on, a line for each split."""
    found = summary["provenance"].get("samples", {})
    lines = [f"- {words_of_data(facts, split)}." for split, facts in found.items()]
    return ["Data, without which its numbers compare with no others:", "", *(lines or [f"- {NOT_RECORDED}."]), ""]


def card(config: dict[str, Any], summary: Written) -> str:
    """A README.md for a cell's folder, from its resolved configuration and its summary."""
    results = summary["results"]
    lines = [
        "---",
        f"datasets: [{config['data']['name']}]",
        "tags: [spiking-neural-network, adversarial-robustness]",
        "library_name: spikeproof",
        "---",
        f"# {config['name']}",
        "",
        _own(config, summary) if "network" in config else _trained(config),
        "",
        *_samples(summary),
        f"Clean test accuracy: {_percent(results['clean'].get('test'))}.",
        "",
        "| evaluation | protocol | surface | norm | eps | worst case over the attacks |",
        "| --- | --- | --- | --- | --- | --- |",
        *_rows(results),
        "",
        *_verdicts(results["panels"]),
        *_twin(results),
        "Under an attack that was not run the number can only fall: it is an upper bound. Do not deploy on its word.",
        "The paper's protocol perturbs the encoded tensor: its eps is not an eps in pixels.",
        "",
        "Examine it again with `spikeproof evaluate --config config.yaml --weights model.safetensors`.",
        "",
        "```yaml",
        yaml.safe_dump(summary["provenance"], sort_keys=False).rstrip(),
        "```",
    ]
    return "\n".join(lines) + "\n"
