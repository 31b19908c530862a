"""What a configuration names, made: threats and the cases of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spikeproof import parts
from spikeproof.errors import UsageError, within
from spikeproof.evaluation.judge import Case
from spikeproof.rules.atan import ATan
from spikeproof.study.config.schema import Attacked, Part
from spikeproof.types import Rule, Threat

__all__ = ["USING", "cases_of", "rule_of", "threats_of", "training_threat", "using_of"]

USING = {"loss": "losses", "rule": "rules", "encoder": "encoders", "estimator": "estimators"}
"""What an attack may have of its own, and where each is found."""


def threats_of(spec: Mapping[str, Any], eps: Iterable[float | str], surface: str) -> dict[str, Threat]:
    """One threat per budget, by the text of its eps."""
    options = {k: v for k, v in spec.items() if k != "eps"}
    return {str(e): parts.build("threats", options, eps=e, surface=surface) for e in eps}


def training_threat(spec: Mapping[str, Any]) -> Threat:
    """The ball, on pixels, that a defence trains in."""
    (threat,) = threats_of(spec, [spec["eps"]], "pixels").values()
    return threat


def using_of(name: str, attack: Part) -> dict[str, Any]:
    """What one attack has of its own. Raises UsageError for what no attack has."""
    own = attack.get("using", {})
    if not isinstance(own, Mapping) or not own.keys() <= USING.keys():
        raise UsageError(f"what attack {name!r} is 'using'", own, valid=USING)
    return dict(own)


def rule_of(spec: Part | None, own: Rule | None = None) -> Rule:
    """The rule that a configuration names; where it names none, the network's own, else ATan 2 as `evaluate` has it."""
    if spec is None:
        return own or ATan()
    rule: Rule = parts.build("rules", spec)
    return rule


def cases_of(evaluation: Attacked, encoder: Part, own: Rule | None = None) -> dict[str, Case]:
    """The cases of an evaluation by name; encoder, own: the network's own, and its rule. Raises UsageError for a wrong
    part."""
    return {name: _case(name, attack, evaluation, encoder, own) for name, attack in evaluation.attacks.items()}


def _case(name: str, attack: Part, e: Attacked, encoder: Part, own: Rule | None) -> Case:
    with within("attacks", name):
        usual = {"loss": e.loss, "rule": e.rule, "encoder": e.encoder, "estimator": e.estimator}
        using = {**usual, **using_of(name, attack)}
        return Case(
            attack=parts.build("attacks", {k: v for k, v in attack.items() if k != "using"}),
            estimator=parts.build("estimators", using["estimator"], rule=rule_of(using["rule"], own)),
            loss=parts.build("losses", {"name": using["loss"]}),
            # The network's own is not held against itself image by image.
            encoder=None if using["encoder"] == encoder else parts.build("encoders", using["encoder"]),
        )
