"""Norse 1.1: cells and layers keep their dynamics and their loop; their threshold function asks the rule.

Norse's step functions call a global `threshold(height, method, alpha)`. The copy gets step functions of the same code
with another global; Norse itself is not patched. Where the code does not detach the spikes that reset the membrane,
they are detached for a rule that wants no gradient through the reset. States are arguments, so nothing needs a rest.
"""

from __future__ import annotations

import copy
from functools import partial
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from spikeproof.interop.frameworks import Framework
from spikeproof.interop.sites import Heights, Switch, keep, strict

__all__ = ["Norse"]


class Norse(Framework):
    """Cells, layers and encoders that may fire: all with parameters but the integrators."""

    title, versions = "Norse", "1.1"

    def is_neuron(self, module: nn.Module) -> bool:
        homes = [cls.__module__ for cls in type(module).__mro__ if cls.__module__.startswith("norse.")]
        fires = hasattr(module, "activation") or hasattr(module, "p")
        return bool(homes) and fires and not any("leaky_integrator" in home for home in homes)

    def site(self, name: str, cell: Any, switch: Switch, *, folded: bool) -> nn.Module | None:
        """The cell itself, with a site in its step function; None where that one does not call the threshold itself."""
        step = getattr(cell, "activation", None)
        if not isinstance(step, FunctionType) or "threshold" not in step.__code__.co_names:
            return None
        if not hasattr(cell.p, "method"):
            return None
        own = partial(step.__globals__["threshold"], method=cell.p.method, alpha=cell.p.alpha)
        attached = "detach" not in step.__code__.co_names
        cell.spikes = Heights(name, own, switch, strict=strict(own, name), detach_reset=not attached, either=attached)
        keep(cell, activation=_Step(step, cell.spikes))
        return cell  # type: ignore[no-any-return]


class _Step:
    """A step function of Norse whose threshold is a site."""

    def __init__(self, step: FunctionType, site: Heights) -> None:
        self.step, self.site = step, site
        world = {**step.__globals__, "threshold": self._threshold}
        self.rewired = FunctionType(step.__code__, world, step.__name__, step.__defaults__, step.__closure__)
        self.live: tuple[Tensor, Tensor] | None = None
        """Spikes with a gradient and the same without one, during one step."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Step:
        return _Step(self.step, copy.deepcopy(self.site, memo))

    def __call__(self, *inputs: Any, **options: Any) -> tuple[Tensor, Any]:
        _, state = self.rewired(*inputs, **options)
        assert self.live is not None
        (live, silent), self.live = self.live, None
        fields = {name: live for name, value in state._asdict().items() if value is silent}
        return live, state._replace(**fields)

    def _threshold(self, height: Tensor, method: str, alpha: Tensor) -> Tensor:
        spikes, through_reset = self.site.ask(height)
        self.live = spikes, spikes if through_reset or not self.site.either else spikes.detach()
        return self.live[1]
