"""SpikingJelly's own reader and framing of event recordings: the same events, and the same frames."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from spikeproof.data import from_events
from spikeproof.data._nmnist_bin import decoded


def _utils() -> Any:
    """The file alone: the folder that it lies in imports torchaudio, which need not be there."""
    package = importlib.util.find_spec("spikingjelly")
    if package is None or package.origin is None:
        pytest.skip("SpikingJelly is not here", allow_module_level=True)
    folder = ModuleType("spikingjelly.datasets")
    folder.__path__ = [str(Path(package.origin).parent / "datasets")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, folder.__name__, folder)
        return importlib.import_module("spikingjelly.datasets.utils")


utils = _utils()


def events(seed: int, count: int = 400) -> dict[str, Any]:
    """Of a sensor of 20 rows and 30 columns, none of them in a row of markers."""
    stream = np.random.default_rng(seed)
    return {
        "t": np.sort(stream.integers(0, 90_000, count)),
        "x": stream.integers(0, 30, count), "y": stream.integers(0, 20, count), "p": stream.integers(0, 2, count),
    }  # fmt: skip


@pytest.mark.parametrize("by", ["number", "time"])
@pytest.mark.parametrize("frames", [1, 7, 10])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_frames_are_spikingjellys(by: Any, frames: int, seed: int) -> None:
    recording = events(seed)
    theirs = utils.integrate_events_by_fixed_frames_number(recording, by, frames, 20, 30)
    ours = from_events([recording], [0], height=20, width=30, frames=frames, by=by, binary=False).pixels[0]
    assert (ours.numpy() == theirs).all()


def test_n_mnist_s_bytes_are_read_as_spikingjelly_reads_them(tmp_path: Path) -> None:
    """Without time stamps that ran over, which it does not know."""
    recording = events(3)
    t, x, y, p = (recording[name] for name in "txyp")
    table = np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8)
    path = tmp_path / "00001.bin"
    path.write_bytes(table.tobytes())
    theirs, ours = utils.load_ATIS_bin(path), decoded(path.read_bytes(), str(path))
    for name in "txyp":
        assert (getattr(ours, name) == np.asarray(theirs[name], dtype=np.int64)).all()
