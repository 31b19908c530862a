"""What a grid costs: its different pieces, not its cells."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser
from tinycell import tiny

from spikeproof import parts
from spikeproof.data.digits import Digits
from spikeproof.store.sources import Sources, package
from spikeproof.store.store import Store
from spikeproof.study.config import Study, load_study
from spikeproof.study.here import Here
from spikeproof.study.plan import plan
from spikeproof.study.trained import Machine


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a part is built or resolved, a configuration parsed, data read, a source taken apart."""
    count: Counter[str] = Counter()

    def watch(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def watched(*given: Any, **named: Any) -> Any:
            count[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(owner, name, watched)

    for owner, name in ((parts, "build"), (parts, "resolve"), (ArgumentParser, "parse_object"), (Digits, "load")):
        watch(owner, name)
    watch(Sources, "_files_of_disk")
    return count


def test_cells_that_differ_in_what_is_not_built_cost_nothing_more(counted: Counter[str], tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    axes = {"defence": {"plain": {}, "sr": {"defence.name": "sr", "defence.weight": 0.123}}}

    def planned(seeds: int) -> int:
        study = {"title": "grid", "base": tiny(), "axes": axes, "seeds": [*range(seeds)]}
        path.write_text(yaml.safe_dump(study), encoding="utf-8")
        read = load_study(path)
        return len(plan(read.cells(), Machine(), read.refused))

    assert planned(2) == 4
    first = Counter(counted)
    counted.clear()
    assert planned(100) == 200
    assert counted["load"] == 2, "the training images and the test images, once for all cells"
    assert counted["build"] == 2, "the data set, to be read"
    assert counted["resolve"] == 0
    assert counted["parse_object"] == 1, "the study's own; the data set has no options"
    assert first["build"] + first["resolve"] < 200


def test_a_new_part_is_built_a_few_times_however_many_cells_have_it(counted: Counter[str]) -> None:
    """Also where nothing is known yet: a width that no other test has."""
    built = []
    for width, seeds in ((5, 1), (6, 20), (7, 200)):
        counted.clear()
        neuron = {"name": "if", "v_threshold": 0.9 + width / 100}
        base = tiny(model={"name": "small_sew_resnet", "width": width}, neuron=neuron)
        Study("grid", base, {}, [*range(seeds)]).cells()
        built.append(counted["build"])
    assert 0 < built[1] == built[2] <= built[0] < 60, "the first may meet what no test has said before"


def test_the_cells_of_one_process_share_the_images(counted: Counter[str], tmp_path: Path) -> None:
    base = tiny(
        evaluations=[{"name": "p", "eps": [0.1], "attacks": {"f": {"name": "fgsm"}}, "images": 2}],
        recipe={"epochs": 1, "batch_size": 16, "validation_share": 0.2},
        gradients={"images": 1, "weight_images": 1, "layers": False},
    )
    cells = Study("two", base, {}, [0, 1]).cells()
    counted.clear()
    assert [outcome.error for outcome in Here().run(cells, Store(tmp_path), Machine(progress=False))] == [None, None]
    assert counted["load"] == 2
    assert counted["resolve"] == 0, "a cell that is made is complete"


def test_the_sources_are_read_once_in_a_process(counted: Counter[str]) -> None:
    base = tiny()
    for seeds in ([0], [1, 2]):
        study = Study("grid", base, {}, seeds)
        plan(study.cells(), Machine(), study.refused)
    assert package() is package()
    assert counted["_files_of_disk"] <= 1


def test_planning_imports_no_more_than_it_needs() -> None:
    """scipy's statistics and scikit-learn each take a second; `status` asks neither."""
    code = (
        "import sys; from spikeproof.study.plan import plan; from spikeproof.data.digits import Digits; "
        "Digits().load('test'); print([m for m in ('scipy.stats', 'sklearn', 'spikeproof.report') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"
