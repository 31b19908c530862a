"""What SLURM is given, and what a command says where there is none, or it refuses. A real one: tests/cluster."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tinycell import smallest

from spikeproof.commands import main
from spikeproof.store.store import Store
from spikeproof.study.config import load_study
from spikeproof.study.here import Here
from spikeproof.study.slurm import Slurm
from spikeproof.study.trained import Machine

STUDY = yaml.safe_dump({"title": "two", "base": smallest(), "seeds": [0, 1]})


@pytest.fixture
def study(tmp_path: Path) -> list[str]:
    path = tmp_path / "two.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return ["study", str(path), "--out", str(tmp_path / "runs"), "--engine", "slurm"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every cell of the study is; not to be changed."""
    root = tmp_path_factory.mktemp("finished")
    (root / "two.yaml").write_text(STUDY, encoding="utf-8")
    cells = load_study(root / "two.yaml").cells()
    assert all(outcome.cell for outcome in Here().run(cells, Store(root / "runs"), Machine(progress=False)))
    return root / "runs"


def command_named(name: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of SLURM that is a line of shell."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_dry_run_prints_the_script_and_submits_nothing(
    tmp_path: Path, study: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    site = ["--sbatch=--partition=gpu", "--sbatch=--time=4:00:00", "--setup", "module load cuda", "--allow", "torch"]
    assert main([*study, "--dry-run", "--jobs", "8", "--device", "cuda", *site]) == 0
    script = capsys.readouterr().out
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert "#SBATCH --array=0-1" in lines, "no more workers than cells"
    for option in ("--requeue", "--signal=B:USR1@120", "--open-mode=append", "--gres=gpu:1", "--partition=gpu"):
        assert f"#SBATCH {option}" in lines
    assert lines.index("#SBATCH --time=4:00:00") > lines.index("#SBATCH --requeue")
    assert "module load cuda" in lines
    (plan,) = (tmp_path / "runs" / "plans").iterdir()
    assert f"worker {tmp_path / 'runs'} --plan {plan.stem} --grace 60 --allow torch --trust" in script
    assert subprocess.run(["/bin/bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert not (tmp_path / "runs" / "slurm").exists()


def test_the_array_is_submitted_and_left_to_slurm(
    tmp_path: Path, study: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command_named("sbatch", f"cat > {tmp_path}/script; echo '17;cluster'", tmp_path / "bin", monkeypatch)
    command_named("squeue", "echo waiting", tmp_path / "bin", monkeypatch)
    assert main([*study, "--jobs", "1"]) == 0
    told = capsys.readouterr()
    assert "SLURM has job 17: 1 workers" in told.err
    assert "2 cells left to SLURM; spikeproof status shows them" in told.out
    assert "#SBATCH --array=0-0" in (tmp_path / "script").read_text(encoding="utf-8")
    assert main([*study, "--wait", "0"]) == 75


def test_cells_that_no_worker_of_the_array_is_left_for_have_failed(
    tmp_path: Path, study: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command_named("sbatch", "cat > /dev/null; echo 17", tmp_path / "bin", monkeypatch)
    gone = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    command_named("squeue", gone, tmp_path / "bin", monkeypatch)
    assert main([*study, "--wait", "60"]) == 1
    assert "not done, and no worker of job 17 is left: " in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["slurm", "ray"])
@pytest.mark.usefixtures("undrawn")
def test_where_every_cell_is_finished_the_same_command_makes_the_page_and_asks_no_cluster(
    tmp_path: Path, study: list[str], finished: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, engine: str,
) -> None:  # fmt: skip
    shutil.copytree(finished, tmp_path / "runs")
    monkeypatch.setenv("PATH", str(tmp_path))  # without sbatch
    assert main([*study[:4], "--engine", engine, "--quiet"]) in (0, 3)  # 3: done, and audits are red
    assert "2 of 2 cells are finished already" in capsys.readouterr().err
    assert (tmp_path / "runs" / "report.html").is_file()
    assert main([*study[:4], "--engine", "slurm", "--dry-run"]) == 0
    assert capsys.readouterr().out == "# every cell is finished\n"


@pytest.mark.parametrize(
    ("shell", "said"),
    [
        (None, "expected the command sbatch of SLURM, got none on this machine; to mend: start it on a machine that"),
        ("echo 'sbatch: error: invalid partition specified: x' >&2; exit 1", "got sbatch: error: invalid partition"),
        ("cat > /dev/null; echo hello", "expected the number of a job from sbatch, got 'hello'"),
    ],
)
def test_what_slurm_refuses_is_said(
    tmp_path: Path, study: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    shell: str | None, said: str,
) -> None:  # fmt: skip
    if shell is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        command_named("sbatch", shell, tmp_path / "bin", monkeypatch)
    assert main(study) == 1
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sbatch=partition"], "expected an option of sbatch, as --sbatch=--partition=gpu"),
        (["--setup", "a\nb"], "on one line"),
        (["--jobs", "0"], "expected workers >= 1"),
        (["--jobs", "2", "--workers", "3"], "which mean the same"),
        (["--engine", "local", "--dry-run"], "expected --engine slurm with --dry-run"),
        (["--engine", "local", "--address", "x:1"], "expected --engine ray with --address"),
    ],
)
def test_options_that_cannot_be_are_refused(
    study: list[str], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*study, *words]) == 2
    assert said in capsys.readouterr().err


def played(script: str, folder: Path, code: int, restarts: str) -> subprocess.CompletedProcess[str]:
    """The script of a worker that ends so, where scontrol tells what it is asked."""
    (folder / "python").write_text(f"#!/bin/sh\nexit {code}\n", encoding="utf-8")
    (folder / "scontrol").write_text("#!/bin/sh\necho $*\nexit 1\n", encoding="utf-8")
    for name in ("python", "scontrol"):
        (folder / name).chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "SLURM_RESTART_COUNT": restarts,
        "SLURM_JOB_ID": "18",
    }  # fmt: skip
    return subprocess.run(
        ["/bin/bash"], input=script, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [(0, "0", False), (0, "1", False), (1, "1", False), (75, "", False), (75, "0", False), (75, "1", True),
     (138, "0", True), (143, "0", False)],
)  # fmt: skip
def test_a_job_is_queued_again_at_its_limit_and_when_it_was_started_again_and_found_a_lock(
    tmp_path: Path, code: int, restarts: str, again: bool
) -> None:
    slurm = Slurm(1, "0" * 16, {}, python=shlex.quote(str(tmp_path / "python")))
    done = played(slurm.script(Store(tmp_path), Machine()), tmp_path, code, restarts)
    assert done.returncode == code, "what became of the worker"
    assert done.stdout == ("requeue 18\n" if again else "")
    assert ("not queued again; what is written is kept: start the study again" in done.stderr) == again


def test_a_site_without_requeue_is_not_asked_for_it(tmp_path: Path) -> None:
    slurm = Slurm(1, "0" * 16, {}, options=("--no-requeue",), python=shlex.quote(str(tmp_path / "python")))
    script = slurm.script(Store(tmp_path), Machine())
    assert "#SBATCH --requeue" not in script
    done = played(script, tmp_path, 138, "0")
    assert (done.returncode, done.stdout) == (138, "")
    assert "start the study again" in done.stderr
