"""What a row is: one type for each kind, and its check. Rows are plain dicts, as JSON and as packed columns hold them.

`Row` is a line of rows.jsonl and says its `kind`; `GradientRow` one of gradients.jsonl; `HistoryRow` one of
history.jsonl. Whoever writes, reads or makes up a row does so through these types. `image` is the image's id in its
data set, `label` its true class, `predicted` the class that the clean image is given. `eps` is the budget on the
threat's own scale at 9 significant digits, `eps_text` as the study wrote it; other floats have 6 digits.
"""

# No `from __future__ import annotations`: with it, a TypedDict does not know which of its keys are NotRequired.

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    TypeAlias,
    TypedDict,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from spikeproof.errors import SpikeproofError
from spikeproof.lines import DAMAGED, Lines, lacking

__all__ = [
    "AttackHead", "AttackRow", "AuditFinding", "AuditRow", "BatchNorm", "Breaks", "CleanRow", "CorruptionRow",
    "EnergyRow", "Found", "GradientRow", "HistoryRow", "Line", "Mark", "Measures", "OfGradient", "Outcome", "Protocol",
    "RobustRow", "Row", "Scalar", "SiteRow", "Spent", "Split", "SupportRow", "TheoryRow", "Tightness", "WeightRow",
    "columns", "fault", "fits", "lacking", "of_kind", "refuse_foreign", "refuse_twice",
]  # fmt: skip

Split: TypeAlias = Literal["train", "validation", "test"]
Protocol: TypeAlias = Literal["pixels", "panel", "paper"]

Breaks: TypeAlias = Literal["nothing", "unsettled", "not evaluated", "overstated"]
"""What a red audit makes of a robust accuracy. 'overstated' stands in rows of before there were three readings."""
Measures: TypeAlias = dict[str, float | None]
"""Measure of `spikeproof.metrics.sparsity` -> value, at grids of events its `event_measures` too; None where it does
not exist, because the gradient is all zero, or no cell is of the kind."""


# --- lines of rows.jsonl ---


class CleanRow(TypedDict):
    """One image as it is, judged by the deployed network."""

    kind: Literal["clean"]
    split: Split
    image: int
    label: int
    predicted: int
    margin: float  # the true logit less the largest other: above 0 where the answer is right


class Spent(TypedDict):
    """What one image cost: passes through the network, one for each image in a batch."""

    forwards: int
    backwards: int


class OfGradient(TypedDict):
    """Of the attacked loss at the clean point."""

    zero_gradient: bool  # whether every entry is exactly 0
    zero_share: float  # share of entries that are exactly 0, in [0,1]
    gradient_l1: float


class Outcome(Spent):
    """What one attack made of one image."""

    attacked: int  # the class given to the point that the attack proposed; over draws of noise, the majority's
    fooled: bool  # whether that is wrong; an image that is wrong when clean is not attacked and counts as fooled
    distance: float  # of the point from the clean one in the norm of the threat; 0 where skipped
    margin: float  # as in CleanRow, at the point
    skipped: NotRequired[bool]  # True where it was not attacked: wrong when clean, or fooled by a stage before
    draws_right: NotRequired[float]  # share of fresh draws that are right, in [0,1]; where the code is random
    twin_differs: NotRequired[bool]  # whether the frozen twin it was crafted on answers otherwise; where there is one
    attacked_deployed: NotRequired[int]  # protocol 'paper': the class by the network as it is deployed
    # As in OfGradient; where the image was attacked and the gradient looked at.
    zero_gradient: NotRequired[bool]
    zero_share: NotRequired[float]
    gradient_l1: NotRequired[float]


class _Head(TypedDict):
    """Which attack at which budget."""

    evaluation: str
    protocol: Protocol
    surface: str
    norm: str
    eps: float
    eps_text: str
    attack: str
    # Of a panel: its tier, and the kind of attack that the stage is, 'first', 'white box' and so on.
    tier: NotRequired[str]
    group: NotRequired[str]


class AttackHead(_Head):
    """The fields that the rows of one attack at one budget share."""

    kind: Literal["attack"]


class _Attacked(_Head, Outcome):
    image: int
    label: int
    predicted: int


class AttackRow(_Attacked):
    """One image under one attack at one budget, of any protocol."""

    kind: Literal["attack"]


class RobustRow(_Attacked):
    """One image under the attack that compares training images with others; of no panel."""

    kind: Literal["robust"]
    split: Split


class Mark(TypedDict):
    """Which panel at which budget."""

    evaluation: str
    eps: float
    eps_text: str
    tier: str


