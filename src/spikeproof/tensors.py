"""The few tensor operations everything stands on: graft, heaviside, and randomness keyed by image.

Randomness never comes from torch's global stream. Every image owns a 64-bit key, made from (seed, image id) and
folded with what the draw is for; a draw is a hash of (key, position), so that a result does not depend on the batch
size, the order, the shard or a resumed run. The hash is SplitMix64 (Steele, Lea and Flood 2014), in C where there is a
library (`native/draws.py`) and in tensor operations elsewhere, with the same bits.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor

from spikeproof.native.draws import drawable, draws, mixed
from spikeproof.types import Estimator, Neuron, OneScan, Rule, Ruled

__all__ = [
    "exact", "fold", "graft", "heaviside", "image_keys", "integers", "normal", "on_grid", "per_image", "rule_of",
    "signs", "sparse_sign", "uniform",
]  # fmt: skip


def graft(value: Tensor, proxy: Tensor) -> Tensor:
    """The value of one, the gradient of the other.

    Spikes stay exactly 0 or 1, because `proxy - proxy.detach()` is exactly 0 for every finite proxy; an infinite
    proxy would poison the value (inf - inf), so proxies must be bounded.

    >>> x = torch.tensor([0.3], requires_grad=True)
    >>> y = graft(torch.ones(1), 5 * x)
    >>> y.item(), torch.autograd.grad(y.sum(), x)[0].item()
    (1.0, 5.0)
    """
    return value.detach() + (proxy - proxy.detach())


def heaviside(x: Tensor) -> Tensor:
    """1 where x >= 0, else 0: a membrane exactly at its threshold fires, as in SpikingJelly. Same dtype as x."""
    return (x >= 0).to(x.dtype)


def per_image(x: Tensor, values: Tensor) -> Tensor:
    """`values` (B,) shaped so that it broadcasts against x (B,*)."""
    return values.view(-1, *[1] * (x.dim() - 1))


def on_grid(x: Tensor, quantum: float) -> Tensor:
    """The nearest multiples of a quantum, which is one by a whole number: the very floats that data make of counts.

    >>> on_grid(torch.tensor([0.2, 0.6, 1.0]), 0.5)
    tensor([0.0000, 0.5000, 1.0000])
    """
    most = round(1.0 / quantum)
    return (x * most).round() / most


def sparse_sign(x: Tensor, count: Tensor | int) -> Tensor:
    """The sign on each image's `count` largest entries in size, over their number: (B,*), its absolute values sum to 1.

    count: one or (B,), taken into 1..n. Whatever ties with the last is in, what is 0 is not; all zeros stay zeros.

    >>> sparse_sign(torch.tensor([[0.5, -3.0, 2.0, 0.0]]), 2)
    tensor([[ 0.0000, -0.5000,  0.5000,  0.0000]])
    """
    size = x.flatten(1).abs()
    last = torch.as_tensor(count, device=x.device).clamp(1, size.shape[1]).expand(len(x)) - 1
    least = size.sort(1, descending=True).values.gather(1, last[:, None])
    kept = (size >= least) & (size > 0)
    return x.sign() * kept.view_as(x) / per_image(x, kept.sum(1).clamp(min=1))


def _signed(word: int) -> int:
    """A 64-bit word as the int64 with the same bits."""
    return (word + 2**63) % 2**64 - 2**63


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)  # torch shifts int64 arithmetically; the mask makes it logical


def _mix(z: Tensor) -> Tensor:
    if drawable(z):
        return mixed(z)
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)


@lru_cache(1 << 12)
def _word(word: int | str) -> int:
    if isinstance(word, str):
        return _signed(int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little"))
    return _signed(word % 2**64)


def image_keys(seed: int, ids: Tensor) -> Tensor:
    """One key per image: (seed, ids (B,) int64) -> (B,) int64."""
    return _mix(_mix(ids.to(torch.int64) + _GOLDEN) + _word(seed))


def fold(keys: Tensor, word: int | str) -> Tensor:
    """Keys (B,) for another purpose, named by `word`: fold(keys, "start"), fold(keys, restart)."""
    return _mix((keys + _GOLDEN) ^ _word(word))


def _bits(keys: Tensor, shape: Sequence[int]) -> Tensor:
    counter = torch.arange(1, math.prod(shape) + 1, device=keys.device) * _GOLDEN
    return _mix(keys[:, None] + counter).view(len(keys), *shape)


def _draws(keys: Tensor, shape: Sequence[int], bits: int, start: float, slope: float) -> Tensor:
    """start + slope * the first bits of each word, in float32: (B, *shape)."""
    if drawable(keys) and (each := math.prod(shape)):
        return draws(keys, each, bits, start, slope).view(len(keys), *shape)
    return start + slope * _shift(_bits(keys, shape), 64 - bits).to(torch.float32)


def uniform(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Uniform float32 in [0, 1), multiples of 2^-24: keys (B,), shape of one image -> (B, *shape)."""
    return _draws(keys, shape, 24, 0.0, 2.0**-24)


def signs(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """-1.0 or +1.0 with equal chance: keys (B,), shape of one image -> (B, *shape)."""
    return _draws(keys, shape, 1, 1.0, -2.0)


def integers(keys: Tensor, low: int, high: int) -> Tensor:
    """One integer per image, uniform in low..high inclusive: keys (B,) -> (B,) int64."""
    return low + (_shift(_bits(keys, ()), 1) % (high - low + 1))


def normal(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 by Box and Muller: keys (B,), shape of one image -> (B, *shape)."""
    radius = torch.sqrt(-2.0 * torch.log(1.0 - uniform(fold(keys, "radius"), shape)))
    return radius * torch.cos(2.0 * math.pi * uniform(fold(keys, "angle"), shape))


def exact(neuron: Neuron, currents: Tensor, site: str) -> Tensor:
    """The rule without a gradient: currents (T,B,*) -> spikes. Every verdict uses it."""
    # By its class, which Python remembers: at every layer of every pass, isinstance would look at the methods again.
    if issubclass(type(neuron), OneScan) and not (torch.is_grad_enabled() and currents.requires_grad):
        return cast(OneScan, neuron).spikes(currents)
    return neuron.run(currents, lambda height, step: heaviside(height))


def rule_of(estimator: Estimator) -> Rule:
    """The rule whose gradient an estimator takes; `exact` of one that has none."""
    found = estimator.rule if isinstance(estimator, Ruled) else None
    return exact if found is None else found
