"""A real Slurm of two nodes on this machine, for the tests: up in about a second, gone with its owner.

Every daemon and every job lives in one PID namespace, whose first process dies with the Python process that
made it; so nothing outlives a test run, not even one that was killed. Each node also has mounts, a host name and a
network of its own: its loopback is its alone, and it calls itself as its hosts file says. Timings are Slurm's defaults.

Needs root and Debian's packages (``PACKAGES``). Commands reach a cluster through ``SLURM_CONF`` alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tests.clusters import BUSY, releases, slurm_conf
from tests.clusters.machine import (
    PREFIX,
    SLOTS,
    cgroup_hierarchies,
    claim_slot,
    host_of,
    process_ids,
    process_text,
    remove,
    text_of,
)
from tests.clusters.network import Network
from tests.clusters.slurm_conf import NODES, HostsStyle

PACKAGES = "slurmctld slurmd slurm-client munge iproute2"
ACCOUNTING_PACKAGES = "slurmdbd mariadb-server"


def missing(accounting: bool = False) -> str:
    """Why a cluster cannot start here; empty when it can."""
    binaries = ["slurmctld", "slurmd", "sbatch", "munged", "unshare", "nsenter", "ip"]
    packages = PACKAGES
    if accounting:
        binaries += ["slurmdbd", "mariadbd"]
        packages += f" {ACCOUNTING_PACKAGES}"
    if not all(shutil.which(name, path=_search_path()) for name in binaries):
        return f"Slurm's daemons are not installed: apt-get install --no-install-recommends {packages}"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root on this machine"


class SlurmCluster:
    """Two nodes of sixteen CPUs and eight stand-in GPUs each. Partition ``short`` is for 5 minutes on one; jobs in
    ``low`` and ``scavenge`` are preempted by those in the others: requeued after a warning, and cancelled at once.

    ``directory`` holds all its files; ``conf`` is what ``SLURM_CONF`` must name.
    """

    def __init__(self, hosts: HostsStyle = "debian", release: str = "", name: str = "lab") -> None:
        """Slurm is this machine's, or that of another ``release`` of Debian."""
        self.directory = Path()
        self.name = name
        self._release = release
        self._programs = Path("/")
        self._hosts = hosts
        self.network: Network | None = None
        self._slot: tuple[int, IO[str]] | None = None
        self._init: subprocess.Popen[bytes] | None = None
        self._init_pid = 0

    @property
    def conf(self) -> Path:
        return self.directory / "etc" / "jobctl.slurm.conf"

    @property
    def env(self) -> dict[str, str]:
        """The environment in which Slurm's commands talk to this cluster."""
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SQUEUE_"))
        }
        path = f"{self._commands}:{_search_path()}" if self._release else _search_path()
        return {**inherited, "PATH": path, "SLURM_CONF": str(self.conf)}

    @property
    def _commands(self) -> Path:
        """The folder of Slurm's commands, where they are not this machine's."""
        return self.directory / "bin"

    def start(self, accounting: bool = False, beside: SlurmCluster | None = None) -> SlurmCluster:
        """Start every daemon and wait until both nodes are idle; raises RuntimeError with their logs.

        A cluster ``beside`` another one has its accounts there, so that ``--clusters`` names either. It stores the
        comments of its jobs, which is not Slurm's default.
        """
        # Not pytest's tmp_path: a socket's path may have 108 bytes, and other users must reach it.
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=SLOTS))
        self.directory.chmod(0o711)
        try:
            self._slot = claim_slot(self.directory)
            self.network = Network(self._slot[0])
            self.network.make()
            if self._release:
                self._programs = releases.programs_of(self._release)
            self._write_files(self._accounts(accounting, beside), beside)
            self._start_namespace()
            if self._release:
                releases.write_commands(self._programs, self._commands, self._init_pid)
            self.inside("munged", "--force", *self._munge_options())
            if accounting:
                self._start_accounting()
            if accounting or beside:
                self.run("sacctmgr", "-i", "add", "cluster", self.name, check=False)
            self.start_controller()
            for node in NODES:
                self.start_node(node)
            self.wait_until_idle()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the jobs and every daemon of this cluster, and remove its files."""
        if self._init is not None:
            self._init.kill()
            self._init.wait()
            self._init = None
        if self.network is not None:
            self.network.remove()
        remove(self.directory)
        if self._slot is not None:
            self._slot[1].truncate(0)
            self._slot[1].close()
            self._slot = None

    def run(self, *command: str, check: bool = True, stdin: str | None = None, timeout: float = 60) -> str:
        """Run one of Slurm's commands as a user would, from outside; its standard output, stripped."""
        done = subprocess.run(
            command, env=self.env, input=stdin, text=True, capture_output=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def inside(self, *command: str, timeout: float = 60) -> str:
        """Run a command among the daemons: the process ids of this cluster, as root."""
        enter = ["nsenter", "--target", str(self._init_pid), "--pid", "--mount", "--root", "--wd", "--"]
        # A daemon keeps the descriptors it is given, so its output goes to a file: a pipe would never end.
        with (self.directory / "log" / "inside.log").open("a+b") as output:
            start = output.seek(0, os.SEEK_END)
            done = subprocess.run(
                [*enter, *command], env=self.env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                timeout=timeout, check=False,
            )  # fmt: skip
            output.seek(start)
            text = output.read().decode(errors="replace").strip()
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {text}")
        return text

    def start_controller(self) -> None:
        self.inside(*self._daemon("slurmctld"))

    def stop_controller(self) -> None:
        """End slurmctld; running jobs go on."""
        self._stop("slurmctld")

    def _stop(self, daemon: str) -> None:
        pid = (self.directory / "run" / f"{daemon}.pid").read_text().strip()
        self.inside("sh", "-c", f"kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.02; done")

    def start_accounts(self) -> None:
        """Start slurmdbd beside its database, and wait until it answers."""
        self.inside("env", f"MYSQL_UNIX_PORT={self.directory}/mysql/s.sock", *self._daemon("slurmdbd"))
        self._wait_until(lambda: _succeeds(self.run, "sacctmgr", "-n", "list", "cluster"), 30, "slurmdbd")

    def stop_accounts(self) -> None:
        """End slurmdbd; its database goes on."""
        self._stop("slurmdbd")

    def start_node(self, node: str) -> None:
        """Boot a node: an empty machine with its own name and network, which runs slurmd."""
        assert self.network is not None
        hosts = self.directory / "etc" / f"hosts-{node}"
        etc = f"{self._programs}/etc"
        resolver = f"[ ! -e {etc}/resolv.conf ] || mount --bind {hosts.parent}/resolv.conf {etc}/resolv.conf"
        files = f"mount --bind {hosts} {etc}/hosts; {resolver}"
        private = f"hostname {node}; {files}; exec {' '.join(self._daemon('slurmd'))} -N {node}"
        self.inside("sh", "-ec", self.network.script(NODES.index(node), private))

    def stop_node(self, node: str) -> None:
        """Kill a node's slurmd and all that it runs, as when the machine dies; the controller is not told."""
        slurmd = f"slurmd\0-N\0{node}\0"
        on_node = [
            p
            for p in process_ids()
            if process_text(p).startswith(slurmd) and str(self.conf) in process_text(p)
        ]
        host = host_of(on_node[0])
        while left := [p for p in process_ids() if host_of(p) == host]:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def power_off(self, node: str) -> None:
        """As ``stop_node``, but no connection is closed: a machine without power sends nothing."""
        assert self.network is not None
        self.network.cut(NODES.index(node))
        self.stop_node(node)

    def wait_until_idle(self) -> None:
        self._wait_until(self._all_idle, 60, "two idle nodes")

    def cancel_all(self) -> None:
        """Cancel every job and wait until both nodes are idle again."""
        jobs = self.run("squeue", "-h", "-o", "%A").split()
        if jobs:
            self.run("scancel", "--quiet", *jobs, check=False)
        self._wait_until(lambda: not self.run("squeue", "-h") and self._all_idle(), 60, "an empty queue")

    def wait_for_job(self, job: str, *states: str, seconds: float = 60) -> str:
        """Wait until a job is in one of the states (``COMPLETED``, ``FAILED``, …) and return which one."""
        found = ""

        def reached() -> bool:
            nonlocal found
            fields = dict(
                f.split("=", 1) for f in self.run("scontrol", "-o", "show", "job", job).split() if "=" in f
            )
            found = fields.get("JobState", "")
            return found in states

        self._wait_until(reached, seconds, f"job {job} in {' or '.join(states)}", lambda: f"it is {found}")
        return found

    def log(self, daemon: str) -> str:
        """The log of ``slurmctld``, ``slurmd-n1``, ``slurmd-n2``, ``slurmdbd``, ``munged`` or ``mariadb``."""
        return text_of(self.directory / "log" / f"{daemon}.log")

    # ---- how it is built

    def _accounts(self, accounting: bool, beside: SlurmCluster | None) -> int | None:
        """The slot of the cluster whose slurmdbd serves this one; None without accounts."""
        keeper = beside or (self if accounting else None)
        return keeper._slot[0] if keeper and keeper._slot else None

    def _write_files(self, accounts: int | None, beside: SlurmCluster | None) -> None:
        for folder in ("etc", "run", "log", "state", "dev", "munge", "spool/n1", "spool/n2"):
            (self.directory / folder).mkdir(parents=True)
        key = (beside.directory / "munge/munge.key").read_bytes() if beside else os.urandom(1024)
        self._secret("munge/munge.key", key)
        for index in range(slurm_conf.GPUS_PER_NODE):
            # A GPU of Slurm's needs a device file: a clone of /dev/null stands in.
            os.mknod(self.directory / f"dev/nvidia{index}", 0o20666, os.makedev(1, 3))
        assert self._slot is not None
        slot = self._slot[0]
        files = {
            "jobctl.slurm.conf": slurm_conf.slurm_conf(
                self.directory,
                slot,
                name=self.name,
                accounts=accounts,
                stores_comments=beside is not None,
                cgroups=bool(cgroup_hierarchies()),
                newer=bool(self._release),
            ),
            "gres.conf": slurm_conf.gres_conf(self.directory),
            "cgroup.conf": slurm_conf.cgroup_conf(self.directory, newer=bool(self._release)),
            # The machine's name server is not in a node's network: each question would wait for its time-outs.
            "resolv.conf": "nameserver 127.0.0.1\n",
        }
        for index, node in enumerate(NODES):
            files[f"hosts-{node}"] = slurm_conf.hosts(slot, index, self._hosts)
        for name, text in files.items():
            (self.directory / "etc" / name).write_text(text)
        if accounts == slot:
            self._secret("etc/slurmdbd.conf", slurm_conf.slurmdbd_conf(self.directory, slot).encode())

    def _secret(self, name: str, content: bytes) -> None:
        path = self.directory / name
        path.touch(0o600)
        path.write_bytes(content)

    def _munge_options(self) -> list[str]:
        munge = self.directory / "munge"
        d = self.directory
        munge.chmod(0o711)
        return [
            f"--key-file={munge}/munge.key",
            f"--socket={munge}/munge.socket",
            f"--seed-file={munge}/munge.seed",
            f"--pid-file={d}/run/munged.pid",
            f"--log-file={d}/log/munged.log",
        ]

    def _start_namespace(self) -> None:
        """The first process of the PID namespace; it also takes in the orphans of every daemon."""
        shared = (SLOTS, Path(__file__).parents[2])
        lines = [*self._cgroup_mounts(), *(releases.mounts(self._programs, *shared) if self._release else ())]
        script = "\n".join(lines) + "\necho ready; while :; do sleep 3600 & wait $!; done"
        self._init = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount",
             "--mount-proc", "bash", "-ec", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._init.stdout is not None
        if self._init.stdout.readline() != b"ready\n":
            raise RuntimeError("no PID namespace for the cluster: unshare failed")
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()
        self._init_pid = int(children[0])

    def _cgroup_mounts(self) -> Iterator[str]:
        """This cluster's own corner of each v1 hierarchy, in the place of the whole one.

        Two clusters have the same node names, and would share the groups of their jobs.
        """
        yield f"mkdir {self.directory}/cgroup"
        for hierarchy in cgroup_hierarchies():
            mine = f"{hierarchy}/{self.directory.name}"
            there = f"{self.directory}/cgroup/{hierarchy.name}"
            yield f"mkdir {mine} {there}"
            if hierarchy.name == "cpuset":
                for name in ("cpuset.cpus", "cpuset.mems"):
                    yield f"cat {hierarchy}/{name} > {mine}/{name}"
            yield f"mount --bind {mine} {there}"

    def _start_accounting(self) -> None:
        data = self.directory / "mysql"
        log = self.directory / "log"
        data.mkdir()
        shutil.chown(data, "mysql", "mysql")
        data.chmod(0o711)
        common = ["--no-defaults", "--user=mysql", f"--datadir={data}"]
        self.inside("mariadb-install-db", *common, "--auth-root-authentication-method=socket")
        where = [f"--socket={data}/s.sock", f"--pid-file={data}/m.pid", "--skip-networking"]
        quick = ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M"]
        server = " ".join(["mariadbd", *common, *where, *quick])
        self.inside("sh", "-c", f"{server} > {log}/mariadb.log 2>&1 &")
        client = ["mariadb", "--no-defaults", f"--socket={data}/s.sock", "--execute"]
        self._wait_until(lambda: _succeeds(self.inside, *client, "select 1"), 30, "mariadb")
        self.inside(
            *client,
            "create user slurm@localhost identified by 'tests'; create database slurm_acct_db;"
            "grant all on slurm_acct_db.* to slurm@localhost",
        )
        self.start_accounts()

    def _daemon(self, name: str) -> list[str]:
        return ["chroot", str(self._programs), name] if self._release else [name]

    def _all_idle(self) -> bool:
        states = self.run("sinfo", "-h", "-N", "-p", "gpu", "-o", "%N %T", check=False).split("\n")
        return sorted(states) == [f"{node} idle" for node in NODES]

    def _all_logs(self) -> str:
        return "".join(
            f"== {log.name}\n{text_of(log)[-4000:]}\n" for log in sorted(self.directory.glob("log/*.log"))
        )

    def _wait_until(
        self, reached: Callable[[], bool], seconds: float, what: str, why: Callable[[], str] = lambda: ""
    ) -> None:
        deadline = time.monotonic() + BUSY * seconds
        while not reached():
            if time.monotonic() > deadline:
                raise RuntimeError(f"not seen: {what} after {seconds:g} s; {why()}\n{self._all_logs()}")
            time.sleep(0.05)


def _search_path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def _succeeds(call: Callable[..., str], *command: str) -> bool:
    try:
        call(*command)
    except RuntimeError:
        return False
    return True
