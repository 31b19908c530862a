"""Several processes of torchrun train the network of one, to the rounding of sums, also when one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
import tinycell
import together_steps
import torch
import warm
import yaml
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed import TCPStore
from torch.distributed import run as torchrun_itself

from spikeproof.errors import UsageError
from spikeproof.store.store import Store
from spikeproof.study.config import cell_from
from spikeproof.study.run import Machine, trained_victim
from spikeproof.training.checkpoint import read_tensors
from spikeproof.training.world import ALONE, World

RECIPE = {"epochs": 3, "batch_size": 8, "lr": 0.01, "validation_share": 0.2, "select": "last"}
"""Six batches of 8 images, and a last one of 2."""


def configuration(**changes: Any) -> dict[str, Any]:
    given = {name: value for name, value in tinycell.tiny().items() if name not in ("evaluations", "gradients")}
    return {**given, "recipe": RECIPE, **changes}


def torchrun(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Two processes, on this machine, each started afresh."""
    words = ["--standalone", "--nproc-per-node", "2", *arguments]
    return warm.run(torchrun_itself.main, words, environment=environment)


def forked_pair(
    arguments: list[str], environment: dict[str, str], out: object = os.devnull, err: object = os.devnull
) -> list[int | None]:
    """Their exit codes: two processes of the command line that are told what torchrun tells its own, and of which one
    is ended when the other has died. out, err: files that get what both say."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    told = {
        **environment, "MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "a test", "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    both = [
        warm.start(warm.command, *arguments, environment={**told, "RANK": rank, "LOCAL_RANK": rank}, out=out, err=err)
        for rank in ("0", "1")
    ]
    wait([one.sentinel for one in both], warm.PATIENCE)
    for one in both:
        one.join(0 if any(other.exitcode for other in both) else warm.PATIENCE)
        one.kill()
        one.join()
    return [one.exitcode for one in both]


def trained(root: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    (path,) = root.glob("models/*/model.safetensors")
    return read_tensors(path)


def test_a_step_of_two_processes_is_that_of_one(tmp_path: Path) -> None:
    """In double precision: losses, gradients and statistics, of unequal parts of a batch."""
    environment = tinycell.process_environment(tmp_path / "trace")
    done = torchrun([together_steps.__file__, str(tmp_path / "two")], environment)
    assert done.returncode == 0, done.stderr
    together_steps.main(tmp_path / "one")
    one, two = load_file(tmp_path / "one"), load_file(tmp_path / "two")
    assert one.keys() == two.keys()
    assert {name.partition(".")[0] for name in one} == {"adversarial", "trades"}
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-10, atol=1e-12)


def test_two_processes_of_which_one_is_killed_in_every_epoch_train_the_network_of_one(tmp_path: Path) -> None:
    config = configuration(defence={"name": "adversarial"}, training_attack={"name": "tinycell:FgsmThatDiesOnce"})
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    train = ["train", "--config", str(tmp_path / "cell.yaml"), "--out", str(tmp_path / "two")]
    environment = tinycell.process_environment(tmp_path / "trace")
    # Seven calls an epoch: in the first one, in the second of a new start, and in the second after a checkpoint.
    for finished, calls in enumerate((3, 10, 10)):
        died = tmp_path / f"died-{finished}"
        once = {tinycell.DIES_ONCE: str(died), tinycell.DIES_AT: str(calls)}
        if finished == 1:  # from a checkpoint and into a kill, under torchrun itself
            assert torchrun(tinycell.command(*train)[1:], {**environment, **once}).returncode != 0
        else:
            assert -signal.SIGKILL in forked_pair(train, {**environment, **once})
        assert died.is_file()
        checkpoints = [*tmp_path.glob("two/models/*.partial/checkpoint.safetensors")]
        assert [len(read_tensors(one)[1]["history"]) for one in checkpoints] == [finished][: bool(finished)]
    said = tmp_path / "said"
    assert forked_pair(train, environment, said, tmp_path / "wrong") == [0, 0], (tmp_path / "wrong").read_text("utf-8")
    assert said.read_text(encoding="utf-8").count("weights: ") == 1
    trained_victim(cell_from(config), Store(tmp_path / "one"), Machine(progress=False))
    (one, alone), (two, together) = trained(tmp_path / "one"), trained(tmp_path / "two")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-5)
    assert [row["epoch"] for row in together["history"]] == [1, 2, 3]
    for a, b in zip(alone["history"], together["history"], strict=True):
        assert b == pytest.approx(a, rel=1e-5)


def test_every_image_of_a_batch_is_one_process_s() -> None:
    index = torch.arange(7)
    worlds = [World(rank, 3) for rank in range(3)]
    assert torch.equal(torch.cat([world.share(index) for world in worlds]), index)
    assert sum(world.weight(index) for world in worlds) == pytest.approx(3)
    assert (ALONE.weight(index), ALONE.total(2.0)) == (1, [2.0])


def test_what_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"an image of every batch for each of 3 processes.*2 images"):
        World(0, 3).refuse_small([torch.arange(8), torch.arange(2)])
    config = cell_from(configuration(defence={"name": "sr"}))
    with pytest.raises(UsageError, match=r"one does.*sr.*without torchrun"):
        trained_victim(config, Store(tmp_path), Machine(progress=False, world=World(1, 2)))
