"""Gradients where it matters: at the image, at the encoded input, at every layer, and of the weights, as rows.

Where sparsity is measured decides what is found: a max pool leaves most of its input's gradient at zero, and the
convolution in front of it spreads what is left over every pixel. So every place is measured, and named.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NotRequired, TypedDict

import torch
from torch import Tensor, nn

from spikeproof.errors import Failed, SpikeproofError, Unfinite, UsageError
from spikeproof.layers.winograd import taps_alone
from spikeproof.losses import margin
from spikeproof.metrics.gradients import by_probe, means
from spikeproof.metrics.sparsity import event_measures, measures
from spikeproof.rows import BatchNorm, Measures, Scalar, SiteRow, WeightRow
from spikeproof.rules.atan import ATan
from spikeproof.tensors import fold
from spikeproof.types import Rule
from spikeproof.victims.batch import Batch
from spikeproof.victims.door import in_own_modes, victim_of
from spikeproof.victims.taps import Tap, live_taps, tapped
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["SCALARS", "Sparsity", "gradient_rows", "scalar_of", "sparsity", "weight_rows"]

SCALARS: tuple[Scalar, ...] = ("ce", "probability", "margin")
"""What is differentiated: cross-entropy, the true class's probability, z_y - max other."""


def scalar_of(name: Scalar, logits: Tensor, y: Tensor) -> Tensor:
    """One of SCALARS: logits (B,K), labels (B,) -> (B,). Raises UsageError for another name."""
    if name == "ce":
        return logits.logsumexp(1) - logits.gather(1, y[:, None])[:, 0]
    if name == "probability":
        return torch.softmax(logits, 1).gather(1, y[:, None])[:, 0]
    if name == "margin":
        return -margin(logits, y)
    raise UsageError("a scalar to differentiate", repr(name), valid=SCALARS)


class _Described(TypedDict):
    """What a row says of its gradient, as in SiteRow."""

    size: int
    summed: Measures
    steps: NotRequired[dict[str, list[float | None]]]


def _number(value: float) -> float | None:
    """At 6 significant digits; None where a measure does not exist."""
    return float(f"{value:.6g}") if value == value else None


def _measured(g: Tensor) -> list[Measures]:
    """Gradient (B,*) -> every measure of each image."""
    found = {name: values.tolist() for name, values in measures(g).items()}
    return [{name: _number(values[i]) for name, values in found.items()} for i in range(len(g))]


def _described(g: Tensor, steps: int | None) -> list[_Described]:
    """Gradient (B,*), or (T,B,*) with steps given -> per image the measures, summed over time and per step."""
    total = g if steps is None else g.sum(0)
    rows: list[_Described] = [{"size": total[0].numel(), "summed": summed} for summed in _measured(total)]
    if steps is not None:
        for name, values in measures(g.flatten(0, 1)).items():
            for row, column in zip(rows, values.view(steps, -1).T.tolist(), strict=True):
                row.setdefault("steps", {})[name] = [_number(value) for value in column]
    return rows


def _of_grid(g: Tensor, x: Tensor) -> list[_Described]:
    """The gradient at grids of events, g and x (B,T,2,H,W): of the whole grid, and of each frame."""
    rows = _described(g, None)
    frames = _described(g.transpose(0, 1), g.shape[1])
    found = {name: values.tolist() for name, values in event_measures(g, x).items()}
    for number, (row, frame) in enumerate(zip(rows, frames, strict=True)):
        row["summed"] |= {name: _number(values[number]) for name, values in found.items()}
        row["steps"] = frame["steps"]
    return rows


def gradient_rows(
    victim: Victim,
    batch: Batch,
    *,
    rule: Rule,
    scalars: tuple[Scalar, ...] = SCALARS,
    layers: bool = True,
    batchnorm: BatchNorm = "eval",
) -> Iterator[SiteRow]:
    """One row per image (B,C,H,W), scalar, site and side, for the input gradient.

    Sites: 'image' (B,C,H,W), 'encoded' (T,B,C,H,W), then, with layers=True and for the first scalar only, each layer of
    the body in the order of the forward pass. 'summed' measures the gradient summed over time, 'steps' each time step;
    at an 'image' that is a grid of events the whole grid, and beside the others `event_measures`.
    batchnorm='train' uses batch statistics, as the paper does, on copied buffers. The victim is left as it was.
    """
    copy = borrowed(victim, train=batchnorm == "train")
    x, y = batch.x.detach().requires_grad_(), batch.y
    with torch.enable_grad(), taps_alone(), tapped(copy, rule) as (watched, taps):
        z = copy.encode(x, fold(batch.keys, "measure"))
        logits = copy.classify(z, watched)
    places = [Tap("image", "input", x), Tap("encoded", "input", z), *(taps if layers else [])]
    for number, scalar in enumerate(scalars):
        wanted = places if number == 0 else places[:2]
        with torch.enable_grad():  # the caller may be under no_grad
            total = scalar_of(scalar, logits, y).sum()
        found = _passed(total, [tap.tensor for tap in wanted], keep=number + 1 < len(scalars))
        if found[0] is None:
            raise SpikeproofError(
                "a gradient at the image",
                f"an encoder that cuts the graph, {victim.encoder}",
                mend="use an encoder with a pixel gradient (spikeproof parts)",
            )
        if not bool(torch.isfinite(found[0]).all()):
            where = victim.unfinite(batch.x[:8], rule, batch.keys[:8])
            got = "NaN or infinity" + (f": it overflows in {where}" if where else "")
            mend = f"another rule than {rule}, or another surrogate in the network; look at its weights"
            raise Unfinite("finite gradients at the image", got, mend=mend)
        for order, (tap, g) in enumerate(zip(wanted, found, strict=True)):
            g = torch.zeros_like(tap.tensor) if g is None else g
            over_time = None if tap.site == "image" else victim.steps
            if over_time is not None:
                _check_steps(g, over_time, len(x), tap.site)
                g = g.reshape(over_time, len(x), -1)  # a layer may have met it folded to (T B,*)
            grid = tap.site == "image" and x.dim() == 5 and x.shape[-3] == 2
            described = _of_grid(g, x.detach()) if grid else _described(g, over_time)
            for image, label, row in zip(batch.ids.tolist(), y.tolist(), described, strict=True):
                yield {"image": image, "label": label, "site": tap.site, "side": tap.side, "scalar": scalar,
                       "batchnorm": batchnorm, "order": order, **row}  # fmt: skip


