"""One backward pass through the objective under one rule: what every white-box estimator stands on."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeproof.errors import CutGraph, Failed, SpikeproofError, Unfinite
from spikeproof.types import Objective, Rule, Score

__all__ = ["backward"]


def backward(f: Objective, x: Tensor, rule: Rule, salt: int) -> tuple[Score, Tensor]:
    """Score without graph, and the gradient (B,*) of each image's own loss at x (B,*) under `rule`.

    Raises SpikeproofError where the graph is cut between the loss and x, or a gradient is not finite.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        score = f(x, rule, salt)
        total = score.loss.sum()  # in here, or there is no way back under the caller's no_grad
    gradient = _passed(total, x) if total.requires_grad else None
    if gradient is None:
        raise CutGraph(
            "a loss that depends on the attacked input",
            "a cut graph: an encoder or a layer detaches its input",
            mend="use an encoder with a pixel gradient (spikeproof parts), or the surface 'encoded'",
        )
    if not bool(torch.isfinite(gradient).all()):
        raise Unfinite(
            "finite gradients",
            "NaN or infinity in the gradient of the attacked loss",
            mend="a NaN image never counts as broken: look at the rule's sharpness and the weights",
        )
    return Score(score.loss.detach(), score.fooled), gradient


def _passed(total: Tensor, x: Tensor) -> Tensor | None:
    """The gradient at x, None where the graph is cut; what a network's own backward raises becomes a refusal."""
    try:
        return torch.autograd.grad(total, x, allow_unused=True)[0]
    except (torch.OutOfMemoryError, MemoryError, SpikeproofError):
        raise
    except Exception as error:  # it is the network's
        got = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        mend = "call loss.backward() by hand on x.requires_grad_(); spikeproof.check names the module"
        raise Failed("a backward that runs", got, mend=mend) from error
