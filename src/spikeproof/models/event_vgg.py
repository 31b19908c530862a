"""A plain stack of convolutions and pools for event cameras, with two linear layers: SpikingJelly's event networks."""

from __future__ import annotations

from typing import Literal, cast

from torch import Tensor, nn

from spikeproof.errors import UsageError
from spikeproof.layers.conv import Conv2d
from spikeproof.layers.copies import copied
from spikeproof.layers.folded import fold
from spikeproof.layers.max_pool import MaxPool2d, slim
from spikeproof.layers.over_time import over_time
from spikeproof.limits import WIDTH
from spikeproof.models._resnet import NeuronFactory
from spikeproof.types import Neuron, Rule

__all__ = ["EventVGG"]

_DEPTHS = (1, 2, 3, 4, 5)


class EventVGG(nn.Module):
    """(T,B,C,H,W) -> logits (B,K): `depth` times convolution, batch-norm, neuron and 2x2 pool, then two linear layers.

    Fang et al., "Incorporating Learnable Membrane Time Constant to Enhance Learning of Spiking Neural Networks"
    (ICCV 2021); the names of the weights are those of SpikingJelly's NMNISTNet (the defaults, but for the neuron),
    CIFAR10DVSNet (depth 4, hidden 512, size 128) and DVSGestureNet (depth 5, hidden 512, size 128). Departure: no
    dropout, whose masks would come from torch's global stream.

    width: channels of every convolution; hidden: outputs of the first linear layer; size: rows and columns of a grid,
    or another that leaves as many after the pools, such as 32 of 34;
    votes: neurons that vote for each class, whose mean rate is its logit; 0: the currents of the last linear layer are
    the logits, and no neuron is behind it. All are averaged over time.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        classes: int,
        neuron: NeuronFactory,
        depth: Literal[1, 2, 3, 4, 5] = 2,
        width: int = 128,
        hidden: int = 2048,
        votes: int = 10,
        size: int = 32,
        pool: Literal["max", "avg"] = "max",
    ) -> None:
        super().__init__()
        if depth not in _DEPTHS:
            raise UsageError("a depth", depth, valid=_DEPTHS)
        if pool not in ("max", "avg"):
            raise UsageError("a pool", repr(pool), valid=["max", "avg"], mend="set model.pool")
        limits = {"width": (width, 1, WIDTH), "hidden": (hidden, 1, 8192), "votes": (votes, 0, 100)}
        for name, (value, least, most) in {**limits, "size": (size, 2**depth, 1024)}.items():
            if not least <= value <= most:
                raise UsageError(f"{name} in {least}..{most}", value)
        self.in_channels, self.classes, self.depth, self.votes, self.size = in_channels, classes, depth, votes, size
        layers: list[nn.Module] = []
        for i in range(depth):
            conv = Conv2d(in_channels if i == 0 else width, width, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(width), neuron(), MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2)]
        # The empty places are those of SpikingJelly's flattening, dropout and voting layers, which have no weights.
        seen = width * (size // 2**depth) ** 2
        layers += [nn.Flatten(), nn.Identity(), nn.Linear(seen, hidden), neuron(), nn.Identity()]
        layers += [nn.Linear(hidden, classes * max(votes, 1)), *([neuron()] if votes else [])]
        self.conv_fc = nn.Sequential(*layers)

    def frozen(self) -> EventVGG:
        """A copy for attacks, in eval mode and with weights of its own: batch-norm folded, other kernels."""
        found = copied(self).eval().requires_grad_(False)
        for i in range(0, 4 * self.depth, 4):
            fold(found.conv_fc, str(i), str(i + 1))
            found.conv_fc[i + 3] = slim(found.conv_fc[i + 3])
        return found

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        """Grids over time (T,B,C,H,W) -> logits (B,K), averaged over time. UsageError for grids of another size."""
        return self.beyond(self.stem(z), rule)

    def stem(self, z: Tensor) -> Tensor:
        """Grids over time (T,B,C,H,W) -> the first neuron's currents (T,B,C',H,W); each step on its own."""
        # By what is left after the pools: SpikingJelly's NMNISTNet takes 32 to 35 rows as well.
        if any(side >> self.depth != self.size >> self.depth for side in z.shape[-2:]):
            got = f"{z.shape[-2]}x{z.shape[-1]}"
            raise UsageError(f"grids of {self.size}x{self.size}", got, mend=f"set model.size to {z.shape[-1]}")
        return over_time(z, self.conv_fc[0], self.conv_fc[1])

    def beyond(self, currents: Tensor, rule: Rule) -> Tensor:
        """The first neuron's currents -> logits (B,K)."""
        z, first_linear = currents, 4 * self.depth + 2
        for i in range(0, 4 * self.depth, 4):
            if i > 0:
                z = over_time(z, self.conv_fc[i], self.conv_fc[i + 1])
            z = over_time(self._spikes(i + 2, z, rule), self.conv_fc[i + 3])
        z = over_time(z.flatten(2), self.conv_fc[first_linear])
        z = over_time(self._spikes(first_linear + 1, z, rule), self.conv_fc[first_linear + 3])
        if self.votes:
            voted = self._spikes(first_linear + 4, z, rule)
            z = voted.view(*voted.shape[:2], self.classes, self.votes).mean(3)
        return z.mean(0)

    def _spikes(self, place: int, current: Tensor, rule: Rule) -> Tensor:
        return rule(cast(Neuron, self.conv_fc[place]), current, f"conv_fc.{place}")