class Found(TypedDict):
    """What one audit found."""

    code: str  # D1..D22, or 'attacks' for the attacks that were left out
    name: str
    colour: Literal["green", "red", "not run"]
    value: float | None  # in the audit's own unit, as limit; None where not measured
    limit: float | None
    n: int  # images it rests on
    says: str
    means: str
    mend: str
    breaks: Breaks  # what a red one makes of the number
    detail: dict[str, object]  # the audit's own


class AuditFinding(Found):
    """The same as the start of a row."""

    kind: Literal["audit"]


class AuditRow(AuditFinding, Mark):
    """One audit of one panel."""


class CorruptionRow(TypedDict):
    """One test image under one corruption."""

    kind: Literal["corruption"]
    corruption: str
    image: int
    label: int
    predicted: list[int]  # at severity 1, 2, ...


class EnergyRow(TypedDict):
    """One inference of one image."""

    kind: Literal["energy"]
    image: int
    label: int
    steps: int
    layers: dict[str, list[int]]  # layer -> effective ACs, effective MACs, dense operations
    sites: dict[str, list[int]]  # layer of neurons -> spikes, neurons times steps


class TheoryRow(TypedDict):
    """One image, moved into [eps, 1 - eps], beside what first-order theory says of it."""

    kind: Literal["theory"]
    eps: float
    eps_text: str
    image: int
    label: int
    l1: float  # l1, l2, l0: of the gradient of the true class's probability
    l2: float
    l0: float  # entries that are not 0
    ce_l1: float  # of the gradient of the cross-entropy
    rho_adv: float  # the largest squared change of the probability found in the ball
    rho_rand: float  # its mean over random points of the ball
    rise: float  # how far an attack raises the cross-entropy, at least 0


class Tightness(TypedDict):
    """One weight's gradient and its bounds, as shares of `size`, in [0,1]; see `measures.theory.support_rows`."""

    size: int  # weights that can ever meet a pixel
    support: float
    product: float
    count: float
    density: float
    delta: float  # share of the entries of the gradient at the layer's output that are not 0


class SupportRow(TypedDict):
    """One image: how dense the gradient of each weight is, and can be."""

    kind: Literal["support"]
    image: int
    label: int
    layers: dict[str, Tightness]


Row: TypeAlias = CleanRow | AttackRow | AuditRow | RobustRow | CorruptionRow | EnergyRow | TheoryRow | SupportRow


# --- lines of gradients.jsonl and history.jsonl ---


Scalar: TypeAlias = Literal["ce", "probability", "margin"]
"""What is differentiated: cross-entropy, the true class's probability, z_y - max other."""

BatchNorm: TypeAlias = Literal["eval", "train"]
"""Running statistics, or those of the batch."""


class _Gradient(TypedDict):
    image: int
    label: int
    site: str  # 'image', 'encoded' or a layer; 'weights' for all of them, 'weight:LAYER' for one
    scalar: Scalar
    batchnorm: BatchNorm
    order: int  # of the site in the forward pass
    size: int  # entries
    summed: Measures  # of the gradient summed over time


class SiteRow(_Gradient):
    """The gradient of one image at one place."""

    side: Literal["input", "output"]  # of the layer
    steps: NotRequired[
        dict[str, list[float | None]]
    ]  # measure -> at each time step; not packed, nor at 'image' but for events


class WeightRow(_Gradient):
    """The gradient of one image's cross-entropy with respect to weights."""

    side: Literal["weight"]
    masked_share: (
        float  # of them that only ever see padding and are left out, in [0,1]; of 'weights': of all parameters
    )


GradientRow: TypeAlias = SiteRow | WeightRow


class HistoryRow(TypedDict):
    """One epoch of training."""

    epoch: int  # from 1
    loss: float  # mean over batches; of validation, mean cross-entropy
    validation_loss: float
    validation_accuracy: float  # in [0,1]
    validation_robust_accuracy: NotRequired[float]  # where the kept epoch is chosen by it


Line: TypeAlias = Row | GradientRow | HistoryRow
"""A line of any of the three files."""


# --- one kind of many ---


R = TypeVar("R", bound=Mapping[str, object])

_KINDS: dict[str, Any] = {str(get_args(get_type_hints(kind)["kind"])[0]): kind for kind in get_args(Row)}


def of_kind(rows: Iterable[Row], kind: type[R]) -> list[R]:
    """The rows of one kind, `AttackRow` for one. Raises SpikeproofError where a row has no kind, and where one of this
    kind lacks a field. Whoever asks for several kinds gives `Lines`, which are told apart once."""
    return _lines(rows).of(*_named(kind))


