"""Finds the spikes that a network makes by code of its own: what is looked at, what is asked of it, what is held.

Classes of `autograd.Function` are found in the graph of the logits, straight-through terms among the operations of a
call. Both are kept only where a call under a rule gives the very logits of the owner's code.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.interop._borrowing import answering, hookable, hooked, seeded, tensors_in
from spikeproof.interop._doors import Kind, apart, watched
from spikeproof.interop._foreign import Asked, Foreign
from spikeproof.interop._step import Step, places, step_of
from spikeproof.interop._terms import Search, Swap, Term
from spikeproof.interop.own_spikes import Fires, OwnSpikes, Spot, spot
from spikeproof.interop.sites import keep, known
from spikeproof.rules.atan import ATan
from spikeproof.tensors import heaviside, image_keys, uniform
from spikeproof.types import Rule
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Named", "check_named", "find_spikes"]

Named = Mapping[type, str]
"""A class of `autograd.Function` or of modules -> the name of the argument of its forward that is the membrane."""

_Spots = dict[Kind | Term, Spot]


def check_named(named: Any) -> None:
    """UsageError for `spikes` that are no mapping from classes to names of arguments; None is no name at all."""
    if named is None:
        return
    fit = isinstance(named, Mapping) and all(
        isinstance(kind, type) and issubclass(kind, torch.autograd.Function | nn.Module) and isinstance(name, str)
        for kind, name in named.items()
    )
    if not fit:
        raise UsageError(
            "spikes as a class of autograd.Function or nn.Module with the name of its membrane", repr(named),
            mend="spikes={MySpike: 'v'}: the class itself, and the argument of its forward",
        )  # fmt: skip


def find_spikes(victim: Victim, images: Tensor, named: Named | None = None) -> None:
    """Puts into a wrapped victim what is found of spikes of its network's own; `named` says where a membrane is.

    Raises UsageError for a class that is named and not called, and SpikeproofError for one that makes no spikes of what
    was named.
    """
    body = victim.body
    assert isinstance(body, Foreign)
    compiled = any(type(module).__name__ == "OptimizedModule" for module in body.modules())
    rule = next((rule for rule in (ATan(), ATan(through_reset=True)) if body.objection(rule) is None), None)
    if isinstance(body.network, Asked) or compiled or rule is None:  # what is compiled is not what its owner wrote
        return
    look = _Look(victim, images, rule)
    modules = {kind: name for kind, name in (named or {}).items() if issubclass(kind, nn.Module)}
    look.modules(modules)
    seen = look.terms() + look.functions({kind: name for kind, name in (named or {}).items() if kind not in modules})
    kept = look.sound({one.thing: one.spot for one in seen if one.spot is not None})
    body.own_spikes = look.own(kept)
    within = [module for one in seen if one.thing in kept for module in one.modules]
    lost = [one.name for one in seen if one.thing not in kept]
    body.foreign = (*(name for name in body.foreign if not any(f"{m}.".startswith(f"{name}.") for m in within)), *lost)
    body.rule = body.rule_of_training()
    if kept and body.rule is not None and (mute := look.mute(body.rule)) > look.size / 2:
        body.mute = f"{body.rule} gives no gradient for {mute} of {look.size} images: {rule} stands for it"
        body.rule = rule


@dataclass
class _Seen:
    """Something that makes two values of more, its step where it makes one, and the modules that it was met in."""

    thing: Kind | Term
    name: str
    spot: Spot | None
    modules: set[str] = field(default_factory=set)


@dataclass
class _Met:
    """The first call of a class, without graphs: arguments, whether each has a gradient, and what was returned.

    of_images: whether what was returned in every call had a row for each image.
    """

    kind: Kind
    args: tuple[Any, ...]
    live: tuple[bool, ...]
    returned: Any
    of_images: bool = True
    modules: set[str] = field(default_factory=set)

    @property
    def among(self) -> list[int]:
        """Arguments that may be the membrane."""
        if not isinstance(self.returned, Tensor) or not self.returned.is_floating_point():
            return []
        return [i for i, arg in enumerate(self.args) if self.live[i] and arg.shape == self.returned.shape]

    @property
    def binary(self) -> bool:
        """Whether it made two values of more: what makes two of two may be a pool."""
        two = [t for t in tensors_in(self.returned) if t.is_floating_point() and _two(t)]
        if self.writes:  # what it was given is not there any more
            return bool(two)
        return any(not any(_two(arg) for arg in tensors_in(self.args) if arg.shape == t.shape) for t in two)

    @cached_property
    def writes(self) -> bool:
        """Whether it writes into what it is given, so that nothing can be said of that afterwards."""
        # At other values: these may be what it has written.
        args = tuple(arg + 0.37 if _is_float(arg) else arg for arg in self.args)
        given = tuple(arg.clone() if isinstance(arg, Tensor) else arg for arg in args)
        with torch.no_grad():
            self.kind.apply(*given)  # type: ignore[no-untyped-call]
        pairs = [(was, now) for was, now in zip(args, given, strict=True) if isinstance(was, Tensor)]
        return any(now._version or not torch.equal(was, now) for was, now in pairs)

    def step(self, name: str | None) -> Step | None:
        """By the argument of that name alone, where there is one."""
        among = self.among
        if name is not None:
            number = places(self.kind.forward, name, after=0 if apart(self.kind) else 1)
            among = [i for i in among if i == number]
        return step_of(self.kind.apply, self.args, among)

    def differentiate(self, membrane: int) -> None:
        """Raises SpikeproofError where the owner's backward raises, or has nothing for the membrane."""
        live = [i for i in range(len(self.args)) if self.live[i]]
        args = [arg.clone() if isinstance(arg, Tensor) else arg for arg in self.args]
        args = [arg.requires_grad_() if i in live else arg for i, arg in enumerate(args)]
        with torch.enable_grad():
            out: Tensor = self.kind.apply(*args)  # type: ignore[no-untyped-call]
            try:
                slopes = torch.autograd.grad(out, [args[i] for i in live], torch.ones_like(out), allow_unused=True)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # it is the owner's
                text = str(error).strip().partition("\n")[0]
                raise _no_backward(self.kind, f"{type(error).__name__}: {text}") from error
        if slopes[live.index(membrane)] is None:
            raise _no_backward(self.kind, "None for the membrane")

    def alone(self, step: Step) -> Callable[[Tensor], Tensor]:
        """The owner's spikes (n,) of heights (n,), in the company of the first element of every other argument."""
        others = tuple(arg.flatten()[0].double().cpu() if _is_float(arg) else arg for arg in self.args)

        def own(height: Tensor) -> Tensor:
            args = list(others)
            args[step.membrane] = height.double() + step.level(others)
            try:
                out: Tensor = (self.kind.apply(*args) - step.low) / step.swing(others)  # type: ignore[no-untyped-call]
            except Exception:  # whatever an owner's code says of shapes that it never gets
                return heaviside(height.detach())
            return out.to(height.dtype)

        return own if _passes(own) else heaviside


