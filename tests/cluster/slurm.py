"""A real SLURM of two nodes on this machine, on loopback, without accounting; started and ended by its process ids."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

__all__ = ["NODES", "Slurm", "missing"]

NODES = ("n1", "n2")

_CONF = """\
ClusterName=two
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmdTimeout=5
KillWait=5
MinJobAge=300
SchedulerParameters=batch_sched_delay=0,sched_interval=2
SlurmdParameters=config_overrides
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=1 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no SLURM here, or None."""
    wanted = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if _program(name) is None]
    if wanted:
        return f"no {wanted[0]}: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "slurmctld and slurmd want root here"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    """All found before any is given back, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Slurm:
    """`with Slurm(folder) as slurm:`; its commands find it by `slurm.environment`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {**os.environ, "SLURM_CONF": str(root / "slurm.conf")}
        self._began: list[subprocess.Popen[bytes]] = []
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Slurm:
        self.root.mkdir(parents=True, mode=0o755)
        (self.root / "state").mkdir()
        host = socket.gethostname().partition(".")[0]
        conf = _CONF.format(host=host, root=self.root, ports=_free_ports(4))
        (self.root / "slurm.conf").write_text(conf, encoding="utf-8")
        key = self.root / "munge.key"
        key.touch(mode=0o400)
        key.write_bytes(os.urandom(128))
        try:
            self._munge(key)
            self._controller = self._start("slurmctld", "-D")
            for node in NODES:
                (self.root / f"spool-{node}").mkdir()
                self.start_node(node)
            self.wait(lambda: self.states() == dict.fromkeys(NODES, "idle"), 60, "two idle nodes")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.end()

    def _munge(self, key: Path) -> None:
        places = {"key-file": key, "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log",
                  "seed-file": "munged.seed"}  # fmt: skip
        words = (f"--{name}={self.root / place}" for name, place in places.items())
        self._start("munged", "--foreground", "--force", *words)
        self.wait(lambda: (self.root / "munge.socket").exists(), 20, "munged")

    def _start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        program = _program(name)
        assert program is not None, missing()
        with open(self.root / f"{name}.out", "ab") as out:
            began = subprocess.Popen([program, *words], env=self.environment, stdout=out, stderr=out)
        self._began.append(began)
        return began

    def start_node(self, node: str) -> None:
        self._nodes[node] = self._start("slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """The daemon alone, as a node is lost to SLURM: what it started lives on."""
        self._nodes[node].kill()
        self._nodes[node].wait()

    def clear(self) -> None:
        """No job is left, and every node is back and idle."""
        for node in NODES:
            if self._nodes[node].poll() is not None:
                self.start_node(node)
        if left := {line.split("_")[0] for line in self.jobs("%i")}:
            self.ask("scancel", *left)
        self.wait(lambda: not self.jobs() and self.states() == dict.fromkeys(NODES, "idle"), 120, "two idle nodes")

    def restart_controller(self) -> None:
        """Killed, and started again with what it has kept on disk."""
        self._controller.kill()
        self._controller.wait()
        self._controller = self._start("slurmctld", "-D")
        self.wait(lambda: self.states().keys() == {*NODES}, 60, "controller that answers")

    def states(self) -> dict[str, str]:
        lines = self.ask("sinfo", "--noheader", "--Node", "--format=%N %T").split("\n")
        return {node: state for node, state in (line.split() for line in lines if line)}

    def jobs(self, form: str = "%i %T %N") -> list[str]:
        return self.ask("squeue", "--noheader", "--array", f"--format={form}").splitlines()

    def ask(self, *words: str, seconds: float = 60) -> str:
        """What a command says; '' where it does not come back in time, as scancel, which tries again for a minute or
        more while a lost node's job is being queued again."""
        with suppress(subprocess.TimeoutExpired):
            return subprocess.run(
                words, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False
            ).stdout
        return ""

    def wait(self, true: Callable[[], object], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"no {what} in {seconds:.0f} s; see {self.root}"
            time.sleep(0.2)

    def end(self) -> None:
        """Every daemon by its own number, and what jobs have left, which SLURM ends first."""
        if self.jobs():
            self.ask("scancel", "--signal=KILL", "--batch", *{line.split("_")[0] for line in self.jobs("%i")})
            self.ask("scancel", *{line.split("_")[0] for line in self.jobs("%i")})
        for began in reversed(self._began):
            with suppress(ProcessLookupError):
                began.send_signal(signal.SIGTERM)
            try:
                began.wait(10)
            except subprocess.TimeoutExpired:
                began.kill()
                began.wait()
