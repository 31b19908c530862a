"""`check`: every question that decides whether a network's numbers can be trusted, asked before any attack."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from spikeproof.encoders.direct import Direct
from spikeproof.encoders.frames import Frames
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.interop._behaviour import BEHAVIOUR, Trial
from spikeproof.interop._borrowing import answering, forked, twin
from spikeproof.interop._deployed import DEPLOYED, PRECISIONS
from spikeproof.interop._faults import faults_of
from spikeproof.interop._finding import Named, check_named
from spikeproof.interop._foreign import Asked, Foreign, Readout
from spikeproof.interop._gradient import gradient_of
from spikeproof.interop._hooks import lookers
from spikeproof.interop._layout import layout_of
from spikeproof.interop._normalisation import normalisation_of
from spikeproof.interop._owner import answers_of, module_of, registered
from spikeproof.interop._preserved import preserved
from spikeproof.interop._progress import Progress, told
from spikeproof.interop._wrapped import Wrapped, frames_of, steps_of, wrap
from spikeproof.interop.frameworks import StepMode, known_frameworks
from spikeproof.interop.load import factory, made, weighted
from spikeproof.limits import IMAGE_PIXELS
from spikeproof.metrics.robustness import clopper_pearson
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys, uniform
from spikeproof.types import Encoder
from spikeproof.victims.batch import check_labels
from spikeproof.victims.door import images_of, in_own_modes, labels_of
from spikeproof.victims.victim import borrowed

__all__ = ["CheckResult", "Checked", "check", "check_path"]


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

    @property
    def findings(self) -> tuple[CheckResult, ...]:
        """The results, by the name they had before."""
        return self.results

    def __getitem__(self, name: str) -> CheckResult:
        """The result of that name; KeyError where the question could not be asked."""
        return {result.name: result for result in self.results}[name]

    def __str__(self) -> str:
        return "\n".join(map(str, self.results))


@in_own_modes
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
    accuracy: float | None = None,
) -> Checked:
    """Whether numbers of somebody's network can be trusted, by every question that `wrap` asks and some more.

    Where `wrap` stops at the first mistake, this goes on with a mended copy, and lists them all; the model is left as
    it is. images (N,C,H,W) in [0,1], or grids of events (N,T,2,H,W), which bring their steps: two or more, best real
    ones, a tensor or an array of floats, with labels (N,), whole numbers, which show a normalisation that stands
    outside a network of images; where there are none, random images of `shape` (C,H,W), or of a usual shape that the
    network takes. accuracy: the share in [0,1] of such images that its owner found right, to be met here. The other
    arguments are those of `wrap`. Where a network is given steps and nobody says how many, some are tried, and nothing
    is refused for it. Raises UsageError or SpikeproofError for images and labels that do not fit.
    """
    check_named(spikes)
    images = None if images is None else _images(images)
    if labels is not None:
        if images is None:
            raise UsageError("images with the labels", "labels alone", mend="check(model, images, labels)")
        labels = _labels(labels, images)
    steps = steps_of(steps)
    if images is not None and images.dim() == 5:
        steps, encoder = frames_of(images, steps, encoder), encoder or Frames()
    if accuracy is not None:
        _check_accuracy(accuracy, labels)
    module = module_of(model)
    asking = _Asking(module, readout, encoder, accuracy, spikes)
    device = torch.device("cpu") if images is None else images.device
    with preserved(module, registered(module)), forked(device), told("check", 8 + len(BEHAVIOUR)) as progress:
        asking.run(images, labels, shape, steps, step_mode, progress)
    return Checked(tuple(asking.results), None if asking.refused else asking.victim)


def _images(given: object) -> Tensor:
    """Images that `check` can ask about; UsageError for others."""
    images = images_of(given)
    if images.dim() not in (4, 5) or len(images) < 2:
        shape = tuple(images.shape)
        mend = {
            3: "images[:, None] of grey ones, images[None] of one alone",
            4: "two different images or more",
            5: "two different grids or more",
        }.get(images.dim(), "four axes, or five of events")
        raise UsageError("two images (N,C,H,W), or grids of events (N,T,2,H,W), or more", shape, mend=mend)
    return images


def _labels(given: object, images: Tensor) -> Tensor:
    try:
        return labels_of(given, len(images), images.device)
    except SpikeproofError as error:
        raise UsageError("one label for each image given, whole numbers", error.got, mend=error.mend) from error


def _check_accuracy(accuracy: float, labels: Tensor | None) -> None:
    if labels is None:
        raise UsageError(
            "labels with the accuracy to be met", "none", mend="check(model, images, labels, accuracy=...)"
        )
    if not (isinstance(accuracy, int | float | np.number) and 0 <= accuracy <= 1):
        raise UsageError("accuracy as a share in [0,1]", repr(accuracy), mend="0.92 for 92 %")


def check_path(
    path: str,
    images: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    weights: Path | None = None,
    shape: Sequence[int] | None = None,
    steps: int | None = None,
    step_mode: StepMode | None = None,
    accuracy: float | None = None,
) -> Checked:
    """`check` of what the factory at a dotted path 'package.module:make' makes, with weights from a file.

    The results begin with those of the factory and the file. UsageError where the path names nothing to call.
    """
    make = factory(path)
    before = _Asking(nn.Identity(), None, None, None)
    network: list[Callable[..., Any]] = []

    def called_factory() -> str:
        network.append(made(make, path))
        return f"{path} makes {type(network[0]).__name__}"

    fit = before.ask("factory", called_factory)
    if fit and weights is not None:
        fit = before.ask("weights", lambda: weighted(network[0], weights))
    if not fit:
        return Checked(tuple(before.results), None)
    rest = check(network[0], images, labels, shape=shape, steps=steps, step_mode=step_mode, accuracy=accuracy)
    return Checked((*before.results, *rest.results), rest.victim)


class _Asking:
    """The questions in their order, each on what the ones before have left."""

    def __init__(
        self, model: nn.Module, readout: Readout | None, encoder: Encoder | None, accuracy: float | None,
        spikes: Named | None = None,
    ) -> None:  # fmt: skip
        self.owner, self.model, self.readout, self.encoder = model, model, readout, encoder
        self.accuracy, self.spikes = accuracy, spikes
        self.results: list[CheckResult] = []
        self.victim: Wrapped | None = None
        self.neurons = False

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

    def _sound(self, name: str, question: Callable[..., str | None], *about: Any) -> bool:
        """A question that returns nothing where there is nothing to say."""

        def answer() -> str:
            return question(*about) or _OK[name]

        return self.ask(name, answer)

    def run(
        self, images: Tensor | None, labels: Tensor | None, shape: Sequence[int] | None, steps: int | None,
        step_mode: Literal["m", "s"] | None, progress: Progress,
    ) -> None:  # fmt: skip
        where = images if images is not None else torch.zeros(1)
        for name, question in DEPLOYED.items():
            if not self._sound(name, question, self.model, where) and name == "framework":
                return  # what follows would ask for what its neurons do not have
        fit = not self.refused
        if images is not None and images.dtype not in PRECISIONS:
            images = where = images.float()
        progress("layout")
        if not self.ask("copy", lambda: self._mended(where)) or not self._placed(images, shape, steps, step_mode):
            return
        self.owner = self.owner if fit else self.model
        self.model = twin(self.model, without=self._lookers())
        progress("neurons")
        self.ask("neurons", self._neurons)
        self.plain = self._victim()
        progress("call")
        if not self.ask("call", self._called):
            return
        trial = Trial(borrowed(self.plain), self.images, exact if isinstance(self.model, Asked) else ATan())
        for name, probe in BEHAVIOUR.items():
            progress(name)
            self._sound(name, probe, trial)
        progress("gradient")
        if isinstance(self.model, Asked):
            self.results.append(CheckResult("gradient", "warn", "a bare callable has none", "black-box attacks only"))
        else:
            self.ask("gradient", lambda: gradient_of(borrowed(self.plain), self.images))
        progress("normalisation")
        timed = self.layout.steps is not None or self.neurons
        if self.images.dim() == 4:  # events are not normalised: they are there or not
            self.ask("normalisation", lambda: normalisation_of(trial, labels, timed=timed))
        if labels is not None:
            self.ask("accuracy", lambda: self._accuracy(labels))
        progress("wrap")
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

        def layout() -> str | tuple[str, str]:
            refusals = []
            for self.images in tried:
                try:
                    self.layout = layout_of(self.model, self.images, steps, mode, self.readout)
                except SpikeproofError as error:
                    refusals.append(error)
                    continue
                tried_on = "" if images is not None else f"; tried on random images {tuple(self.images.shape[1:])}"
                says = f"{self.layout.says}{tried_on}; wrap(model, images{self.layout.call})"
                if self.layout.tried:
                    return f"{says}, tried with T = {self.layout.steps}", "steps=T, as many as in training"
                return says
            raise refusals[0]

        return self.ask("layout", layout)

    def _lookers(self) -> frozenset[int]:
        """Hooks that only look; none where the network cannot be called, which is said by the next question."""
        try:
            return lookers(self.model, lambda network: answers_of(
                network, self.layout, self.images, self.encoder or Direct(), self.readout, 3))  # fmt: skip
        except SpikeproofError:
            return frozenset()

    def _victim(self) -> Wrapped:
        """The network as its owner calls it, not rewired."""
        body = self.layout.body(twin(self.model), self.readout, self.images.shape[-3], rewired=False)
        return Wrapped(body, self.encoder or Direct(), self.layout.steps or 1).eval()

    def _neurons(self) -> str | tuple[str, str]:
        """Rewires a copy, which refuses neurons that are not what they seem."""
        body = Foreign(twin(self.model), "images", self.readout, self.images.shape[-3])
        names = [site.name for site in body.sites()]
        self.neurons = bool(names or body.foreign)
        if found := faults_of(self.model, body):
            return found
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
        able = answering(self.plain.body.network, "a model that can be called", "call it by hand in eval mode")
        with able, torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            self.logits: Tensor = self.plain(self.images.clone(), exact, self._keys())
        if not bool(torch.isfinite(self.logits).all()):
            raise SpikeproofError("finite logits", "NaN or infinity", mend="look at the weights")
        self.plain.body.classes = self.logits.shape[1]
        return f"{len(self.images)} images {tuple(self.images.shape[1:])} -> logits {tuple(self.logits.shape)}"

    def _keys(self) -> Tensor:
        return image_keys(0, torch.arange(len(self.images))).to(self.images.device)

    def _accuracy(self, labels: Tensor) -> str | tuple[str, str]:
        check_labels(self.plain, self.images, labels)
        right = int((self.logits.argmax(1) == labels).sum())
        share = clopper_pearson(right, len(labels))
        says = str(share) + (f", at {self.layout.steps} steps, which were tried" if self.layout.tried else "")
        if self.accuracy is not None:
            claimed = f"{100 * self.accuracy:.4g} % of its owner"
            if not share.low <= self.accuracy <= share.high:
                mend = "the owner's steps, encoder, normalisation, weights and images"
                return f"{says}: not met, the {claimed} lie outside of the interval", mend
            says = f"{says}: the {claimed} are met"
        if share.low <= 1 / self.plain.classes:
            return f"{says}: not above chance", "weights, order of the classes, range of the pixels"
        return says

    def _wrapped(self) -> str | tuple[str, str]:
        layout = self.layout
        self.victim = wrap(
            self.owner, self.images, steps=layout.steps, readout=self.readout, step_mode=layout.step_mode,
            encoder=self.encoder if layout.steps else None, spikes=self.spikes,
        )  # fmt: skip
        if self.victim.apart:
            return next(
                note for note in self.victim.notes if note.startswith("logits differ")
            ), "a fused kernel rounds in other places; say so beside the numbers"
        return "a rewired copy gives the logits of the model itself, bit for bit"

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
    "framework": "none that is too old to be known",
    "mode": "eval mode everywhere",
    "device": "all weights where the images are",
    "precision": "all weights of the images' precision",
    "finite": "no weight is NaN or infinite",
    "prints": "nothing is printed",
    "input left alone": "the input is not changed",
    "state and noise": "every call starts from rest, and draws no noise",
    "images apart": "an image's logits are its own",
    "output": "logits, no probabilities",
    "batches": "an image alone, two, and all but one are taken",
    "graphs": "no graph is kept after a call",
}


def _random(shape: Sequence[int]) -> Tensor:
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape) > IMAGE_PIXELS:
        raise UsageError(f"the shape of one image, (C,H,W), of at most {IMAGE_PIXELS} values", tuple(shape))
    return uniform(image_keys(0, torch.arange(8)), tuple(shape))


def _shapes(model: nn.Module) -> list[tuple[int, int, int]]:
    """Usual shapes of images, with the channels of the first convolution where there is one."""
    first = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return [(c, s, s) for s in (32, 28, 8, 64, 224) for c in ([first] if first else [1, 3])]