def _passes(own: Callable[[Tensor], Tensor]) -> bool:
    """Whether an owner's backward takes single heights as its forward does."""
    try:
        known(own, through_reset=False)
    except Exception:  # whatever it says of shapes that it never gets
        return False
    return True


def _is_float(arg: Any) -> bool:
    return isinstance(arg, Tensor) and arg.is_floating_point()


def _two(values: Tensor) -> bool:
    low, high = torch.aminmax(values)
    return bool(((values == low) | (values == high)).all())


def _kinds(logits: Tensor) -> list[Kind]:
    """Classes of functions in a graph, but those of torch."""
    found: dict[Kind, None] = dict.fromkeys(type(node)._forward_cls for node in _nodes(logits))
    return [kind for kind in found if kind.__module__.partition(".")[0] != "torch"]


def _nodes(logits: Tensor) -> Iterator[Any]:
    """Calls of functions in a graph, each the context that its forward was given."""
    seen, todo = set(), [logits.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [parent for parent, _ in node.next_functions]
        if isinstance(node, BackwardCFunction):
            yield node


@contextlib.contextmanager
def _place(network: nn.Module) -> Iterator[Callable[[], str]]:
    """The name of the module that is being called."""
    inside: list[str] = [""]

    def enter(name: str) -> Any:
        return lambda module, inputs: inside.append(name)

    def leave(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        inside.pop()

    handles = [module.register_forward_pre_hook(enter(name)) for name, module in hookable(network)]
    try:
        with hooked(network, leave):
            yield lambda: inside[-1]
    finally:
        for handle in handles:
            handle.remove()


class _Look:
    """Calls of copies of a victim on images, their negatives and noise: what one leaves silent another may not."""

    def __init__(self, victim: Victim, images: Tensor, rule: Rule) -> None:
        self.victim, self.rule, self.size = victim, rule, len(images)
        self.body: Foreign = victim.get_submodule("body")  # type: ignore[assignment]
        keys = image_keys(0, torch.arange(len(images))).to(images.device)
        noise = uniform(keys, images.shape[1:]).to(images)
        self.codes = [victim.encode(x, keys).detach() for x in (images, 1.0 - images, noise)]
        self.expected: list[Tensor] = []
        self.kinds: list[Kind] = []

    def mute(self, rule: Rule) -> int:
        """For how many of the images a rule gives the code no gradient at all, or one that is not finite."""
        z = self.codes[0].clone().requires_grad_()
        logits = borrowed(self.victim).classify(z, rule)
        total = (logits @ torch.linspace(-1.0, 1.0, logits.shape[1]).to(logits)).sum()
        (slopes,) = torch.autograd.grad(total, z, allow_unused=True)
        if slopes is None:
            return 0  # what cuts the graph is another question
        size = slopes.abs().amax(0).flatten(1).amax(1)
        return int((~((size > 0) & torch.isfinite(size))).sum())

    def call(self, z: Tensor, watch: Callable[[Foreign], Any] = lambda body: contextlib.nullcontext()) -> Tensor:
        """Logits with their graph."""
        copy = borrowed(self.victim)
        body: Foreign = copy.get_submodule("body")  # type: ignore[assignment]
        able = answering(body.network, "a forward that can be differentiated", "call it by hand on x.requires_grad_()")
        with able, seeded(z.device), torch.enable_grad(), contextlib.redirect_stdout(io.StringIO()), watch(body):
            return copy.classify(z.clone().requires_grad_(), self.rule)

    def modules(self, named: Named) -> None:
        """Has the rule make the spikes of every module of a class that is named."""
        every = dict(self.body.network.named_modules())
        fires = {name: module for name, module in every.items() if any(isinstance(module, kind) for kind in named)}
        unmet = [kind for kind in named if not any(isinstance(m, kind) for m in fires.values())]
        if unmet:
            raise _unmet(unmet[0], sorted({type(m).__name__ for m in every.values()}))
        calls: dict[str, tuple[nn.Module, tuple[Any, ...]]] = {}

        @contextlib.contextmanager
        def watch(body: Foreign) -> Iterator[None]:
            def seen(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
                if name in fires:
                    calls.setdefault(name, (module, _copied(inputs)))

            with hooked(body.network, seen):
                yield

        before = self.call(self.codes[0], watch)
        for name, module in fires.items():
            if name not in calls:
                continue
            (copy, args), argument = calls[name], next(named[kind] for kind in named if isinstance(module, kind))
            number = places(type(module).forward, argument, after=1)
            step = step_of(copy.forward, args, [number] if number is not None and number < len(args) else [])
            if step is None:
                raise _no_step(name, argument)
            rows = all(t.shape[:1] == (self.size,) for t in tensors_in(args[step.membrane]))
            found = spot(name, step, self.body.switch, of_images=rows)
            module.add_module("spikes", found.site.eval())
            keep(module, forward=Fires(module, found))
        if not torch.equal(self.call(self.codes[0]), before):
            raise SpikeproofError("spikes that keep the logits", f"others with {next(iter(named)).__name__} named")

    def functions(self, named: Named) -> list[_Seen]:
        """What is found of classes, and every one that is named."""
        met: dict[Kind, _Met] = {}
        here: set[Any] = set()

        @contextlib.contextmanager
        def watch(body: Foreign) -> Iterator[None]:
            def told(kind: Kind, context: Any, args: tuple[Any, ...], returned: Any) -> None:
                here.add(context)
                if body.switch.aside or not any(context.needs_input_grad):
                    return
                if kind not in met:
                    given = tuple(arg.detach().clone() if isinstance(arg, Tensor) else arg for arg in args)
                    met[kind] = _Met(kind, given, context.needs_input_grad, _copied(returned))
                met[kind].modules.add(where() or "network")
                met[kind].of_images &= all(t.shape[:1] == (self.size,) for t in tensors_in(returned))

            with _place(body.network) as where, watched(kinds, told):
                yield

        kinds = {*self.kinds, *(kind for kind in named if issubclass(kind, torch.autograd.Function))}
        logits = self.call(self.codes[0], watch) if kinds else self.expected[0]
        beside = {type(node)._forward_cls for node in _nodes(logits) if node not in here} & kinds
        if of_them := beside & set(named):
            raise _beside(of_them.pop())
        unmet = [kind for kind in named if kind not in met]
        if unmet:
            raise _unmet(unmet[0], [kind.__name__ for kind in met])
        found = [seen for kind in met if kind not in beside and (seen := self._of(met[kind], named.get(kind)))]
        lost = [_Seen(kind, kind.__name__, None, met[kind].modules if kind in met else set()) for kind in beside]
        return found + sorted(lost, key=lambda seen: seen.name)

    def _of(self, met: _Met, name: str | None) -> _Seen | None:
        """None for what makes no spikes at all."""
        if met.writes and name is not None:
            raise _writes(met.kind)
        step = None if met.writes else met.step(name)
        if step is None and name is not None:
            raise _no_step(met.kind.__name__, name)
        if step is None:
            return _Seen(met.kind, met.kind.__name__, None, met.modules) if met.binary else None
        met.differentiate(step.membrane)
        found = spot(met.kind.__name__, step, self.body.switch, met.alone(step), of_images=met.of_images)
        return _Seen(met.kind, met.kind.__name__, found, met.modules)

    def terms(self) -> list[_Seen]:
        """What is found of straight-through terms; comes first, for its calls tell the logits and the classes too."""
        seen: dict[Term, _Seen] = {}

        @contextlib.contextmanager
        def watch(body: Foreign) -> Iterator[None]:
            with _place(body.network) as where, Search(lambda: body.switch.aside, where) as search:
                yield
            for term, module, total in search.terms:
                kind = type(body.network.get_submodule(module)).__name__
                name = f"{kind}, straight through" if not seen else f"{kind}, straight through {len(seen) + 1}"
                met = seen.setdefault(term, _Seen(term, name, None, set()))
                rows = total.shape[:1] == (self.size,) and (met.spot is None or met.spot.of_images)
                if term in search.clear:
                    met.spot = spot(met.name, term.step, self.body.switch, of_images=rows)
                met.modules.add(module or "network")

        self.expected = [self.call(z, watch) for z in self.codes]
        self.kinds = _kinds(self.expected[0])
        return list(seen.values())

    def own(self, spots: _Spots) -> OwnSpikes:
        """All of these, and how many terms come in a call; 0 where that depends on the images."""
        terms = {thing: spot for thing, spot in spots.items() if isinstance(thing, Term)}
        functions = {thing: spot for thing, spot in spots.items() if not isinstance(thing, Term)}
        counts = {self._count(terms, z) for z in self.codes} if terms else {0}
        return OwnSpikes(self.body.switch, functions, terms, counts.pop() if len(counts) == 1 else 0)

    def _count(self, terms: dict[Term, Spot], z: Tensor) -> int:
        counts: list[int] = []

        @contextlib.contextmanager
        def watch(body: Foreign) -> Iterator[None]:
            with Swap(lambda: body.switch.aside, terms, lambda term, sides, total: total) as swap:
                yield
            counts.append(swap.met)

        self.call(z, watch)
        return counts[0]

    def sound(self, spots: _Spots) -> _Spots:
        """Those that change no logit, one by one and together."""
        alone = {thing: spot for thing, spot in spots.items() if self._holds({thing: spot})}
        return alone if len(alone) < 2 or self._holds(alone) else {}

    def _holds(self, spots: _Spots) -> bool:
        self.body.own_spikes = self.own(spots)
        try:
            for z, expected in zip(self.codes, self.expected, strict=True):
                logits = self.call(z)
                if not torch.equal(logits, expected):
                    return False
                torch.autograd.backward(logits.sum())
        except torch.OutOfMemoryError:
            raise
        except Exception:  # spikes that are no step in every call, a node that takes no hook, a backward that raises
            return False
        finally:
            self.body.own_spikes = OwnSpikes(self.body.switch)
        return True


def _unmet(kind: type, met: list[str]) -> UsageError:
    return UsageError(
        "classes that the network calls, in spikes", kind.__name__, valid=met,
        mend="name the autograd.Function whose apply gives the spikes, or the module whose forward does",
    )  # fmt: skip


def _no_step(name: str, argument: str) -> SpikeproofError:
    return SpikeproofError(
        f"spikes of two heights in {name!r}, the higher where {argument!r} reaches a threshold", "a function without",
        mend="name the argument of its forward that is compared with the threshold",
    )  # fmt: skip


def _beside(kind: Kind) -> SpikeproofError:
    return SpikeproofError(
        f"calls of {kind.__name__!r} from the thread that calls the network", "some from another thread",
        mend="no parallel threads inside the network",
    )  # fmt: skip


def _no_backward(kind: Kind, got: str) -> SpikeproofError:
    return SpikeproofError(
        f"a gradient from the backward of {kind.__name__!r}", got,
        mend="call loss.backward() by hand on x.requires_grad_(): its own backward must run",
    )  # fmt: skip


def _writes(kind: Kind) -> SpikeproofError:
    return SpikeproofError(
        f"spikes of {kind.__name__!r} beside its argument", "a forward that writes into what it is given",
        mend="no operation in place on an argument in its forward, (v > 0).float() for v.gt_(0)",
    )  # fmt: skip


def _copied(returned: Any) -> Any:
    if isinstance(returned, Tensor):
        return returned.detach().clone()
    return tuple(_copied(one) for one in returned) if isinstance(returned, tuple | list) else returned
