"""Run Slurm's commands. Only this module does so: with a timeout, with patience, and with useful errors."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.patience import Patience, Unanswered, ask
from jobctl.jobs.core.text import visible
from jobctl.slurm.failures import (
    is_no_cluster_or_silent,
    keeps_no_accounts,
    may_have_arrived,
    passes,
    without_repetitions,
)
from jobctl.slurm.hints import refusal_hint
from jobctl.slurm.jobs import (
    FIELD,
    SACCT_FIELDS,
    SQUEUE_FORMAT,
    Job,
    is_elsewhere,
    one_each,
    parse_sacct,
    parse_squeue,
)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 15.0
"""The longest pause, in seconds, between two requests to a controller that does not answer."""

_OF_ONE_CLUSTER = frozenset({"sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo"})


class SlurmSilent(UserError):
    """No controller answered a command in time."""

    def __init__(self, command: str, answer: str) -> None:
        super().__init__(f"{command}: {answer}", hint="scontrol ping says whether Slurm is up", code=1)


class SlurmRefused(UserError):
    """A command of Slurm refused. ``answer`` is its output."""

    def __init__(self, command: str, answer: str) -> None:
        lines = [re.sub(r"^\w+: (error: |fatal: )?", "", line) for line in answer.strip().splitlines()]
        answer = "; ".join(without_repetitions(lines)) or "no reason given"
        super().__init__(f"{command} refused: {answer}", hint=refusal_hint(answer), code=1)
        self.answer = answer
        self.keeps_no_accounts = keeps_no_accounts(answer)


class Slurm:
    """Slurm's commands on this machine. They wait up to ``patience`` seconds for a controller that is down.

    ``cluster`` is one of the clusters that share a slurmdbd. Empty: the cluster of this machine.
    """

    def __init__(
        self,
        *,
        cluster: str = "",
        timeout: float = 60.0,
        patience: float = 600.0,
        announce: Callable[[str], None] = lambda message: print(
            visible(f"jobctl: {message}"), file=sys.stderr, flush=True
        ),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cluster = cluster
        self._timeout = timeout
        self._patience = patience
        self._tell = announce
        self._told: set[str] = set()
        self._sleep = sleep

    def _announce(self, message: str) -> None:
        """Print a message only once, because a user who waits for a run asks again and again."""
        if message not in self._told:
            self._told.add(message)
            self._tell(message)

    def of(self, cluster: str, *, patience: float | None = None) -> Slurm:
        """Return the same commands for another cluster, with another patience if one is given."""
        # A shallow copy shares the messages that the user has already seen, so none is printed twice.
        other = copy.copy(self)
        other._cluster = cluster
        if patience is not None:
            other._patience = min(patience, self._patience)

        return other

    def submit(self, script: str, *, name: str, comment: str, options: Sequence[str] = ()) -> str:
        """Submit a script under this job name and comment, and return the job id. ``options`` are sbatch's.

        A lost answer makes no second job: look for the job in the queue before the next try. Raises
        SlurmRefused.
        """

        def submitted_before() -> str | None:
            jobs = [job for job in self.queue() if job.active]
            ids = [job.id for job in jobs if (job.name, job.comment) == (name, comment)]
            return ids[-1] if ids else None

        # Name and comment are on the command line, so they win over a directive of an edited script.
        command = ["sbatch", "--parsable", f"--job-name={name}", f"--comment={comment}", *options]
        answer = self._run(command, stdin=script, before_retry=submitted_before)

        # sbatch prints ID;CLUSTER, and a site's wrapper may print lines before it.
        return answer.strip().splitlines()[-1].split(";")[0]

    def queue(self, users: Iterable[int] = ()) -> list[Job]:
        """Return the jobs that wait, run, or have just ended, with one squeue call.

        They are the jobs of these user ids, or of this user. In a federation they come from all its clusters.
        """
        # All states and partitions: a job that has just ended, or is in a hidden partition, counts as well.
        command = ["squeue", "--noheader", "--all", "--states=all", *self._everywhere("--sibling")]
        return one_each(parse_squeue(self._run([*command, _user_option(users), f"--format={SQUEUE_FORMAT}"])))

    def job(self, id_: str) -> list[Job]:
        """Return the queued records of one job, with the tasks of an array. The controller sends no others.

        A job that ended longer ago is not an error: the list is empty.
        """
        command = ["squeue", "--noheader", "--all", "--states=all", *self._everywhere("--sibling")]
        try:
            return one_each(parse_squeue(self._run([*command, f"--jobs={id_}", f"--format={SQUEUE_FORMAT}"])))
        except SlurmRefused:
            return []

    def history(self, since: float, users: Iterable[int] = ()) -> list[Job]:
        """Return every attempt since then of these users' jobs, or of this user's, with one sacct call.

        Return an empty list if Slurm keeps no accounts. Return one also, with a message, if it cannot read
        them now.
        """
        # sacct takes the time of the local zone.
        start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since))
        form = ["--noheader", "--parsable2", f"--delimiter={FIELD}", f"--format={','.join(SACCT_FIELDS)}"]
        # With each attempt of a job that was requeued, and without its steps.
        which = ["--allocations", "--duplicates", *self._everywhere("--federation"), _user_option(users)]

        try:
            jobs = parse_sacct(self._run(["sacct", *form, *which, f"--starttime={start}"], patience=0))
            # Do not use one_each: accounts have a record for each attempt of a job, and all of them count.
            return [job for job in jobs if not is_elsewhere(job)]
        except UserError as problem:
            if isinstance(problem, SlurmRefused) and problem.keeps_no_accounts:
                return []

            self._announce(
                f"Slurm's accounts cannot be read, so ended jobs may be missing ({problem.message})"
            )
            return []

    def answer(self, command: list[str]) -> str:
        """Return the output of one of Slurm's commands. Raises UserError if it does not answer at once."""
        return self._run(command, patience=0)

    def cancel(self, ids: Sequence[str]) -> None:
        """End waiting or running jobs. A job that has already ended is not an error."""
        if ids:
            whole = [job.split("_[")[0] for job in ids]  # squeue calls an array's waiting part 7_[1-3%1]
            self._run(["scancel", "--quiet", *whole])

    def signal_steps(self, job: str, name: str, signal: str) -> None:
        """Signal the steps of a job that have this name. A step that has already ended is not an error."""
        listed = self._run(["squeue", "--noheader", "--steps", f"--jobs={job}", f"--format=%i{FIELD}%j"])
        pairs = (line.split(FIELD, 1) for line in listed.splitlines())
        steps = [pair[0] for pair in pairs if pair[1:] == [name]]
        if steps:
            self._run(["scancel", "--quiet", f"--signal={signal}", *steps])

    def _everywhere(self, option: str) -> list[str]:
        """Return the ``option`` for all clusters of a federation, if any of them may run the job."""
        return [] if self._cluster else [option]

    # ---- how a command is run

    def _run(
        self,
        command: list[str],
        *,
        stdin: str = "",
        patience: float | None = None,
        before_retry: Callable[[], str | None] = lambda: None,
    ) -> str:
        """Return the output of the command. Ask a controller that is down again, for ``patience`` seconds.

        A request with a lost answer may have done its work, so ``before_retry`` looks for the result first.
        Raises SlurmRefused. Raises SlurmSilent if nobody answers in time.
        """
        path = shutil.which(command[0])
        if path is None:
            raise UserError(
                f"{command[0]} is not on the PATH, so this machine cannot talk to Slurm",
                hint="run jobctl on a login node (or load its slurm module), or set login.host in the site file; "
                "jobctl render works anywhere",
            )

        arrived = False

        def request() -> str:
            nonlocal arrived
            # The request may have made the job. A second job would write into the same directory.
            if arrived and (result := before_retry()):
                return result

            code, output, answer = self._execute(path, _directed(command, self._cluster), stdin)
            if code == 0:
                return output

            # Ask again only after a failure that may pass by itself. A refusal is final.
            if not passes(answer):
                raise SlurmRefused(command[0], answer)

            if is_no_cluster_or_silent(answer):
                self._check_that_clusters_are_known(command[0])

            # It stays true. A later try that reached no controller does not undo an earlier one that may have
            # arrived.
            arrived = arrived or may_have_arrived(answer)
            notice = f"Slurm's controller does not answer; waiting for it ({_last_line(answer)})"
            raise Unanswered(notice, SlurmSilent(command[0], answer))

        total = self._patience if patience is None else patience
        limits = Patience(total, FIRST_PAUSE, LONGEST_PAUSE)

        return ask(request, limits, announce=self._announce, sleep=self._sleep)

    def _check_that_clusters_are_known(self, command: str) -> None:
        """Raise SlurmRefused if this site has no slurmdbd, so that no other cluster can have a name.

        Slurm uses the same words for such a site, and for a cluster whose controller is down.
        """
        accounts = shutil.which("sacct")
        if accounts is None:
            return

        # sacct reads Slurm's configuration first, so it needs no server for this answer.
        _, _, answer = self._execute(accounts, ["sacct", "--noheader", "--starttime=now"], "")
        if keeps_no_accounts(answer):
            raise SlurmRefused(
                command,
                f"slurm.cluster is '{self._cluster}', and this Slurm has no database of clusters (slurmdbd)",
            )

    def _execute(self, path: str, command: list[str], stdin: str) -> tuple[int, str, str]:
        """Run a command once. Return its exit code, its output, and its error message if it failed."""
        try:
            done = subprocess.run(
                [path, *command[1:]],
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self._timeout,
                env=_environment(command[0]),
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            # The command may have printed why it waits.
            said = (late.stderr or b"").decode(errors="replace").strip()
            return 1, "", f"{said}\nsocket timed out: no answer in {self._timeout:g} s".lstrip()

        return done.returncode, done.stdout, done.stderr.strip() or done.stdout.strip()


def _directed(command: list[str], cluster: str) -> list[str]:
    """Return ``command`` for ``cluster``. sacctmgr asks the one slurmdbd, and srun's help asks no server."""
    if not cluster or command[0] not in _OF_ONE_CLUSTER:
        return command

    return [command[0], f"--clusters={cluster}", *command[1:]]


def _user_option(users: Iterable[int]) -> str:
    return f"--user={','.join(str(uid) for uid in sorted(set(users)) or [os.geteuid()])}"


def _last_line(text: str) -> str:
    return text.splitlines()[-1] if text else "no message"


def _environment(command: str) -> dict[str, str]:
    """Return this process's environment without variables that change the command's meaning.

    ``SBATCH_*`` wins over the script's directives. ``SLURM_*`` of an allocation that contains jobctl would
    reach the new job's srun. ``SQUEUE_*`` and ``SACCT_*`` change the output. A run's cluster is in its
    record.
    """
    foreign = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # Keep this variable: it gives the cluster if the configuration is not at the usual path.
    if "SLURM_CONF" in os.environ:
        kept["SLURM_CONF"] = os.environ["SLURM_CONF"]

    if command in ("squeue", "sacct"):
        kept["SLURM_TIME_FORMAT"] = "%s"
        # Otherwise squeue cuts the list of an array's waiting tasks at 64 characters.
        kept["SLURM_BITSTR_LEN"] = "0"

    return kept
