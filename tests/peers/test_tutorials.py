"""The tutorials do what they say: every block is run, in order; and so does the comparison with torchattacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[2] / "docs"


NEEDS = {
    "spikingjelly": "spikingjelly.activation_based.neuron",
    "snntorch": "snntorch",
    "transformer": "spikingjelly.activation_based.neuron",
    "own-neurons": "torch",
}


def test_every_tutorial_is_run() -> None:
    found = {path.stem.removeprefix("tutorial-") for path in DOCS.glob("tutorial-*.md")}
    assert found == set(NEEDS) | {"events"}  # which needs no framework: tests/test_docs.py


@pytest.mark.parametrize("tutorial", NEEDS)
def test_a_tutorial_runs(tutorial: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        __import__(NEEDS[tutorial])
    except Exception as error:
        pytest.skip(f"{NEEDS[tutorial]} does not import here: {error!r}")
    name = f"tutorial-{tutorial}.md"
    world: dict[str, object] = {"__name__": f"tutorial_{tutorial}"}
    with torch.random.fork_rng(devices=[]):
        for block in re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), flags=re.DOTALL):
            exec(compile(block, name, "exec"), world)
    out = capsys.readouterr().out
    accuracy = re.search(r"^ok      accuracy +([\d.]+) %", out, re.MULTILINE)
    assert accuracy is not None
    assert float(accuracy[1]) > 60
    assert re.search(r"^tier smoke: (supported|unsettled)", out, re.MULTILINE)
    assert "robust accuracy, worst case: " in out
    assert "input gradient at the image: zero_share " in out


def test_the_comparison_with_torchattacks_tells_what_it_says() -> None:
    """Done right, what is reported is what is deployed; with swapped axes it is another network."""
    pytest.importorskip("torchattacks", reason="the peer torchattacks is not installed here")
    try:
        from peers import compare_torchattacks as compare
    except Exception as error:
        pytest.skip(f"SpikingJelly does not import here: {error!r}")
    net = compare.network()
    rows = list(compare.ROWS.values())
    reported, deployed = compare.attacked(net, *rows[0])
    assert torch.equal(reported & deployed, deployed)
    assert 0.2 < deployed.double().mean() < 0.8
    seen, hurt = compare.attacked(net, compare.Swapped, False)
    assert seen.double().mean() < deployed.double().mean() < hurt.double().mean()
