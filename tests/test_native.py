"""The scan, in C and where there is a GPU in Triton, against the neuron's own loop in torch on the same device: spikes
bit by bit, gradients to float tolerance."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import warm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikeproof import native, parts
from spikeproof.errors import SpikeproofError
from spikeproof.native import _built
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.neurons.plif import PLIF
from spikeproof.rules.atan import ATan
from spikeproof.rules.pdsg import PDSG
from spikeproof.tensors import exact, heaviside

in_c = pytest.mark.skipif(not native.available(), reason="no C compiler here, or SPIKEPROOF_FAST=0")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available() or not native.fast(), reason="no GPU, or SPIKEPROOF_FAST=0")
everywhere = pytest.mark.parametrize("device", [pytest.param("cpu", marks=in_c), pytest.param("cuda", marks=on_gpu)])

SHAPES = ("atan", "sigmoid", "triangle", "rectangle", "gaussian")
NEURONS: dict[str, Any] = {
    "if": IF,
    "lif": lambda **o: LIF(tau=1.7, **o),
    "lif-raw": lambda **o: LIF(tau=3.0, decay_input=False, **o),
    "plif": lambda **o: PLIF(init_tau=2.3, **o).requires_grad_(False),
    "plif-raw": lambda **o: PLIF(init_tau=1.4, decay_input=False, **o).requires_grad_(False),
}
RESETS = (0.0, -0.4, None)


def currents(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def both(rule: Any, node: nn.Module, x: Tensor, weights: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """(spikes, gradient) in C and in the plain form."""
    found = []
    for form in (rule, dataclasses.replace(rule, fused=False)):
        point = x.clone(memory_format=torch.preserve_format).requires_grad_()
        spikes = form(node, point, "site")
        found.append((spikes.detach(), torch.autograd.grad((spikes * weights).sum(), point)[0]))
    return tuple(found)


@everywhere
@pytest.mark.parametrize(("shape", "neuron", "reset"), list(product(SHAPES, NEURONS, RESETS)))
@pytest.mark.parametrize(("through_time", "through_reset"), list(product((True, False), (True, False))))
def test_every_neuron_shape_and_path_is_the_plain_form(
    device: str, shape: str, neuron: str, reset: float | None, through_time: bool, through_reset: bool
) -> None:
    x = currents(7, 3, 701).to(device)  # more than one chunk's remainder
    node = NEURONS[neuron](v_threshold=0.8, v_reset=reset).to(device)
    assert node.known() is not None
    rule = parts.find("rules", shape)(alpha=1.3, through_time=through_time, through_reset=through_reset)
    (spikes, gradient), (plain_spikes, plain) = both(rule, node, x, currents(7, 3, 701, seed=4).to(device))
    assert 0 < float(spikes.mean()) < 1
    assert torch.equal(spikes, plain_spikes)
    torch.testing.assert_close(gradient, plain, rtol=2e-5, atol=2e-6)


@everywhere
@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 60), images=st.integers(1, 5), width=st.integers(1, 40),
    neuron=st.sampled_from(sorted(NEURONS)), seed=st.integers(0, 999),
)  # fmt: skip
def test_any_length_and_width(device: str, steps: int, images: int, width: int, neuron: str, seed: int) -> None:
    x = currents(steps, images, width, seed=seed).to(device)
    node = NEURONS[neuron]().to(device)
    (spikes, gradient), (plain_spikes, plain) = both(ATan(through_reset=True), node, x, torch.ones_like(x))
    assert torch.equal(spikes, plain_spikes)
    # The recursion multiplies its rounding along the steps.
    torch.testing.assert_close(gradient, plain, rtol=1e-3, atol=1e-4 * float(plain.abs().max().clamp(min=1)))


@everywhere
def test_spikes_on_the_threshold_are_those_of_torch(device: str) -> None:
    """Sums of eighths reach the threshold exactly, where a last bit decides."""
    x = torch.randint(-4, 5, (12, 4000), generator=torch.Generator().manual_seed(0)).to(device) / 8
    for node in (IF(), IF(v_reset=None), LIF(), LIF(decay_input=False, v_reset=-0.25)):
        assert torch.equal(node.spikes(x), node.run(x, lambda height, step: heaviside(height)))
        assert torch.equal(exact(node, x, "site"), node.spikes(x))


@everywhere
@pytest.mark.parametrize("neuron", sorted(NEURONS))
def test_a_membrane_exactly_at_its_threshold_fires(device: str, neuron: str) -> None:
    """The threshold is what torch charges to, so that one bit of rounding elsewhere would silence the neuron."""
    for x in currents(60, 1, 1).abs().add(0.1).to(device):
        node = NEURONS[neuron]().to(device)
        node.v_threshold = float(node.charge(torch.zeros_like(x), x).item())
        assert float(node.spikes(x[None])) == 1.0


@everywhere
def test_layouts_keep_their_order_and_any_other_is_copied(device: str) -> None:
    flat = currents(40, 6, 5, 5).to(device)
    last = flat.contiguous(memory_format=torch.channels_last).view(10, 4, 6, 5, 5)
    plain = IF().spikes(flat.view(10, 4, 6, 5, 5))
    assert torch.equal(IF().spikes(last), plain)
    assert IF().spikes(last).stride() == last.stride()
    strided = currents(10, 4, 12).to(device)[:, :, ::2]
    assert torch.equal(IF().spikes(strided), IF().spikes(strided.contiguous()))
    once = currents(4, 6, 5, 5).to(device).contiguous(memory_format=torch.channels_last)
    expanded = once.expand(10, *once.shape)  # direct coding
    assert torch.equal(IF().spikes(expanded), IF().spikes(expanded.contiguous()))
    weights = currents(10, 4, 6, 5, 5, seed=5).to(device)
    (_, gradient), (_, expected) = both(ATan(), IF(), last, weights)
    torch.testing.assert_close(gradient, expected, rtol=2e-5, atol=2e-6)


@everywhere
@pytest.mark.parametrize("rule", [ATan(), ATan(through_reset=True), PDSG()], ids=str)
@pytest.mark.parametrize("neuron", sorted(NEURONS))
def test_currents_that_are_the_same_at_all_steps_need_memory_for_one(device: str, neuron: str, rule: Any) -> None:
    frame = currents(4, 6, 5, 5).to(device).contiguous(memory_format=torch.channels_last)
    weights, node, found = currents(10, 4, 6, 5, 5, seed=5).to(device), NEURONS[neuron]().to(device), []
    for every in (frame.expand(10, *frame.shape), torch.stack([frame] * 10)):
        point = every.detach().requires_grad_()
        spikes = rule(node, point, "site")
        found.append((spikes.detach(), torch.autograd.grad((spikes * weights).sum(), point)[0]))
    for once, plain in zip(*found, strict=True):
        assert torch.equal(once, plain)
        assert once.stride(0) == 600
    assert found[0][0].stride() == (600, 150, 1, 30, 6)


@everywhere
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [(0, 0), (6, 2999)])
def test_a_current_that_is_not_finite_is_refused(device: str, bad: float, place: tuple[int, int]) -> None:
    x = currents(7, 3000).to(device)
    x[place] = bad
    with pytest.raises(SpikeproofError, match="finite input currents"):
        IF().spikes(x)


@in_c
def test_what_a_subclass_changes_is_not_missed() -> None:
    class Leaking(IF):
        def charge(self, v: Tensor, x: Tensor) -> Tensor:
            return 0.5 * v + x

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Flat(ATan):
        def derivative(self, x: Tensor) -> Tensor:
            return torch.full_like(x, 0.25)

    x = currents(6, 50)
    assert torch.equal(Leaking().spikes(x), Leaking().run(x, lambda height, step: heaviside(height)))
    assert not torch.equal(Leaking().spikes(x), IF().spikes(x))
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Flat(through_time=False)(IF(), point, "site").sum(), point)
    assert torch.equal(gradient, torch.full_like(x, 0.25))


@everywhere
def test_double_precision_and_the_switch_take_torch(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = currents(5, 20).to(device)
    assert native.usable(x)
    assert native.form(x.device) == {"cpu": "C", "cuda": "Triton"}[device]
    assert not native.usable(x.double())
    assert not native.usable(x[:, :0])
    monkeypatch.setenv("SPIKEPROOF_FAST", "0")
    assert not native.usable(x)
    assert native.form(x.device) == "torch"
    monkeypatch.setattr(native, "scan", None)  # would fail if it were called
    IF().spikes(x)


HASTY = """#!/bin/sh
words=$*
case $words in
*" -c "*)
    for word; do source=$option option=$object object=$word; done
    kept="{remembered}/${{words%% -c *}} ${{source##*/}}"
    if [ ! -e "$kept" ]; then
        {compiler} "$@" -O0 || exit
        cp "$object" "$kept.$$" && mv "$kept.$$" "$kept"
    fi
    cp "$kept" "$object" ;;
