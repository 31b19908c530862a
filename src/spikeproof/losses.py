"""Attack losses: (logits (B,K), labels (B,)) -> (B,), larger is more adversarial, never reduced over the batch.

Each has a targeted form, (logits, labels, targets (B,)) -> (B,), found by `targeted`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.types import Loss

__all__ = ["cross_entropy", "cross_entropy_targeted", "difference", "dlr", "dlr_targeted", "margin", "targeted"]

_TIE = 1e-12  # the guard of Croce and Hein's DLR denominator; at or below it the ratio is noise


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(z)_y. In float32 it and its gradient are exactly 0 from a margin of about 17 on."""
    return F.cross_entropy(logits, labels, reduction="none")


def _own(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None])[:, 0]


def _best_other(logits: Tensor, labels: Tensor) -> Tensor:
    """max over j != y of z_j; masking by -inf, not by multiplication, which fails on negative logits."""
    return logits.scatter(1, labels[:, None], float("-inf")).amax(1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y (Carlini and Wagner 2017), unclamped; above 0 the image is misclassified."""
    return _best_other(logits, labels) - _own(logits, labels)


def _ratio(difference: Tensor, scale: Tensor) -> Tensor:
    """difference / scale, or the difference itself where the scale is a tie (spike counts tie often)."""
    tied = scale <= _TIE
    return torch.where(tied, difference, difference / torch.where(tied, 1.0, scale + _TIE))


def _at_least(logits: Tensor, classes: int, name: str) -> None:
    if logits.shape[1] < classes:
        raise SpikeproofError(f"at least {classes} classes for {name}", logits.shape[1], mend="use the margin loss")


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio, -(z_y - max_{j != y} z_j) / (z_(1) - z_(3)) (Croce and Hein 2020, AutoAttack).

    Needs 3 classes or more, else SpikeproofError. Where z_(1) = z_(3) it is the margin.
    """
    _at_least(logits, 3, "DLR")
    ranked = logits.sort(1, descending=True).values
    return _ratio(margin(logits, labels), ranked[:, 0] - ranked[:, 2])


def dlr_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2) (Croce and Hein 2020); targets (B,). Needs 4 classes or more."""
    _at_least(logits, 4, "targeted DLR")
    ranked = logits.sort(1, descending=True).values
    return _ratio(_own(logits, targets) - _own(logits, labels), ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2)


def cross_entropy_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """log softmax(z)_t; the label does not matter."""
    return -F.cross_entropy(logits, targets, reduction="none")


def difference(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """z_t - z_y: the margin towards one class."""
    return _own(logits, targets) - _own(logits, labels)


_TARGETED: dict[Loss, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    cross_entropy: cross_entropy_targeted,
    dlr: dlr_targeted,
    margin: difference,
}


def targeted(loss: Loss) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The targeted form of a loss; UsageError where it has none."""
    if loss not in _TARGETED:
        names = [known.__name__ for known in _TARGETED]
        raise UsageError("a loss with a targeted form, for a targeted attack", loss, valid=names)
    return _TARGETED[loss]
