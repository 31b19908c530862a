"""`check`: every question that decides whether a network's numbers can be trusted, asked before any attack."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikeproof.encoders.direct import Direct
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.interop._behaviour import BEHAVIOUR, Trial
from spikeproof.interop._borrowing import called, forked, hooked, twin
from spikeproof.interop._deployed import DEPLOYED, PRECISIONS
from spikeproof.interop._finding import Named
from spikeproof.interop._foreign import Asked, Feed, Foreign, Readout
from spikeproof.interop._gradient import gradient_of
from spikeproof.interop._layout import Layout, layout_of
from spikeproof.interop._wrapped import Wrapped, wrap
from spikeproof.interop.frameworks import StepMode, known_frameworks
from spikeproof.interop.load import factory, made, weighted
from spikeproof.limits import IMAGE_PIXELS, STEPS
from spikeproof.metrics.robustness import clopper_pearson
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys, uniform
from spikeproof.types import Encoder
from spikeproof.victims.batch import check_labels
from spikeproof.victims.victim import borrowed

__all__ = ["CheckResult", "Checked", "check", "check_path"]

_OUTSIDE: dict[str, tuple[Sequence[float], Sequence[float]] | None] = {
    "their own": None,
    "mean 0.5, deviation 0.5": ((0.5,), (0.5,)),
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "MNIST's": ((0.1307,), (0.3081,)),
}
"""Normalisations that users put in front of a network, tried where labels are given."""


@dataclass(frozen=True)
class CheckResult:
    """One line: what was asked, the verdict, the answer, and the mend where it is not 'ok'."""

    name: str
    verdict: Literal["ok", "warn", "refuse"]
    says: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:7s} {self.name:17s} {self.says}" + (f"; to mend: {self.mend}" if self.mend else "")


@dataclass(frozen=True)
class Checked:
    """results: one for each question that could be asked; victim: the wrapped network, None where it is refused."""

    results: tuple[CheckResult, ...]
    victim: Wrapped | None

    @property
    def refused(self) -> bool:
        """Whether a number of this network could not be trusted."""
        return any(result.verdict == "refuse" for result in self.results)

    def __getitem__(self, name: str) -> CheckResult:
        """The result of that name; KeyError where the question could not be asked."""
        return {result.name: result for result in self.results}[name]

    def __str__(self) -> str:
        return "\n".join(map(str, self.results))


def check(
    model: Callable[..., Any],
    images: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    shape: Sequence[int] | None = None,
    steps: int | None = None,
    encoder: Encoder | None = None,
    step_mode: StepMode | None = None,
    readout: Readout | None = None,
    spikes: Named | None = None,
) -> Checked:
    """Whether numbers of somebody's network can be trusted, by every question that `wrap` asks and some more.

    Where `wrap` stops at the first mistake, this goes on with a mended copy, and lists them all; the model is left as
    it is. images (N,C,H,W) in [0,1], two or more, best real ones, with labels (N,), which show a normalisation that
    stands outside the network; where there are none, random images of `shape` (C,H,W), or of a usual shape that the
    network takes. The other arguments are those of `wrap`. Raises UsageError for images and labels that do not fit.
    """
    if images is not None and (images.dim() != 4 or len(images) < 2):
        raise UsageError("two images (N,C,H,W) or more", tuple(images.shape))
    if labels is not None and (images is None or labels.shape != (len(images),)):
        raise UsageError("one label for each image given", tuple(labels.shape))
    if steps is not None and not 1 <= steps <= STEPS:
        raise UsageError(f"steps in 1..{STEPS}", steps)
    asking = _Asking(model if isinstance(model, nn.Module) else Asked(model).eval(), readout, encoder, spikes)
    with forked(torch.device("cpu") if images is None else images.device):
        asking.run(images, labels, shape, steps, step_mode)
    return Checked(tuple(asking.results), None if asking.refused else asking.victim)


def check_path(
    path: str,
    images: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    weights: Path | None = None,
    shape: Sequence[int] | None = None,
    steps: int | None = None,
    step_mode: StepMode | None = None,
) -> Checked:
    """`check` of what the factory at a dotted path 'package.module:make' makes, with weights from a file.

    The results begin with those of the factory and the file. UsageError where the path names nothing to call.
    """
    make = factory(path)
    before = _Asking(nn.Identity(), None, None)
    network: list[Callable[..., Any]] = []

    def called_factory() -> str:
        network.append(made(make, path))
        return f"{path} makes {type(network[0]).__name__}"

    fit = before.ask("factory", called_factory)
    if fit and weights is not None:
        fit = before.ask("weights", lambda: weighted(network[0], weights))
    if not fit:
        return Checked(tuple(before.results), None)
    rest = check(network[0], images, labels, shape=shape, steps=steps, step_mode=step_mode)
    return Checked((*before.results, *rest.results), rest.victim)


class _Asking:
    """The questions in their order, each on what the ones before have left."""

    def __init__(
        self, model: nn.Module, readout: Readout | None, encoder: Encoder | None, spikes: Named | None = None
    ) -> None:
        self.model, self.readout, self.encoder, self.spikes = model, readout, encoder, spikes
        self.results: list[CheckResult] = []
        self.victim: Wrapped | None = None

    @property
    def refused(self) -> bool:
        return any(result.verdict == "refuse" for result in self.results)

    def ask(self, name: str, question: Callable[[], str | tuple[str, str]]) -> bool:
        """Adds a result; what a question returns is said, with a mend it is a warning, what it raises a refusal."""
        try:
            answer = question()
        except SpikeproofError as error:
            known = [result.mend for result in self.results if result.verdict == "refuse"]
            if error.mend not in known:
                # Else it follows from a mistake told before.
                self.results.append(CheckResult(name, "refuse", error.says, error.mend))
            return False
        says, mend = (answer, "") if isinstance(answer, str) else answer
        self.results.append(CheckResult(name, "warn" if mend else "ok", says, mend))
        return True

    def _sound(self, name: str, question: Callable[..., None], *about: Any) -> None:
        """A question that returns nothing where all is well."""

        def answer() -> str:
            question(*about)
            return _OK[name]

        self.ask(name, answer)

    def run(
        self, images: Tensor | None, labels: Tensor | None, shape: Sequence[int] | None, steps: int | None,
        step_mode: Literal["m", "s"] | None,
    ) -> None:  # fmt: skip
        where = images if images is not None else torch.zeros(1)
        for name, question in DEPLOYED.items():
            self._sound(name, question, self.model, where)
        if images is not None and images.is_floating_point() and images.dtype not in PRECISIONS:
            images = where = images.float()
        if not self.ask("copy", lambda: self._mended(where)) or not self._placed(images, shape, steps, step_mode):
            return
        self.ask("neurons", self._neurons)
        self.plain = self._victim()
        if not self.ask("call", self._called):
            return
        trial = Trial(borrowed(self.plain), self.images, exact if isinstance(self.model, Asked) else ATan())
        for name, probe in BEHAVIOUR.items():
            self._sound(name, probe, trial)
        if isinstance(self.model, Asked):
            self.results.append(CheckResult("gradient", "warn", "a bare callable has none", "black-box attacks only"))
        else:
            self.ask("gradient", lambda: gradient_of(borrowed(self.plain), self.images))
        self.ask("normalisation", lambda: self._normalisation(labels))
        if labels is not None:
            self.ask("accuracy", lambda: self._accuracy(labels))
        if self.ask("wrap", self._wrapped):
            self.ask("spikes", self._spikes)

    def _mended(self, where: Tensor) -> str:
        moved = any(t.device != where.device or (t.is_floating_point() and t.dtype != where.dtype)
                    for t in [*self.model.parameters(), *self.model.buffers()])  # fmt: skip
        # `.to` writes into the very parameters that it finds.
        self.model = twin(self.model, apart=moved).eval()
        if moved:
            try:
                self.model = self.model.to(where)
            except NotImplementedError as error:  # there are no numbers on 'meta'
                raise SpikeproofError(
                    f"weights that can be moved to {where.device}", error, mend="load the weights first"
                ) from error
        return "can be made; what follows is about a copy in eval mode, like the images in device and precision"

    def _placed(self, images: Tensor | None, shape: Sequence[int] | None, steps: int | None, mode: Any) -> bool:
        """Finds images where none are given, and the layout."""
        tried = [images] if images is not None else [_random(s) for s in ([shape] if shape else _shapes(self.model))]

        def layout() -> str:
            refusals = []
            for self.images in tried:
                try:
                    self.layout = layout_of(self.model, self.images, steps, mode, self.readout)
                except SpikeproofError as error:
                    refusals.append(error)
                    continue
                tried_on = "" if images is not None else f"; tried on random images {tuple(self.images.shape[1:])}"
                return f"{self.layout.says}{tried_on}; wrap(model, images{_arguments(self.layout)})"
            raise refusals[0]

        return self.ask("layout", layout)

    def _victim(self) -> Wrapped:
        """The network as its owner calls it, not rewired."""
        feeds: dict[str | None, Feed] = {None: "images", "m": "all_steps", "s": "steps"}
        feed = feeds[self.layout.step_mode]
        body = Foreign(twin(self.model), feed, self.readout, self.images.shape[1], rewired=False)
        return Wrapped(body, self.encoder or Direct(), self.layout.steps or 1).eval()

    def _neurons(self) -> str | tuple[str, str]:
        """Rewires a copy, which refuses neurons that are not what they seem."""
        body = Foreign(twin(self.model), "images", self.readout, self.images.shape[1])
        names = [site.name for site in body.sites()]
        if body.foreign:
            return f"{', '.join(map(repr, body.foreign))}: dynamics not known"
        for framework in body.frameworks:
            if doubt := framework.doubt(self.model):
                return doubt
        if not names:
            *some, last = [f"{framework.title} {framework.versions}" for framework in known_frameworks()]
            return f"none of {', '.join(some)} or {last}"
        return f"{', '.join(map(repr, names))}; rule of training: {body.rule}"

    def _called(self) -> str:
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            self.logits: Tensor = self.plain(self.images.clone(), exact, self._keys())
        if not bool(torch.isfinite(self.logits).all()):
            raise SpikeproofError("finite logits", "NaN or infinity", mend="look at the weights")
        self.plain.body.classes = self.logits.shape[1]
        return f"{len(self.images)} images {tuple(self.images.shape[1:])} -> logits {tuple(self.logits.shape)}"

    def _keys(self) -> Tensor:
        return image_keys(0, torch.arange(len(self.images))).to(self.images.device)

    def _normalisation(self, labels: Tensor | None) -> str | tuple[str, str]:
        """What the first layer with weights sees of the pixels, and whether labels are met better after another."""
        z = self.plain.encode(self.images, self._keys())
        seen = _first_input(self.plain, z)
        if seen is not None and (float(seen[1].min()) < -1e-6 or float(seen[1].max()) > 1 + 1e-6):
            low, high = (float(v) for v in torch.aminmax(seen[1]))
            return f"inside: {seen[0]} gets values from {low:.3g} to {high:.3g} for pixels in [0,1]"
        if labels is None:
            return (
                "none is seen inside the network",
                "where it was trained on normalised images, make that its first layer; give images with labels to see",
            )
        right = self._right(self.images, labels)
        for name, constants in _OUTSIDE.items():
            other = self._right(_normalised(self.images, constants), labels)
            gained, lost = int((other & ~right).sum()), int((right & ~other).sum())
            # By no chance (the sign test), and by as much as matters.
            if gained - lost >= 0.05 * len(labels) and clopper_pearson(gained, gained + lost).low > 0.5:
                got = [100 * float(share.double().mean()) for share in (right, other)]
                raise SpikeproofError(
                    "a network that takes pixels in [0,1]",
                    f"{got[0]:.0f} % right on them, and {got[1]:.0f} % after {name} normalisation",
                    mend="make the normalisation of training the first layer of the network",
                )
        return "none inside, and none that is usual makes it better on the images given"

    @torch.no_grad()
    def _right(self, images: Tensor, labels: Tensor) -> Tensor:
        """Which images (N,C,H,W) of any range the network is right on, (N,) bool."""
        z = images[None].expand(self.layout.steps or 1, *images.shape).contiguous()
        with contextlib.redirect_stdout(io.StringIO()):
            return self.plain.classify(z, exact).argmax(1) == labels

    def _accuracy(self, labels: Tensor) -> str | tuple[str, str]:
        check_labels(self.plain, self.images, labels)
        right = int((self.logits.argmax(1) == labels).sum())
        share = clopper_pearson(right, len(labels))
        says = str(share)
        if share.low <= 1 / self.plain.classes:
            return f"{says}: not above chance", "weights, order of the classes, range of the pixels"
        return says

    def _wrapped(self) -> str | tuple[str, str]:
        layout = self.layout
        self.victim = wrap(
            self.model, self.images, steps=layout.steps, readout=self.readout, step_mode=layout.step_mode,
            encoder=self.encoder if layout.steps else None, spikes=self.spikes,
        )  # fmt: skip
        if self.victim.apart:
            return self.victim.notes[-1], "a fused kernel rounds in other places; say so beside the numbers"
        return "a rewired copy gives the model's own logits, bit for bit"

    def _spikes(self) -> str | tuple[str, str]:
        """What a rule decides in the wrapped network."""
        assert self.victim is not None
        body = self.victim.body
        if body.foreign:
            whose = f"{', '.join(map(repr, body.foreign))} keeps its own surrogate: not found where it makes its spikes"
            return whose, "wrap(..., spikes={MySpike: 'v'}), or ASSG and the rules that see the dynamics are left out"
        names = ", ".join(repr(site.name) for site in body.sites())
        if body.mute:
            return f"{names} take any surrogate", f"{body.mute}; a surrogate this sharp hides the network"
        return f"{names} take any surrogate" if names else "none: every rule gives the network's own gradient"


_OK = {
    "mode": "eval mode everywhere",
    "device": "all weights where the images are",
    "precision": "all weights of the images' precision",
    "prints": "nothing is printed",
    "input left alone": "the input is not changed",
    "state and noise": "every call starts from rest, and draws no noise",
    "images apart": "an image's logits are its own",
    "output": "logits, no probabilities",
    "graphs": "no graph is kept after a call",
}


def _arguments(layout: Layout) -> str:
    return "" if layout.steps is None else f", steps={layout.steps}, step_mode={layout.step_mode!r}"


def _random(shape: Sequence[int]) -> Tensor:
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape) > IMAGE_PIXELS:
        raise UsageError(f"the shape of one image, (C,H,W), of at most {IMAGE_PIXELS} values", tuple(shape))
    return uniform(image_keys(0, torch.arange(8)), tuple(shape))


def _shapes(model: nn.Module) -> list[tuple[int, int, int]]:
    """Usual shapes of images, with the channels of the first convolution where there is one."""
    first = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return [(c, s, s) for s in (32, 28, 8, 64, 224) for c in ([first] if first else [1, 3])]


def _first_input(victim: Wrapped, z: Tensor) -> tuple[str, Tensor] | None:
    """Name and first input of the first convolution or linear layer that is called."""
    seen: list[tuple[str, Tensor]] = []

    def keep(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not seen and isinstance(module, nn.Conv2d | nn.Linear):
            seen.append((called(name, module), inputs[0]))

    with hooked(victim.body.network, keep), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        victim.classify(z.clone(), exact)
    return seen[0] if seen else None


def _normalised(images: Tensor, constants: tuple[Sequence[float], Sequence[float]] | None) -> Tensor:
    if constants is None:
        deviation, mean = torch.std_mean(images, (0, 2, 3), keepdim=True)
        return (images - mean) / deviation.clamp(min=1e-6)
    mean, deviation = (torch.tensor(c, device=images.device).view(1, -1, 1, 1) for c in constants)
    if mean.shape[1] not in (1, images.shape[1]):
        return images
    return (images - mean) / deviation