*) exec {compiler} "$@" -O0 ;;
esac
"""
"""A compiler that does not optimise, which takes a fifth of the time, and that gives again what it has made of a source
by the same options. The sources are the package's own, which do not change meanwhile."""


@pytest.fixture(scope="module", autouse=True)
def remembered() -> Iterator[Path]:
    """What is built from here on is built by a hasty compiler; the library that this process has loaded for all other
    tests is not. The folder where it keeps what it has made: emptied, it has forgotten it. Other users may read it."""
    if compiler := shutil.which("cc") or shutil.which("gcc") or shutil.which("clang"):
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            path, remembered = Path(folder) / "bin", Path(folder) / "objects"
            for one in (path, remembered):
                one.mkdir()
            (path / "cc").write_text(HASTY.format(compiler=compiler, remembered=remembered))
            for one in (Path(folder), path, path / "cc", remembered):
                one.chmod(0o755)
            patch.setenv("PATH", str(path), prepend=os.pathsep)
            yield remembered
    else:
        yield Path(os.devnull)


SPIKES = (
    "import torch; from spikeproof import native; from spikeproof.neurons.if_ import IF;"
    "x = torch.randn(7, 50, generator=torch.Generator().manual_seed(3));"
    "print(native.available(), int(IF().spikes(x).sum()))"
)
"""Whether a process has the library, and how often the neurons fire in `currents(7, 50)`."""


