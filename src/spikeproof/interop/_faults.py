"""Faults of other frameworks that are known by version, or seen by asking, and that no user's network can help."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.interop._foreign import Foreign
from spikeproof.interop.frameworks import frameworks_of
from spikeproof.interop.sites import Heights, Site

__all__ = ["faults_of", "overflow_of", "refuse_old"]

_OLDEST = {"SpikingJelly": ("spikingjelly", 2)}
"""Frameworks whose networks before a version are other ones under the same names: package, first known version."""

_IN_TRITON = ("Sigmoid", "ATan")
"""Surrogates that SpikingJelly's Triton back end had before its pull request 660 (2026-04-21), which says that five
others had no gradient there; its code, as it stood then, refuses them. Version 2 has them."""


def refuse_old(model: nn.Module, images: Tensor) -> None:
    """SpikeproofError for a network of a framework that is too old to be known."""
    for framework in frameworks_of(model):
        package, oldest = _OLDEST.get(framework.title, ("", 0))
        found = _version(package)
        if found and int(found.split(".")[0]) < oldest:
            mend = (
                f"pip install '{package}>={oldest}': earlier ones call other methods of a neuron, and reset otherwise"
            )
            raise SpikeproofError(f"{framework.title} {oldest} or later", f"{found}{_in_triton(model)}", mend=mend)


def _in_triton(model: nn.Module) -> str:
    """The first node of the Triton back end with a surrogate that this has not, in words; '' where there is none."""
    for name, module in model.named_modules():
        own = type(getattr(module, "surrogate_function", None)).__name__
        if getattr(module, "backend", None) == "triton" and own not in ("NoneType", *_IN_TRITON):
            known = " and ".join(_IN_TRITON)
            return f", whose Triton back end has gradients for {known} alone: {name!r} has {own}"
    return ""


def faults_of(model: nn.Module, body: Foreign) -> tuple[str, str] | None:
    """The first surrogate of a rewired network whose gradient is not finite somewhere, with the mend."""
    for site in body.sites():
        if said := overflow_of(site):
            titles = [f"{f.title} {_version(f.title.lower()) or f.versions}" for f in body.frameworks]
            mend = "a rule of this package, evaluate(..., rule=ATan()), or another surrogate in the network"
            return f"{said} ({', '.join(titles)})", mend
    return None


def overflow_of(site: Site) -> str:
    """Where the surrogate that a neuron brought has a gradient that is not finite, in words; '' where nowhere."""
    own = site.own if isinstance(site, Heights) else getattr(site.neuron, "own", None)
    if own is None:
        return ""
    x = torch.tensor([sign * 2.0**k for k in range(-2, 11) for sign in (-1.0, 1.0)]).requires_grad_()
    with torch.enable_grad():
        spikes = own(x)
        if not spikes.requires_grad:
            return ""
        slopes = torch.autograd.grad(spikes.sum(), x)[0]
    wrong = x.detach()[~torch.isfinite(slopes)]
    if not len(wrong):
        return ""
    nearest = float(wrong[wrong.abs().argmin()])
    return f"the surrogate of {site.name!r} overflows: NaN or infinity at {nearest:g} from the threshold and beyond"


def _version(package: str) -> str:
    try:
        return version(package) if package else ""
    except PackageNotFoundError:
        return ""
