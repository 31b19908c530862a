"""The card beside a trained network: what it is, how robust it was found, and by what."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["card"]


def _percent(interval: dict[str, Any] | None) -> str:
    if interval is None:
        return "not measured"
    low, high = 100 * interval["low"], 100 * interval["high"]
    return f"{100 * interval['share']:.1f} % (95 % interval {low:.1f} to {high:.1f}, n = {interval['total']})"


def card(config: dict[str, Any], summary: dict[str, Any]) -> str:
    """A README.md for a cell's folder, from its resolved configuration and its summary."""
    results, provenance = summary["results"], summary["provenance"]
    lines = [
        "---",
        f"datasets: [{config['data']['name']}]",
        "tags: [spiking-neural-network, adversarial-robustness]",
        "library_name: spikeproof",
        "---",
        f"# {config['name']}",
        "",
        f"{config['model']['name']} with {config['neuron']['name']} neurons, {config['encoder']['name']} coding over "
        f"{config['steps']} steps, "
        + (
            f"weights from {config['weights']}."
            if config["weights"]
            else f"training: {config['defence']['name']}, seed {config['seed']}."
        ),
        "",
        f"Clean test accuracy: {_percent(results['clean'].get('test'))}.",
        "",
        "| evaluation | protocol | surface | norm | eps | worst case over the attacks |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {e['evaluation']} | {e['protocol']} | {e['surface']} | {e['norm']} | {e['eps_text']} | "
            f"{_percent(e['worst']['robust'])} |"
            for e in results["evaluations"]
        ),
        "",
        "Under an attack that was not run the number can only fall: it is an upper bound. Do not deploy on its word.",
        "The paper's protocol perturbs the encoded tensor: its eps is not an eps in pixels.",
        "",
        "Examine it again with `spikeproof evaluate --config config.yaml --weights model.safetensors`.",
        "",
        "```yaml",
        yaml.safe_dump(provenance, sort_keys=False).rstrip(),
        "```",
    ]
    return "\n".join(lines) + "\n"
