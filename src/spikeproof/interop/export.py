"""Victims for other toolkits: a plain module from pixels to logits, and a state dict with SpikingJelly's names."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from spikeproof.interop._foreign import Foreign
from spikeproof.interop.sites import Site
from spikeproof.rules.atan import ATan
from spikeproof.tensors import fold, image_keys
from spikeproof.types import Rule
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Plain", "as_module", "spikingjelly_state_dict"]


class Plain(nn.Module):
    """Pixels (B,C,H,W) in [0,1] -> logits (B,K), under one rule; `as_module` makes it.

    Always in eval mode, whatever a toolkit sets, and its weights ask for no gradient. Between calls it keeps their
    number alone.
    """

    def __init__(self, victim: Victim, rule: Rule, seed: int) -> None:
        super().__init__()
        self.victim, self.rule, self.seed, self.calls = borrowed(victim), rule, seed, 0
        self.eval()

    def train(self, mode: bool = True) -> Plain:
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        keys = image_keys(self.seed, torch.arange(len(x))).to(x.device)
        if not self.victim.stochastic:  # then keys decide the gradient alone, and a frozen draw would weaken an attack
            keys = fold(keys, self.calls)
            self.calls += 1
        return self.victim(x, self.rule, keys)  # type: ignore[no-any-return]


def as_module(victim: Victim, rule: Rule | None = None, seed: int = 0) -> Plain:
    """A victim as torchattacks, foolbox or ART take a network: x -> logits, the rule bound, state and reset inside.

    It shares the victim's weights and leaves it as it is. rule: whose gradient the toolkit sees (where none is given, a
    wrapped victim's own, else ATan 2); the logits are exact under every rule. seed: of all that is drawn. The noise of
    a random encoder is that of (seed, position in the batch), the same in every call. Where only the gradient of a code
    is drawn (the secant of a phase code), it is drawn anew in every call, by (seed, position, number of the call): a
    new module repeats an attack. Raises SpikeproofError for a victim in train mode, and when called for pixels outside
    [0,1].
    """
    return Plain(victim, rule or victim.rule or ATan(), seed)


def spikingjelly_state_dict(victim: Victim) -> dict[str, Tensor]:
    """Weights and buffers under the names that the same architecture has in SpikingJelly, for a strict load.

    The models of this package have them anyway; of a wrapped victim they are those of the network that was wrapped.
    """

    wrapped = isinstance(victim.body, Foreign)
    # Where a node stood there is a site with the node's constants in its neuron.
    sites = [n for n, module in victim.body.named_modules() if isinstance(module, Site)]

    def renamed() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in victim.body.state_dict().items():
            for site in sites:
                if name.startswith(f"{site}.neuron."):
                    name = f"{site}.{name.removeprefix(f'{site}.neuron.')}"
            yield name.removeprefix("network.") if wrapped else name, tensor.detach().clone()

    return dict(renamed())
