"""What measurements have in common: the processor that they name, and their places in docs/performance.md."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["ROOT", "processor", "written"]

ROOT = Path(__file__).resolve().parents[1]

_PAGE = ROOT / "docs" / "performance.md"


def processor() -> str:
    """The kind of processor, its instruction sets as far as kernels choose by them, and what limits that choice."""
    flags = next(
        (line for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if line.startswith("flags")), ""
    )
    sets = [name for name in ("avx2", "avx512f", "amx_tile") if name in flags.split()]
    limits = [
        f"{name}={os.environ[name]}" for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if name in os.environ
    ]
    return f"{platform.machine()} with {', '.join(sets) or 'no vectors'}{''.join(f', {one}' for one in limits)}"


def written(text: str, marks: tuple[str, str]) -> None:
    """The text between its two marks on the page; the rest is kept."""
    before, begun, rest = _PAGE.read_text(encoding="utf-8").partition(marks[0])
    if not begun or marks[1] not in rest:
        raise ValueError(f"no place between {marks[0]} and {marks[1]} in {_PAGE.name}")
    _PAGE.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{rest.partition(marks[1])[2]}", encoding="utf-8")