@in_c
def test_a_threshold_that_is_a_tensor_may_change_in_place() -> None:
    """What C is told of a neuron is remembered by its numbers, not by what holds them."""
    threshold = torch.tensor(1.0)
    node = IF(v_threshold=threshold)  # type: ignore[arg-type]
    x = currents(7, 50)
    for value in (1.0, 0.25):
        threshold.fill_(value)
        assert torch.equal(node.spikes(x), IF(v_threshold=value).spikes(x))


def test_without_a_compiler_everything_runs_in_torch(tmp_path: Path) -> None:
    """In a process that finds no compiler and has no cache: the same spikes, and no error."""
    environment = {**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    told = warm.run(exec, SPIKES, environment=environment)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.split() == ["False", str(int(IF().spikes(currents(7, 50)).sum()))]


def test_a_library_that_cannot_be_built_is_told_once_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a process that has not asked yet."""
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\ncase $1 in --version) echo broken;; *) echo no such thing >&2; exit 1;; esac\n")
    broken.chmod(0o755)
    monkeypatch.setenv("SPIKEPROOF_FAST", "1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "_library", functools.cache(native._library.__wrapped__))
    assert [native.available() for _ in range(2)] == [False, False]
    assert caplog.text.count("cannot be built") == 1
    assert "no such thing" in caplog.text
    x = currents(7, 50)
    assert torch.equal(IF().spikes(x), IF().run(x, lambda height, step: heaviside(height)))


@in_c
def test_a_user_without_a_home_builds_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container under a number that no passwd entry has."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert native._library.__wrapped__() is not None


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (2**31 - 1, [(-3, 2**31 - 1), (-1, 2**31 - 1), (-2, 2**26)]),
        (2**25, [(-3, 2**31 - 1), (-3, 2**25), (-1, 2**31 - 1), (-2, 2**26)]),
        (0, [(-3, 2**31 - 1), (-3, 2**25)]),
    ],
    ids=["glibc 2.35", "older", "refuses all"],
)
def test_memory_is_kept_as_far_as_glibc_lets(
    monkeypatch: pytest.MonkeyPatch, largest: int, expected: list[tuple[int, int]]
) -> None:
    asked: list[tuple[int, int]] = []

    def mallopt(option: int, value: int) -> int:
        asked.append((option, value))
        return int(option != -3 or value <= largest)

    monkeypatch.setenv("SPIKEPROOF_FAST", "1")
    monkeypatch.setattr(native.platform, "libc_ver", lambda: ("glibc", "2.31"))
    monkeypatch.setattr(native.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    native.keep_memory.__wrapped__()
    assert asked == expected


# --- the library that is kept: nobody else's, whole, and ours ---

ASKED = (
    f"import sys; sys.path.insert(0, {str(Path(_built.__file__).parent)!r}); import _built; import shutil;"
    "print(_built.library(shutil.which('cc') or 'gcc', ()).spikeproof_forward is not None)"
)
"""The file alone, without torch and its threads, takes a tenth of the time."""

NOBODY = 65534


def asked(cache: Path, code: str = ASKED, **settings: Any) -> str:
    """What a process with that cache prints; it must end well, without a word of trouble."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-c", code]
    told = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300, **settings
    )
    assert (told.returncode, told.stderr) == (0, "")
    return told.stdout.strip()


