"""The victim: an encoder, a number of steps and a body, as one classifier of pixels.

The encoder sits inside, so that a threat on pixels goes through it; the rule is an argument of every call.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.layers.copies import copied
from spikeproof.layers.pooling import with_pooling
from spikeproof.native import heed_neighbours
from spikeproof.types import Encoder, Estimator, Framed, Rule

__all__ = ["Body", "Victim", "borrowed"]


class Body(Protocol):
    """A network behind an encoder; also an nn.Module."""

    in_channels: int
    classes: int

    def classify(self, z: Tensor, rule: Rule) -> Tensor: ...


def _own(body: nn.Module) -> Body:
    return cast(Body, body)  # what torch's type of a module does not know


class Victim(nn.Module):
    """encode(x, keys) -> z (T,B,C,H,W); classify(z, rule) -> logits (B,K); calling it does both.

    It keeps nothing between calls. `eval()` and `train()` only choose the batch-norm statistics.
    """

    def __init__(self, body: nn.Module, encoder: Encoder, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise UsageError("steps >= 1", steps)
        self.body = body
        self.encoder = encoder
        self.steps = steps

    @property
    def in_channels(self) -> int:
        return int(_own(self.body).in_channels)

    @property
    def classes(self) -> int:
        return int(_own(self.body).classes)

    @property
    def stochastic(self) -> bool:
        """Whether two calls with different keys may give different logits."""
        return self.encoder.stochastic

    @property
    def takes(self) -> str:
        """The axes of one image in order: 'CHW', or what the encoder says."""
        return _takes(self.encoder)

    @property
    def rule(self) -> Rule | None:
        """That of training, where the network brings one; None where it does not say."""
        return None

    def supports(self, estimator: Estimator) -> bool:
        """Whether an estimator, with its rules, can be used on this network."""
        return True

    @property
    def differentiable(self) -> bool:
        """Whether it has a gradient at all; a wrapped bare callable can only be asked."""
        return True

    @property
    def one_gradient(self) -> bool:
        """Whether every rule gives the same gradient: a wrapped network in which no neuron is known."""
        return False

    def unfinite(self, x: Tensor, rule: Rule, keys: Tensor) -> str:
        """Where the gradient at images (B,*) becomes NaN or infinite, in words; '' where that is not known."""
        return ""

    def encode(self, x: Tensor, keys: Tensor) -> Tensor:
        """Images (B,*) in [0,1], of the axes that it `takes` -> (T,B,C,H,W). Raises SpikeproofError for others."""
        self._check(x)
        return self.encoder(x, self.steps, keys)

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        """(T,B,C,H,W) -> logits (B,K), pre-softmax."""
        return _own(self.body).classify(z, rule)

    def forward(self, x: Tensor, rule: Rule, keys: Tensor) -> Tensor:
        if x.device.type == "cpu":  # at every scan too, but a network of others' layers may have none
            heed_neighbours()
        return self.classify(self.encode(x, keys), rule)

    def attacked_through(self, encoder: Encoder | None = None, pooling: str | None = None) -> Victim:
        """The same network with another gradient, on the same weights and buffers; None leaves a part as it is.

        encoder: one of the same forward; `encode` holds the two together, and raises SpikeproofError at the first image
        that shows a difference. pooling: the backward of every nn.MaxPool2d, 'tie_spread' or 'avg' (see pooling.py).
        """
        body = self.body if pooling is None else with_pooling(self.body, pooling)
        attacker = self.encoder if encoder is None else _checked(self.encoder, encoder)
        return type(self)(body, attacker, self.steps).train(self.training)

    def _check(self, x: Tensor) -> None:
        takes = self.takes
        if x.dim() != 1 + len(takes) or x.shape[1 + takes.index("C")] != self.in_channels:
            axes = ",".join(str(self.in_channels) if axis == "C" else axis for axis in takes)
            second = "channels second" if takes == "CHW" else f"then {takes}"
            mend = f"batch first, {second}; a model of other channels is built by in_channels"
            raise SpikeproofError(f"images of shape (B,{axes})", f"shape {tuple(x.shape)}", mend=mend)
        if not x.is_floating_point():
            raise SpikeproofError("floating-point pixels in [0,1]", x.dtype, mend="x.float() / 255")
        low, high = (float(v) for v in torch.aminmax(x.detach())) if x.numel() else (0.0, 1.0)
        # Written so that NaN, which aminmax passes on, fails the test.
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            raise SpikeproofError(
                "pixels in [0,1]",
                f"values from {low:.6g} to {high:.6g}",
                mend="divide by 255; normalisation belongs inside the model; look for NaN in the data",
            )


def _takes(encoder: Encoder) -> str:
    return cast(str, getattr(encoder, "takes", "CHW"))  # in every call: to ask whether it is `Shaped` takes far longer


class _Checked:
    """The attacker's encoder, compared with the deployed one bit by bit in every call."""

    def __init__(self, deployed: Encoder, attacker: Encoder) -> None:
        self.deployed, self.attacker = deployed, attacker

    @property
    def stochastic(self) -> bool:
        return self.deployed.stochastic

    @property
    def takes(self) -> str:
        return _takes(self.deployed)

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        return self._held(self.attacker(x, steps, keys), self.deployed(x.detach(), steps, keys))

    def _held(self, z: Tensor, deployed: Tensor) -> Tensor:
        if not torch.equal(z.detach(), deployed):
            raise SpikeproofError(
                f"an attacker's encoder with the forward of {self.deployed}",
                f"another one, {self.attacker}",
                mend="change only its gradient options",
            )
        return z


class _CheckedFrames(_Checked):
    """The same for two encoders that say which of their frames differ."""

    def frames(self, x: Tensor, steps: int, keys: Tensor) -> tuple[Tensor, Tensor]:
        both: tuple[Any, Any] = (self.attacker, self.deployed)
        (z, order), (deployed, _) = (encoder.frames(x, steps, keys) for encoder in both)
        return self._held(z, deployed), order


def _checked(deployed: Encoder, attacker: Encoder) -> _Checked:
    framed = isinstance(deployed, Framed) and isinstance(attacker, Framed) and type(deployed) is type(attacker)
    return (_CheckedFrames if framed else _Checked)(deployed, attacker)


def borrowed(victim: Victim, *, train: bool = False) -> Victim:
    """A copy that shares the weights and owns its buffers: what happens to it leaves the victim as it is.

    The weights carry no gradient in it. train=True puts batch-norm into batch statistics, for the paper's protocol;
    otherwise the copy is in eval mode, and a victim that is not is refused, because its numbers would not be those of
    the deployed network.
    """
    if not train and any(m.training for m in victim.modules()):
        raise SpikeproofError(
            "a victim in eval mode", "a victim in train mode", mend="call victim.eval() before evaluating it"
        )
    shared: dict[int, object] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in victim.parameters()}
    return copied(victim, shared).train(train)
