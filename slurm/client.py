"""The only place that runs Slurm's commands: with a timeout, patience, and errors that people can use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.text import visible
from jobctl.slurm.jobs import FIELD, SACCT_FIELDS, SQUEUE_FORMAT, Job, parse_sacct, parse_squeue

_NOT_SENT = (
    "unable to contact slurm controller",
    "connection refused",
    "unable to connect to",
    "backup controller",
)
_UNANSWERED = (
    "socket timed out", "zero bytes were transmitted", "transport endpoint", "temporarily unable",
    "resource temporarily unavailable", "in standby mode", "unexpected message received", "connection reset",
)  # fmt: skip

_HINTS = {
    "time limit": "sinfo -o '%P %l' shows each partition's limit; ask for less with --set time_limit=…",
    "node limit": "sinfo -o '%P %s' shows how many nodes a job may have; ask for fewer with --nodes",
    "node configuration": "no node has what the job asks for: sinfo -o '%P %D %c %m %G' shows what there is",
    "bad constraints": "no node has what the job asks for: sinfo -o '%P %D %c %m %G %f' shows what there is",
    "partition": "sinfo -s lists the partitions; name one in the site file or with --set partition=…",
    "account": "sacctmgr show associations user=$USER lists your accounts; set account in the site file",
    "qos": "sacctmgr show qos lists them; set qos in the site file",
    "reservation": "scontrol show reservation lists them; set reservation in the site file",
    "gres": "sinfo -o '%P %G' shows how GPUs are called here; see gpu_request and gpu_type of the site file",
    "feature": "sinfo -o '%P %f' lists the features that constraint may name",
    "policy": "a limit of your account or QoS refuses it: sacctmgr show associations user=$USER",
    "configuration source": "Slurm is not set up on this machine: is it a login node? is SLURM_CONF needed?",
    "permission": "Slurm does not let this user do that",
    "too long": "Slurm takes at most 1024 bytes for a name, a comment or a path",
}


def refusal_hint(answer: str) -> str:
    """What to look at after a refusal, by the word that it is about."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", answer).lower()
    return next((hint for word, hint in _HINTS.items() if word in spaced), "")


class SlurmRefused(UserError):
    """A command of Slurm's said no; ``answer`` is what it printed."""

    def __init__(self, command: str, answer: str) -> None:
        lines = [re.sub(r"^\w+: (error: )?", "", line) for line in answer.strip().splitlines()]
        answer = "; ".join(dict.fromkeys(lines)) or "no reason given"
        super().__init__(f"{command} refused: {answer}", hint=refusal_hint(answer), code=1)
        self.answer = answer