def _passed(total: Tensor, wanted: list[Tensor], *, keep: bool) -> tuple[Tensor | None, ...]:
    """Gradients of a sum, None where the graph is cut; what a network's own backward raises becomes a refusal."""
    if not total.requires_grad:
        return (None,) * len(wanted)
    try:
        found: tuple[Tensor | None, ...] = torch.autograd.grad(total, wanted, retain_graph=keep, allow_unused=True)
    except (torch.OutOfMemoryError, MemoryError, SpikeproofError):
        raise
    except Exception as error:  # it is the network's
        got = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        mend = "call loss.backward() by hand on x.requires_grad_(); spikeproof.check names the module"
        raise Failed("a backward that runs", got, mend=mend) from error
    return found


def _check_steps(g: Tensor, steps: int, size: int, site: str) -> None:
    """Refuses layers of a foreign network that do not meet all steps at once, in one of the two orders known here."""
    if g.shape[:2] != (steps, size) and len(g) != steps * size:
        raise SpikeproofError(
            f"all {steps} steps of {size} images at once in the layer {site!r}",
            f"shape {tuple(g.shape)}",
            mend="layers=False, for a network that makes its own loop over time",
        )


def weight_rows(victim: Victim, batch: Batch, *, rule: Rule, batchnorm: BatchNorm = "eval") -> Iterator[WeightRow]:
    """The gradient of each image's cross-entropy with respect to every convolution and linear weight, as rows.

    Taps that only ever see padding are masked out first, and their share is 'masked_share'. Site 'weights' is all of
    them together, its 'masked_share' is of *all* parameters of the network (biases and batch-norms included).
    """
    copy = borrowed(victim, train=batchnorm == "train")
    modules = {n: m for n, m in copy.body.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    weights = [m.weight.requires_grad_() for m in modules.values()]
    with torch.enable_grad(), taps_alone(), tapped(copy, rule) as (_, taps):
        losses = scalar_of("ce", copy(batch.x, rule, fold(batch.keys, "measure")), batch.y).unbind()
    sizes = {tap.site: tap.tensor.shape[-2:] for tap in taps if tap.side == "input"}
    alive = [
        live_taps(m, *sizes[n]).to(batch.x.device).expand_as(m.weight)
        if isinstance(m, nn.Conv2d)
        else torch.ones_like(m.weight, dtype=torch.bool)
        for n, m in modules.items()
    ]
    parameters = sum(p.numel() for p in copy.parameters())
    dead = sum(int((~a).sum()) for a in alive)
    for i, (image, label) in enumerate(zip(batch.ids.tolist(), batch.y.tolist(), strict=True)):
        found = torch.autograd.grad(losses[i], weights, retain_graph=i + 1 < len(batch))
        live = [g[a] for g, a in zip(found, alive, strict=True)]
        shares = [1.0 - float(a.double().mean()) for a in alive]
        places = [
            ("weights", torch.cat(live), dead / parameters),
            *zip((f"weight:{n}" for n in modules), live, shares, strict=True),
        ]
        for order, (site, g, share) in enumerate(places):
            yield {
                "image": image, "label": label, "side": "weight", "scalar": "ce", "batchnorm": batchnorm, "site": site,
                "order": order, "masked_share": float(f"{share:.6g}"), "size": g.numel(),
                "summed": _measured(g[None])[0],
            }  # fmt: skip


Sparsity = dict[str, dict[str, float | None]]
"""'image' and 'encoded' -> measure -> its mean over images; None where it exists for none of them."""


@in_own_modes
def sparsity(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    rule: Rule | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
) -> Sparsity:
    """How sparse the input gradient of the cross-entropy is, at the pixels and behind the encoder (summed over time).

    images (N,C,H,W) in [0,1], labels (N,); rule as in `evaluate`. The measures are those of
    `spikeproof.metrics.sparsity`, each the mean over images. Raises SpikeproofError as `evaluate` does, and for a
    network that can only be asked.
    """
    victim = victim_of(victim)
    if not victim.differentiable:
        mend = "wrap the nn.Module itself, not a function that calls it"
        raise SpikeproofError("a network with a gradient", "one that can only be asked", mend=mend)
    batch = Batch.of(victim, images, labels, ids, seed)
    rows = gradient_rows(victim, batch, rule=rule or victim.rule or ATan(), scalars=("ce",), layers=False)
    return {
        probe.site: {name: mean.value for name, mean in found.items()} for probe, found in means(by_probe(rows)).items()
    }