def kept(cache: Path) -> Path:
    (library,) = (cache / "spikeproof").iterdir()
    return library


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library as a process has kept it; not to be changed."""
    cache = tmp_path_factory.mktemp("cache")
    assert asked(cache) == "True"
    return kept(cache)


@pytest.fixture
def cache(whole: Path, tmp_path: Path) -> Path:
    """A cache of one's own with that library."""
    (tmp_path / "spikeproof").mkdir(mode=0o700)
    shutil.copy(whole, tmp_path / "spikeproof")
    return tmp_path


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    """A library that leaves a trace as soon as it is loaded, and where: without any name of ours."""
    folder = tmp_path_factory.mktemp("planted")
    source, library, trace = folder / "evil.c", folder / "evil.so", folder / "trace"
    source.write_text(
        f'#include <stdio.h>\n__attribute__((constructor)) void f(void) {{ fclose(fopen("{trace}", "w")); }}\n'
    )
    subprocess.run([shutil.which("cc") or "gcc", "-shared", "-fPIC", source, "-o", library], check=True)
    return library.read_bytes(), trace


@in_c
def test_a_planted_library_would_run(planted: tuple[bytes, Path], tmp_path: Path) -> None:
    """Or the tests below show nothing."""
    code, trace = planted
    (tmp_path / "evil.so").write_bytes(code)
    subprocess.run([sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(tmp_path / 'evil.so')!r})"], check=True)
    assert trace.exists()
    trace.unlink()


@in_c
def test_the_library_is_built_once_and_kept(cache: Path) -> None:
    before = kept(cache).stat()
    for _ in range(2):
        assert asked(cache) == "True"
    after = kept(cache).stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert kept(cache).name.split("-")[2] == f"{hashlib.sha256(kept(cache).read_bytes()).hexdigest()}.so"


