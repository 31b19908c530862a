"""The scan in C as a loaded library: compiled once for a machine, kept, and never run on another's word.

It is kept in `spikeproof` in the user's cache folder, which must be the user's own and open to nobody else (mode 0700),
under the hash of what it was made from and that of its bytes. What is read from there is checked and only then given
to the system, as a file of this process alone: what was checked is what runs, and nobody can change or cut it off
meanwhile. Where there is no such folder, it is compiled for this process.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["library"]

_SOURCES = tuple(
    Path(__file__).with_name(f"{name}.c")
    for name in (
        "scan",
        "pool",
        "moments",
        "draws",
        "taps",
        "few",
        "two_valued",
        "winograd",
        "winograd_weight",
        "strided",
        "strided_weight",
        "neighbours",
    )
)
_HEADERS = tuple(Path(__file__).with_name(f"{name}.h") for name in ("vectors", "convolution", "winograd"))
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
# No contraction: a fused multiply-add rounds otherwise than torch, and a membrane on its threshold would flip. Products
# of matrices round otherwise than torch's in any case.
_CONTRACTED = dict.fromkeys(
    ("few.c", "strided.c", "strided_weight.c", "two_valued.c", "winograd.c", "winograd_weight.c"), "fast"
)

_SYMBOLS = (
    "spikeproof_forward", "spikeproof_backward", "spikeproof_pool", "spikeproof_pool_backward",
    "spikeproof_pool_spread", "spikeproof_moments", "spikeproof_mixed", "spikeproof_draws", "spikeproof_taps",
    "spikeproof_few_backward",
    "spikeproof_two_valued", "spikeproof_strided", "spikeproof_strided_weight", "spikeproof_winograd",
    "spikeproof_winograd_kernels", "spikeproof_winograd_weight", "spikeproof_hold", "spikeproof_release",
)  # fmt: skip
_LARGEST = 1 << 24
"""Bytes; ours has some hundred thousand."""


def library(compiler: str, threads: tuple[str, ...]) -> ctypes.CDLL:
    """The library for this source, compiler and processor; several processes may ask for it at the same time.

    Raises OSError or subprocess.SubprocessError where it cannot be compiled or loaded.
    """
    about = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    key = hashlib.sha256(b"".join(source.read_bytes() for source in (*_SOURCES, *_HEADERS)))
    key.update(repr((about, [_flags(source) for source in _SOURCES], threads, _processor())).encode())
    start = f"scan-{key.hexdigest()[:16]}-"
    with _folder() as folder:
        for code in [] if folder is None else _kept(folder, start):
            with suppress(OSError):  # whole, and not ours
                return _loaded(code)
        code = _compiled(compiler, threads)
        if folder is not None:
            with suppress(OSError):  # a full disk: the next process compiles it again
                _keep(folder, start, code)
    return _loaded(code)


def _private(found: os.stat_result, others: int) -> bool:
    """Whether it is the user's own, and others have none of these permissions."""
    return found.st_uid == os.geteuid() and not found.st_mode & others


@contextmanager
def _folder() -> Iterator[int | None]:
    """The open folder where libraries are kept, made where there is none; None where it is not the user's alone."""
    opened = None
    with suppress(OSError, RuntimeError):  # the latter: a user without a home
        cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
        path = (cache if cache.is_absolute() else Path.home() / ".cache") / "spikeproof"
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if _private(os.fstat(opened), 0o022):  # others could only look into it, as in earlier versions
            os.fchmod(opened, 0o700)
    try:
        yield opened if opened is not None and _private(os.fstat(opened), 0o077) else None
    finally:
        if opened is not None:
            os.close(opened)


def _kept(folder: int, start: str) -> Iterator[bytes]:
    """The libraries of that beginning which are whole; what is damaged is removed."""
    for name in sorted(one for one in os.listdir(folder) if one.startswith(start)):
        code = _read(folder, name)
        if code is not None and name == _named(start, code):
            yield code
            continue
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)


def _named(start: str, code: bytes) -> str:
    return f"{start}{hashlib.sha256(code).hexdigest()}.so"


def _read(folder: int, name: str) -> bytes | None:
    """The bytes of a file that nobody else can have written; None of anything else: a link, a pipe, a huge file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would wait for its other end
    with suppress(OSError), open(os.open(name, flags, dir_fd=folder), "rb") as file:
        found = os.fstat(file.fileno())
        if stat.S_ISREG(found.st_mode) and _private(found, 0o022) and found.st_size <= _LARGEST:
            return file.read(_LARGEST)
    return None


def _keep(folder: int, start: str, code: bytes) -> None:
    """Under a name of this process, then renamed: another process finds it whole or not at all."""
    draft = f".{start}{os.getpid()}"
    with suppress(FileNotFoundError):  # of a process that was killed
        os.unlink(draft, dir_fd=folder)
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder), "wb") as file:
            file.write(code)
        os.replace(draft, _named(start, code), src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(draft, dir_fd=folder)
        raise


def _compiled(compiler: str, threads: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="spikeproof-") as work:
        linked, parts = f"{work}/scan.so", [f"{work}/{source.stem}.o" for source in _SOURCES]
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as several:
            each = zip(_SOURCES, parts, strict=True)
            list(several.map(_run, ([compiler, *_flags(c), *threads, "-c", str(c), "-o", o] for c, o in each)))
        # Linked without -fopenmp: the threads are those of torch's own OpenMP, which is loaded already; a second pool
        # beside it would spin on the same cores.
        _run([compiler, "-shared", *parts, "-o", linked, "-lm"])
        return Path(linked).read_bytes()


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def _flags(source: Path) -> list[str]:
    return [*_FLAGS, f"-ffp-contract={_CONTRACTED.get(source.name, 'off')}"]


def _loaded(code: bytes) -> ctypes.CDLL:
    """Code as a library, from a file of this process alone. Raises OSError where it is none of ours."""
    try:
        with tempfile.TemporaryDirectory(prefix="spikeproof-", ignore_cleanup_errors=True) as own:
            path = Path(own) / "scan.so"
            path.write_bytes(code)
            return _ours(str(path))
    except OSError:  # a full disk, or one that nothing may be run from
        if not hasattr(os, "memfd_create"):
            raise
    memory = os.memfd_create("spikeproof")
    with open(memory, "wb", closefd=False) as file:
        file.write(code)  # and stays open: a library is known by its path, which nobody else gets
    return _ours(f"/proc/self/fd/{memory}")


def _ours(path: str) -> ctypes.CDLL:
    found = ctypes.CDLL(path)
    for name in _SYMBOLS:
        if not hasattr(found, name):
            raise OSError(f"no {name} in the library")
        getattr(found, name).restype = ctypes.c_int32
    return found


def _processor() -> str:
    """What -march=native looks at, so that a cache on a shared disk never serves another machine's instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
