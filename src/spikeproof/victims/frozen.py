"""The victim as an attack may craft on: the same network, executed for speed.

Batch-norm is folded into its convolution, maps are channels-last, convolutions that see their whole map at once are one
matrix product, and time steps that the encoder repeats pass the first convolution once. Other kernels round otherwise,
and a membrane that sits on its threshold then flips a spike: so the *verdict* is always the deployed network's, and how
often the two disagree is counted (`judge.py`).
"""

from __future__ import annotations

from typing import Protocol, cast
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from spikeproof.native import fast, keep_memory
from spikeproof.types import Encoder, Framed, Rule
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["FrozenVictim", "freeze"]

_METHODS = ("classify", "stem", "beyond", "frozen")

_PLAIN = (bool, int, float, str, type(None))
"""What the settings of a layer are: thresholds, leaks, steps; its tensors have versions."""


class _Freezable(Protocol):
    """A body whose first convolution and what comes after it can be run apart: `beyond(stem(z), rule)` classifies."""

    def frozen(self) -> nn.Module: ...

    def stem(self, z: Tensor) -> Tensor: ...

    def beyond(self, currents: Tensor, rule: Rule) -> Tensor: ...


def _parted(body: nn.Module) -> _Freezable:
    return cast(_Freezable, body)  # what torch's type of a module does not know


class FrozenVictim(Victim):
    """A victim on a frozen body; frames that come more than once pass the body's stem once."""

    def __init__(self, body: nn.Module, encoder: Encoder, steps: int) -> None:
        super().__init__(body, encoder, steps)
        self._framed = isinstance(encoder, Framed)  # asked once, and not in every pass

    def forward(self, x: Tensor, rule: Rule, keys: Tensor) -> Tensor:
        if not self._framed:
            return super().forward(x, rule, keys)
        self._check(x)
        values, order = cast(Framed, self.encoder).frames(x, self.steps, keys)
        currents = _parted(self.body).stem(values)
        # Channels last, as the layers beyond want it. One frame for all steps needs no memory for each of them.
        last = currents.movedim(2, -1).contiguous()
        repeated = last.expand(len(order), *last.shape[1:]) if len(last) == 1 else last.index_select(0, order)
        return _parted(self.body).beyond(repeated.movedim(-1, 2), rule)


def freeze(victim: Victim) -> Victim:
    """The frozen twin of a victim in eval mode; the victim itself where its body has none (`frozen()`), where a
    subclass has changed one of the methods that make and run the twin, where somebody has hung hooks on its layers,
    which a twin would lose, or where fast paths are switched off.

    Made once for each victim, and again when one of its tensors has been written to since, or another number of steps,
    encoder or setting of a layer has been given to it; writes through a tensor's `.data` are not seen. Raises
    SpikeproofError for a victim in train mode.
    """
    if type(victim) is not Victim or not _of_one_class(victim.body) or not fast() or _hooked(victim):
        return victim
    version = _version(victim)
    if (known := _TWINS.get(victim)) is not None and known[0] == version:
        return known[1]
    keep_memory()
    deployed = borrowed(victim)
    twin = FrozenVictim(_parted(deployed.body).frozen(), deployed.encoder, deployed.steps).eval()
    _TWINS[victim] = version, twin
    return twin


def _of_one_class(body: nn.Module) -> bool:
    """Whether all the methods that a twin stands on are one class's: a subclass that changes `classify` alone, say to
    normalise first, is another network than its stem and what is beyond."""
    owners = {next((cls for cls in type(body).__mro__ if name in vars(cls)), None) for name in _METHODS}
    return len(owners) == 1 and None not in owners and not any(name in vars(body) for name in _METHODS)


def _version(victim: Victim) -> object:
    """Equal as long as the twin is that of this victim."""
    tensors = tuple((t.data_ptr(), t._version) for t in (*victim.parameters(), *victim.buffers()))
    settings = tuple(
        (type(module), *((name, value) for name, value in vars(module).items() if isinstance(value, _PLAIN)))
        for module in victim.modules()
    )
    return tensors, settings, repr(victim.encoder)


def _hooked(victim: Victim) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind, None) for module in victim.modules() for kind in kinds)


_TWINS: WeakKeyDictionary[Victim, tuple[object, FrozenVictim]] = WeakKeyDictionary()
