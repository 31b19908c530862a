"""An entry of a board made by hand, whose numbers are seen at a glance."""

from __future__ import annotations

import copy
from typing import Any

from spikeproof.metrics.robustness import clopper_pearson

__all__ = ["audit", "by_hand", "share"]


def share(correct: int, total: int = 8) -> dict[str, Any]:
    return clopper_pearson(correct, total)._asdict()


def audit(code: str, colour: str = "green") -> dict[str, Any]:
    return {"code": code, "name": "some", "colour": colour, "breaks": "unsettled", "value": 1.0, "limit": 0.5, "n": 8,
            "says": "fine"}  # fmt: skip


def attack(name: str, newly: int) -> dict[str, Any]:
    return {"attack": name, "group": "first", "attacked": 7, "broken": newly, "newly_broken": newly, "forwards": 70,
            "backwards": 70}  # fmt: skip


def by_hand(name: str = "a network", key: str = "0123456789abcdef") -> dict[str, Any]:
    """Eight images: the last is wrong when clean, two fall to PGD, one to corners, four stand."""
    outcomes = {
        "ids": [10, 11, 12, 13, 14, 15, 16, 17],
        "labels": [0, 1, 2, 3, 4, 5, 6, 7],
        "predicted": [0, 1, 2, 3, 4, 5, 6, 0],
        "fallen": [0, 0, 1, -1, -1, -1, -1, -1],
    }
    result = {"clean": share(7), "worst": share(4), "verdict": "supported"}
    return {
        "schema": "spikeproof-entry-1",
        "identity": {
            "name": name, "key": key, "code": "0" * 16, "spikeproof": "0.2.0", "date": "2026-11-28",
            # Of the text {"fallen":[...],"ids":[...],...}, worked out by the command line's sha256sum.
            "outcomes": "75088f48627db4659262de12445d7fe23c121f9f68569b18393e5708e3a8008e", "by": None, "link": None,
        },
        "network": {
            "architecture": "small_sew_resnet", "neuron": "if", "rule": "atan (alpha 2.0)", "encoder": "direct",
            "random": False, "steps": 3, "defence": "vanilla", "parameters": 1000, "synaptic_operations": None,
        },
        "data": {"name": "digits", "split": "test", "digest": "0" * 16, "images": 8},
        "threat": {
            "evaluation": "panel", "tier": "quick", "surface": "pixels", "norm": "Linf", "eps": 0.1, "eps_text": "0.1",
        },
        "result": result,
        "seeds": [{"seed": 0, "key": key, **copy.deepcopy(result)}],
        "readings": {"gap": share(1), "power": share(8), "slack": {"expected": 0.1, "high": 0.25}},
        "attacks": [attack("pgd-20", 2), attack("corners-20", 1)],
        "audits": [audit("D21"), audit("D22")],
        "cost": {"forwards": 140, "backwards": 140, "evaluate_seconds": 1.5, "train_seconds": None, "machine": "some"},
        "reported": None,
        "files": {"weights": {"file": None, "sha256": "0" * 64, "bytes": None}, "inputs": None},
        "lowered": [],
        "config": {"name": name, "evaluations": [{"name": "panel", "eps": ["0.1"]}]},
        "outcomes": outcomes,
    }  # fmt: skip