def columns(rows: Iterable[Row], kind: type[R], *fields: str) -> list[list[Any]]:
    """The same as `[row.get(field) for row in of_kind(rows, kind)]` of every field, with the same refusals."""
    return _lines(rows).columns(fields, *_named(kind))


def _lines(rows: Iterable[Row]) -> Lines[Any]:
    return rows if isinstance(rows, Lines) else Lines(rows)


@cache
def _named(kind: Any) -> tuple[str, frozenset[str]]:
    """What the rows of a kind say of it, and the fields that they need."""
    return next(name for name, known in _KINDS.items() if known is kind), kind.__required_keys__


# --- the check ---


_ATTACK = ("evaluation", "surface", "norm", "eps_text", "attack", "image")

_NAMES: dict[str, tuple[str, ...]] = {
    "clean": ("split", "image"),
    "attack": _ATTACK,
    "audit": ("evaluation", "eps_text", "code", "name"),
    "robust": ("split", *_ATTACK),
    "corruption": ("corruption", "image"),
    "energy": ("image",),
    "theory": ("eps_text", "image"),
    "support": ("image",),
}
"""Kind -> the fields by which a row of it is told from the others of its cell."""

_OF_GRADIENT, _OF_EPOCH = ("side", "site", "order", "scalar", "batchnorm", "image"), ("epoch",)


def refuse_twice(rows: Iterable[Mapping[str, Any]]) -> None:
    """Raises SpikeproofError for the first of these rows of one file that is there already, whatever it says."""
    seen: set[tuple[object, ...]] = set()
    for row in rows:
        names = _NAMES[row["kind"]] if "kind" in row else _OF_EPOCH if "epoch" in row else _OF_GRADIENT
        this = row.get("kind"), *(row[name] for name in names)
        if this in seen:
            what = {name: row[name] for name in names}
            raise SpikeproofError(f"one row of {what}", "two", mend=DAMAGED)
        seen.add(this)


def refuse_foreign(rows: Iterable[Mapping[str, Any]]) -> None:
    """Raises SpikeproofError, which names the field, for the first that is a row of no type."""
    for number, row in enumerate(rows, start=1):
        if what := fault(row):
            raise SpikeproofError("rows of known types", f"{what} in row {number}", mend=DAMAGED)


def fault(row: Mapping[str, Any]) -> str | None:
    """What is wrong with a row of any of the three files, or None: every field that must be there is, no other is, and
    each has its type."""
    if "kind" in row:
        wanted = _KINDS.get(str(row["kind"]))
        if wanted is None:
            return f"kind: {row['kind']!r}"
    elif "epoch" in row:
        wanted = HistoryRow
    else:
        wanted = WeightRow if row.get("side") == "weight" else SiteRow
    return _fault_in(row, wanted)


def _fault_in(row: Mapping[str, Any], wanted: Any) -> str | None:
    fields = _fields(wanted)
    if missing := wanted.__required_keys__ - row.keys():
        return f"no {min(missing)}"
    for name, value in row.items():
        if name not in fields:
            return f"an unknown {name}"
        if not fields[name](value):
            return f"{name}: {value!r}"
    return None


@cache
def _fields(wanted: Any) -> dict[str, Callable[[object], bool]]:
    """Field of a typed row -> whether a value fits it."""
    return {name: _fitting(kind) for name, kind in get_type_hints(wanted).items()}


def fits(value: object, wanted: Any) -> bool:
    """Whether a value read from JSON has a type; an int is a float, a bool is neither."""
    return _fitting(wanted)(value)


@cache
def _fitting(wanted: Any) -> Callable[[object], bool]:
    """The same of every value: a type is looked into once, and asked of a million values."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if is_typeddict(wanted):
        return lambda value: isinstance(value, dict) and _fault_in(value, wanted) is None
    if origin is Literal:
        return lambda value: value in inner
    if origin in (Union, UnionType):
        every = [_fitting(one) for one in inner]
        return lambda value: any(fit(value) for fit in every)
    if origin is list:
        item = _fitting(inner[0])
        return lambda value: isinstance(value, list) and all(map(item, value))
    if origin is dict:
        item = _fitting(inner[1])
        return lambda value: (
            isinstance(value, dict) and all(isinstance(k, str) for k in value) and all(map(item, value.values()))
        )
    kinds = (int, float) if wanted is float else wanted
    if wanted in (bool, object):
        return lambda value: isinstance(value, kinds)
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool)
