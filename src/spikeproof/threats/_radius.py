"""A budget, as it is written in a configuration or on the command line."""

from __future__ import annotations

import math
from fractions import Fraction

from spikeproof.errors import UsageError
from spikeproof.limits import NUMBER_CHARACTERS

__all__ = ["radius"]


def radius(eps: float | str) -> float:
    """'8/255' or 0.03 -> a float; what is not a number >= 0 raises UsageError.

    >>> radius("8/255") == 8 / 255
    True
    """
    try:
        value = _fraction(eps) if isinstance(eps, str) else float(eps)
    except OverflowError:
        value = math.inf
    except (TypeError, ValueError, ZeroDivisionError):
        value = math.nan
    if not 0 <= value < math.inf:
        got = eps[:NUMBER_CHARACTERS] if isinstance(eps, str) else value if value == math.inf else eps
        raise UsageError("eps as a number >= 0 in units of [0,1], such as 8/255", repr(got))
    return value


def _fraction(text: str) -> float:
    if len(text) > NUMBER_CHARACTERS:
        raise ValueError
    # Only what has a slash is read exactly: the exact value of 1e99999999 would fill the memory.
    return float(Fraction(text) if "/" in text else text)