@in_c
def test_networks_run_on_a_library_that_was_damaged(tmp_path: Path, remembered: Path) -> None:
    """From the first line of a user to the spikes, in C before and after; compiled anew, the library is the same."""
    expected = f"True {int(IF().spikes(currents(7, 50)).sum())}"
    told = warm.run(exec, SPIKES, environment={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
    assert told.stdout.strip() == expected, told.stderr
    whole = kept(tmp_path).read_bytes()
    os.truncate(kept(tmp_path), 4096)
    (made,) = remembered.glob("* -fopenmp scan.c")  # as the library of a process with torch is; all are compiled alike
    made.unlink()
    assert asked(tmp_path, SPIKES) == expected
    assert kept(tmp_path).read_bytes() == whole


@in_c
def test_what_is_made_is_the_users_alone(tmp_path: Path) -> None:
    asked(tmp_path / "deep" / "cache")
    folder = tmp_path / "deep" / "cache" / "spikeproof"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(kept(folder.parent).stat().st_mode) == 0o600


@in_c
@pytest.mark.parametrize("damage", ["planted", "half", "a page", "nothing", "a bit", "text", "link", "pipe", "huge"])
def test_a_damaged_library_never_runs_and_is_built_anew(
    damage: str, whole: Path, cache: Path, planted: tuple[bytes, Path]
) -> None:
    file, good = kept(cache), whole.read_bytes()
    changed = {
        "planted": planted[0], "half": good[: len(good) // 2], "a page": good[:4096], "nothing": b"",
        "a bit": good[:-1] + bytes([good[-1] ^ 1]), "text": b"no library", "huge": good + bytes(1 << 24),
    }  # fmt: skip
    file.unlink()
    if damage == "pipe":
        os.mkfifo(file)
    elif damage == "link":
        file.symlink_to(whole)
    else:
        file.write_bytes(changed[damage])
        file.chmod(0o600)
    assert asked(cache) == "True"
    assert kept(cache).read_bytes() == good
    assert not kept(cache).is_symlink()
    assert not planted[1].exists()


@in_c
def test_a_library_without_our_names_is_not_taken(whole: Path, cache: Path) -> None:
    """Whole and the user's own, by its name: then it is loaded, and is none."""
    built = cache / "other.so"
    source = cache / "other.c"
    source.write_text("int other(void) { return 1; }\n")
    subprocess.run([shutil.which("cc") or "gcc", "-shared", "-fPIC", source, "-o", built], check=True)
    kept(cache).unlink()
    start = whole.name.rpartition("-")[0]
    other = cache / "spikeproof" / f"{start}-{hashlib.sha256(built.read_bytes()).hexdigest()}.so"
    shutil.copy(built, other)
    other.chmod(0o600)
    assert asked(cache) == "True"


@in_c
def test_a_folder_that_others_could_only_look_into_is_closed_and_used(tmp_path: Path) -> None:
    """That of earlier versions was made so; left out, it would cost every process a compiler's second."""
    folder = tmp_path / "spikeproof"
    folder.mkdir()
    folder.chmod(0o755)
    assert asked(tmp_path) == "True"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(list(folder.glob("scan-*.so"))) == 1


def _writable_file(folder: Path) -> None:
    kept(folder.parent).chmod(0o660)


def _foreign_file(folder: Path) -> None:
    os.chown(kept(folder.parent), NOBODY, NOBODY)


def _writable(folder: Path) -> None:
    folder.chmod(0o770)


def _open_to_all(folder: Path) -> None:
    folder.chmod(0o1777)


def _foreign(folder: Path) -> None:
    os.chown(folder, NOBODY, NOBODY)


def _linked(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def _a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@in_c
@pytest.mark.parametrize("spoiled", [_writable_file, pytest.param(_foreign_file, marks=as_root)])
def test_a_library_that_others_may_have_written_is_built_anew(
    spoiled: Callable[[Path], None], whole: Path, cache: Path
) -> None:
    os.utime(kept(cache), (0, 0))
    spoiled(cache / "spikeproof")
    assert asked(cache) == "True"
    assert kept(cache).read_bytes() == whole.read_bytes()
    assert (kept(cache).stat().st_uid, stat.S_IMODE(kept(cache).stat().st_mode)) == (os.geteuid(), 0o600)
    assert kept(cache).stat().st_mtime != 0


@in_c
@pytest.mark.parametrize("spoiled", [_writable, _open_to_all, pytest.param(_foreign, marks=as_root), _linked, _a_file])
def test_a_folder_that_others_may_write_is_neither_read_nor_written(
    spoiled: Callable[[Path], None], whole: Path, cache: Path
) -> None:
    """Even the right library there is not taken: what is in it is what whoever can write wants."""
    folder = cache / "spikeproof"
    kept(cache).touch()
    spoiled(folder)
    held = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    code = (
        ASKED.replace("import shutil", "import shutil; _built._kept = None")  # would fail if it were called
    )
    assert asked(cache, code) == "True"
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == held


@in_c
def test_a_cache_that_is_not_absolute_is_the_usual_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the XDG specification has it: else whoever owns the working directory would own the cache."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    assert asked(Path("cache"), cwd=tmp_path / "here") == "True"
    assert list((tmp_path / "here").iterdir()) == []
    assert kept(tmp_path / "home" / ".cache").is_file()


@in_c
def test_where_nothing_can_be_run_from_temporary_folders_it_is_loaded_from_memory(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_built.tempfile, "TemporaryDirectory", full)
    found = [_built._loaded(whole.read_bytes()) for _ in range(2)]
    assert all(library.spikeproof_forward for library in found)
    with pytest.raises(OSError, match=r"no library|invalid ELF|file too short"):
        _built._loaded(b"no library")


@in_c
def test_several_processes_build_it_at_once(tmp_path: Path) -> None:
    """Their compiler waits until each of them has begun: none finds what another has kept."""
    path, cache, begun = (tmp_path / name for name in ("bin", "cache", "begun"))
    for folder in (path, cache, begun):
        folder.mkdir()
    there = f"[ $(ls '{begun}' | wc -l) -ge 4 ]"
    wait = f"touch '{begun}'/$PPID; n=0; until {there} || [ $n -gt 600 ]; do n=$((n + 1)); sleep 0.05; done"
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    (path / "cc").write_text(f'#!/bin/sh\ncase $* in *" -c "*) {wait} ;; esac\nexec \'{compiler}\' "$@"\n')
    (path / "cc").chmod(0o755)
    paths = f"{path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "SPIKEPROOF_FAST": "1", "PATH": paths, "XDG_CACHE_HOME": str(cache)}
    several = [subprocess.Popen([sys.executable, "-c", ASKED], env=environment, stdout=subprocess.PIPE, text=True)
               for _ in range(4)]  # fmt: skip
    assert [one.communicate(timeout=300)[0].strip() for one in several] == ["True"] * 4
    assert hashlib.sha256(kept(cache).read_bytes()).hexdigest() in kept(cache).name


@in_c
@as_root
def test_of_two_users_neither_runs_what_the_other_has_kept(whole: Path, planted: tuple[bytes, Path]) -> None:
    """One cache for both, open to all: the first there keeps a library of their own making, under the right name."""
    with tempfile.TemporaryDirectory() as shared:
        cache = Path(shared)
        cache.chmod(0o777)
        build = (
            "import os, sys; os.setgid(65534); os.setuid(65534); folder = sys.argv[1] + '/spikeproof';"
            "os.mkdir(folder, 0o700); open(f'{folder}/{sys.argv[2]}', 'wb').write(sys.stdin.buffer.read())"
        )
        start = whole.name.rpartition("-")[0]
        name = f"{start}-{hashlib.sha256(planted[0]).hexdigest()}.so"
        subprocess.run([sys.executable, "-c", build, shared, name], input=planted[0], check=True)
        assert asked(cache) == "True"
        assert not planted[1].exists()
        assert kept(cache).read_bytes() == planted[0]
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o777)
        folder = Path(shared) / "spikeproof"
        folder.mkdir(mode=0o700)
        (folder / name).write_bytes(planted[0])
        code = Path(shared) / "code"
        code.mkdir()
        for path in (Path(_built.__file__), *_built._SOURCES, *_built._HEADERS):
            shutil.copy(path, code)
        # Everything is imported before: Python itself may lie where the other user reads nothing.
        other = ASKED.replace("print(", "import os; os.setgid(65534); os.setuid(65534); print(")
        other = other.replace(str(Path(_built.__file__).parent), str(code))
        environment = {**os.environ, "XDG_CACHE_HOME": shared, "HOME": shared}
        command = [sys.executable, "-c", other]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert told.stdout == "True\n", told.stderr
        assert not planted[1].exists()
        assert [path.name for path in folder.iterdir()] == [name]