class Slurm:
    """Slurm's commands on this machine. A controller that is down is waited for, ``patience`` seconds."""

    def __init__(
        self,
        *,
        timeout: float = 60.0,
        patience: float = 600.0,
        announce: Callable[[str], None] = lambda message: print(
            visible(message), file=sys.stderr, flush=True
        ),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._timeout, self._patience, self._announce, self._sleep = timeout, patience, announce, sleep

    def submit(self, script: str, *, name: str, comment: str, options: Sequence[str] = ()) -> str:
        """Hand in a script whose job is to have this name and comment; its job id. ``options`` are sbatch's.

        An answer that got lost does not make a second job: the queue is looked at before the next try.
        Raises SlurmRefused.
        """

        def already_there() -> str | None:
            ids = [
                job.id for job in self.queue() if job.active and (job.name, job.comment) == (name, comment)
            ]
            return ids[-1] if ids else None

        command = ["sbatch", "--parsable", f"--job-name={name}", f"--comment={comment}", *options]
        answer = self._run(command, stdin=script, before_retry=already_there)
        return answer.strip().splitlines()[-1].split(";")[0]

    def queue(self, users: Iterable[int] = ()) -> list[Job]:
        """One squeue call: the jobs of these user ids, or this user's, that wait, run, or ended just now."""
        command = ["squeue", "--noheader", "--all", "--states=all", _user_option(users)]
        return parse_squeue(self._run([*command, f"--format={SQUEUE_FORMAT}"]))

    def history(self, since: float, users: Iterable[int] = ()) -> list[Job]:
        """One sacct call: every attempt of these users' jobs, or this user's, since then.

        Empty where Slurm keeps no accounts; and, with a message, where they cannot be had at the moment.
        """
        start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since))
        form = ["--noheader", "--parsable2", f"--delimiter={FIELD}", f"--format={','.join(SACCT_FIELDS)}"]
        which = ["--allocations", "--duplicates", _user_option(users), f"--starttime={start}"]
        try:
            return parse_sacct(self._run(["sacct", *form, *which], patience=0))
        except UserError as problem:
            if "accounting storage is disabled" not in problem.message.lower():
                self._announce(
                    f"Slurm's accounts cannot be read, so ended jobs may be missing ({problem.message})"
                )
            return []

    def cancel(self, ids: Sequence[str]) -> None:
        """End jobs, waiting or running; those that ended already are no error."""
        if ids:
            whole = [job.split("_[")[0] for job in ids]  # squeue calls an array's waiting part 7_[1-3%1]
            self._run(["scancel", "--quiet", *whole])

    # ---- how a command is run

    def _run(
        self,
        command: list[str],
        *,
        stdin: str = "",
        patience: float | None = None,
        before_retry: Callable[[], str | None] = lambda: None,
    ) -> str:
        path = shutil.which(command[0])
        if path is None:
            raise UserError(
                f"{command[0]} is not on the PATH, so this machine cannot talk to Slurm",
                hint="run jobctl on a login node of the cluster (or load its slurm module); "
                "jobctl render works anywhere",
            )
        deadline, pause = time.monotonic() + (self._patience if patience is None else patience), 1.0
        while True:
            try:
                done = subprocess.run(
                    [path, *command[1:]], input=stdin, capture_output=True, text=True, errors="replace",
                    timeout=self._timeout, env=_environment(command[0]), check=False,
                )  # fmt: skip
                code, answer = done.returncode, done.stderr.strip() or done.stdout.strip()
            except subprocess.TimeoutExpired:
                done, code, answer = None, 1, f"socket timed out: no answer in {self._timeout:g} s"
            if done is not None and code == 0:
                return done.stdout
            if not _passes(answer):
                raise SlurmRefused(command[0], answer)
            if time.monotonic() >= deadline:
                raise UserError(
                    f"{command[0]}: {answer}", hint="scontrol ping says whether Slurm is up", code=1
                )
            if pause == 1.0:
                self._announce(f"Slurm's controller does not answer; waiting for it ({_last_line(answer)})")
            self._sleep(pause)
            pause = min(2 * pause, 15.0)
            if _may_have_arrived(answer) and (found := before_retry()):
                return found


def _user_option(users: Iterable[int]) -> str:
    return f"--user={','.join(str(uid) for uid in sorted(set(users)) or [os.geteuid()])}"


def _passes(answer: str) -> bool:
    return any(words in answer.lower() for words in (*_NOT_SENT, *_UNANSWERED))


def _may_have_arrived(answer: str) -> bool:
    return any(words in answer.lower() for words in _UNANSWERED)


def _last_line(text: str) -> str:
    return text.splitlines()[-1] if text else "no message"


def _environment(command: str) -> dict[str, str]:
    """This process's environment without what would change the command's meaning.

    ``SBATCH_*`` beats the script's directives; ``SLURM_*`` of an allocation that jobctl runs in would reach
    the new job's srun; ``SQUEUE_*`` and ``SACCT_*`` change the output.
    """
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_"))
    }
    kept |= {k: os.environ[k] for k in ("SLURM_CONF", "SLURM_CLUSTERS") if k in os.environ}
    # BITSTR_LEN: squeue would cut the list of an array's waiting tasks at 64 characters.
    return (
        {**kept, "SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
        if command in ("squeue", "sacct")
        else kept
    )
