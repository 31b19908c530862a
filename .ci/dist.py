"""What would be released, tried: `python -m build` makes an sdist and the wheel from it, both held against the files
of the package; the wheel is installed alone into a new environment and used there, away from the sources.

    .venv/bin/python .ci/dist.py        into dist/; under a minute, nothing is downloaded
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BESIDE = {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"}
"""What an sdist has besides the package."""

TRIED = """
import torch, spikeproof
from spikeproof import native
from spikeproof.board._schema import schema
assert spikeproof.__file__.startswith({home!r}), spikeproof.__file__
assert native.form(torch.device("cpu")) == {form!r}, native.form(torch.device("cpu"))
assert schema()["$id"] == "spikeproof-entry-1"
"""


def package_files() -> set[str]:
    """Every file of the package that is no leftover of running it."""
    found = (path for path in (ROOT / "src" / "spikeproof").rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT / "src")) for path in found if "__pycache__" not in path.parts}


def build(dist: Path) -> tuple[Path, Path]:
    """The sdist and the wheel."""
    shutil.rmtree(dist, ignore_errors=True)
    called = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(ROOT)]
    done = subprocess.run(called, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return sdist, wheel


def refuse_incomplete(sdist: Path, wheel: Path) -> None:
    """Ends where a file of the package is missing in either."""
    with tarfile.open(sdist) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    with zipfile.ZipFile(wheel) as packed_wheel:
        installed = {*packed_wheel.namelist()}
    wanted = package_files()
    missing = [
        f"{sdist.name}: {name}" for name in sorted({f"src/{name}" for name in wanted} | BESIDE) if name not in inside
    ]
    missing += [f"{wheel.name}: {name}" for name in sorted(wanted - installed)]
    if missing:
        sys.exit("missing in " + "\n           ".join(missing))


def use(wheel: Path, folder: Path) -> None:
    """Install the wheel alone and call it; what it depends on is found where this interpreter has it."""
    venv.create(folder / "env", with_pip=False, symlinks=True)
    python = folder / "env" / "bin" / "python"
    site = next((folder / "env").glob("lib/python*/site-packages"))
    # A path, not a site: the links to the sources that an editable installation has are not followed from here.
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    form = "C" if any(map(shutil.which, ("cc", "gcc", "clang"))) else "torch"
    (away := folder / "away").mkdir()
    verb = str(python.with_name("spikeproof"))
    shutil.copytree(ROOT / "board", away / "board")
    (away / "page").mkdir()
    shutil.copy(min((ROOT / "results" / "pooling-digits").glob("*.xz")), away / "page")
    for called in (
        [*pip, "--disable-pip-version-check", str(wheel)],
        [str(python), "-I", "-c", TRIED.format(home=str(site), form=form)],
        [verb, "status", "demo"],
        [verb, "report", "page"],
        [verb, "board", "board"],
    ):
        subprocess.run(called, cwd=away, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    sdist, wheel = build(ROOT / "dist")
    refuse_incomplete(sdist, wheel)
    with tempfile.TemporaryDirectory() as folder:
        use(wheel, Path(folder))
    print(f"{sdist.name} and {wheel.name} are whole, and the wheel works alone")


if __name__ == "__main__":
    main()
