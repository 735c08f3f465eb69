"""The login node of a site. A verb acts there if this machine cannot reach the site's Slurm itself."""

from __future__ import annotations

import contextlib
import copy
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from jobctl import __version__
from jobctl.jobs.catalog.schema import LoginSection
from jobctl.jobs.cli import WORDS
from jobctl.jobs.cli.choices import (
    PROJECT_FILE,
    Project,
    is_being_written,
    named_run,
    path_of_file,
    project_choices,
)
from jobctl.jobs.cli.login_limits import is_of_the_login, refuse_what_stays_here
from jobctl.jobs.cli.output import STANDARD_OUTPUT
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.reading import read_text_file
from jobctl.jobs.spec.gathering import entry_name, is_file_name
from jobctl.jobs.spec.layers import parse_set
from jobctl.jobs.spec.resolution import load_site
from jobctl.jobs.targets.registry import target_entry

ACTING = frozenset({"submit", "pipeline", "sweep", "resume", "cancel", "delete", "prune"})
"""Verbs that change something. They run to their end even if the connection breaks."""
NAMING = frozenset({"submit", "pipeline", "sweep"})
"""Verbs that make a run. Its name is chosen here, so that it is known even if the connection breaks."""
SUBMIT = "submit"
SWEEP = "sweep"
"""A verb that names its run in its own way. Here it is a verb, and not a kind of job."""
AT_TERMINAL = frozenset({"watch", "shell"})
"""Verbs that draw on the terminal."""
ASKING = frozenset({"delete", "prune"})
"""Verbs that ask a question at a terminal, except with ``--yes``."""
OF_THE_LOGIN = ("new", "check", "adopt")
"""Commands of a group that act on the login node."""
SUBJECTS = ("runs", "subjects", "folder")
"""Options that name runs or folders, in the verbs that accept a path of this machine."""
SAMPLE = "sample"
"""A verb whose one run may be a folder."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """The login node that applies to one command."""

    section: LoginSection
    project: Project

    @property
    def host(self) -> str:
        return self.section.host


def where_runs_are(command: click.Command, verb: str) -> click.Command:
    """Return the command in a form that acts on the login node, if one applies."""
    # A copy is made: the module's own command would be wrapped again at each call.
    changed = copy.copy(command)
    if isinstance(changed, click.Group):
        changed.commands = {
            name: where_runs_are(below, verb) if name in OF_THE_LOGIN else below
            for name, below in changed.commands.items()
        }
        return changed

    here = command.callback
    assert here is not None

    def callback(**options: Any) -> Any:
        subjects = {"runs": (options["run"],)} if verb == SAMPLE else {}
        login = login_in_force(options | subjects)
        if login is None or not is_of_the_login(verb, options, login.host):
            return here(**options)

        sys.exit(_act(login, verb, click.get_current_context().meta[WORDS], options))

    changed.callback = callback
    return changed


def login_in_force(options: Mapping[str, Any]) -> Login | None:
    """Return the login node on which a command acts; None if it acts here.

    It acts here for a target without a login node, and on a machine with the scheduler's commands. It also
    acts here for runs that are named by a path. Raises UserError for a site whose settings have no meaning on
    another machine.
    """
    context = click.get_current_context(silent=True)
    # `obj` is true where another machine asks. Without it this node would ask itself.
    if context and context.find_root().obj:
        return None

    project, layer = project_choices()
    entry = target_entry(options.get("target") or project.target)
    named = options.get("login_host")
    if named and not entry.has_login:
        raise UserError(f"--login: target {entry.name} has no login node", hint="--target slurm")

    if not entry.has_login or all(shutil.which(name) for name in entry.programs):
        return None

    if named:
        section = LoginSection(host=named, jobctl=options["login_jobctl"] or LoginSection().jobctl)
        return Login(section=section, project=project)

    if any(is_here(word) for key in SUBJECTS for word in _words(options.get(key))):
        return None

    # With `jobctl site new > FILE`, if the project names FILE, the file is still empty.
    if "login_host" in options and is_being_written(_site_of(options, project)):
        return None

    # Only keys of `login` are read: a sweep's --set has words that are not settings, such as tier=1,2.
    sets = dict(parse_set(text) for text in options.get("sets") or () if text.startswith("login."))
    site = load_site(_site_of(options, project), project=layer, named=sets)
    if not site.login.host:
        return None

    if site.root and not site.root.startswith(("/", "~")):
        raise UserError(
            f"root is {site.root!r}, a folder of this machine, and jobs run at {site.login.host}",
            hint="root: an absolute path of the cluster",
        )

    return Login(section=site.login, project=project)


def _words(value: str | Sequence[str] | None) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value or ()


def is_here(word: str) -> bool:
    """Return whether a word names a file or a folder of this machine.

    A bare name is the name of a run, even if `collect` has made a folder of that name here.
    """
    path = Path(word).expanduser()
    return path.is_file() or (path.exists() and (os.sep in word or word in (".", "..")))


def _site_of(options: Mapping[str, Any], project: Project) -> str | None:
    file = options.get("file")
    return path_of_file(file) if file else options.get("site") or project.site


def _act(login: Login, verb: str, words: Sequence[str], options: Mapping[str, Any]) -> int:
    """Run ``words`` on the login node. Return the exit code. A wait is a separate command: it may break."""
    refuse_what_stays_here(options, login.host)
    run, words = _with_name(verb, words, options)
    waits = bool(options.get("wait")) and not options.get("dry_run")
    if not waits:
        return _do(login, verb, words, options, run)

    code = _do(login, verb, [word for word in words if word != "--wait"], options, run)
    if code or run is None:
        return code

    place = [text for key in ("target", "site") if options.get(key) for text in (f"--{key}", options[key])]
    # `wait` also prints the result of a sweep.
    return _do(login, "wait", ["wait", run, *place], options, run)


def _with_name(verb: str, words: Sequence[str], options: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """Return the run of a command, as far as it is known here, and the words with its name."""
    named = options.get("run")
    if verb == SUBMIT:
        named = named_run(options["words"], named)
    elif verb == SWEEP and options["words"] and not options["model"]:  # it shows a run
        named = options["words"][0]

    if named or verb not in NAMING:
        return named, list(words)

    # The name is put before the other words, which may end with `--` and flags.
    chosen = _chosen_name(verb, options)
    return chosen, [words[0], "--run", chosen, *words[1:]] if chosen else list(words)


def _chosen_name(verb: str, options: Mapping[str, Any]) -> str | None:
    """Return a name for a run without a name; None if only the login node can choose it."""
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    if verb != SUBMIT:
        model = options["model"] or project_choices()[0].model
        middle = "-sweep" if verb == SWEEP else ""
        return f"{entry_name(model)}{middle}-{stamp}" if model else None

    from jobctl.jobs.cli.choices import resolution

    # No job depends on these options of the verb.
    of_the_verb = ("dry_run", "wait", "force", "as_json")
    choices = {key: value for key, value in options.items() if key not in of_the_verb}
    try:
        spec = resolution(**choices, stamp=stamp).spec
    except UserError:  # the login node reports the same error, or has the missing facts
        return None

    return None if spec.on_a_checkpoint else spec.run


def output_of(login: Login, verb: str, options: Mapping[str, Any], *, as_file: bool = True) -> bytes:
    """Return the output of a command on the login node, or the file that it makes, to be written here.

    Exits with the code of the command if it makes no file. The command has printed the reason.
    """
    words = list(click.get_current_context().meta[WORDS])
    if as_file:
        end = words.index("--") if "--" in words else len(words)
        # The last option counts, and a `-o` after `--` would be the name of a run.
        words[end:end] = ["-o", STANDARD_OUTPUT]

    pieces: list[bytes] = []
    if code := _do(login, verb, words, options, None, pieces.append):
        sys.exit(code)

    return b"".join(pieces)


def _do(
    login: Login,
    verb: str,
    words: Sequence[str],
    options: Mapping[str, Any],
    run: str | None,
    write: Callable[[bytes], object] | None = None,
) -> int:
    """Run one command on the login node. Return the exit code. Print its output, or pass it to ``write``."""
    from jobctl.jobs.login.asking import ask, ask_at_terminal
    from jobctl.jobs.login.request import Request
    from jobctl.jobs.runs.revision import git_revision

    acts = verb in ACTING
    request = Request(
        version=__version__,
        words=tuple(words),
        texts=texts_of(options, login.project),
        # Only verbs that make a job need it: on a slow disk the revision of a checkout takes time.
        revision=git_revision() if acts else None,
        acts=acts,
    )
    host = login.host
    program = login.section.jobctl
    # Through ssh's terminal output and errors are one stream. So it is used only if a person reads both.
    draws = verb in AT_TERMINAL or (verb in ASKING and not options["yes"])
    if draws and sys.stdin.isatty() and sys.stdout.isatty():
        return ask_at_terminal(host, program, request)

    with broken_in_words(verb, run, words):
        return ask(host, program, request, write or _print)


def _print(piece: bytes) -> None:
    sys.stdout.buffer.write(piece)
    # Flush at once: a followed log comes in small pieces.
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def broken_in_words(verb: str, run: str | None, words: Sequence[str] = ()) -> Iterator[None]:
    """Print the known facts of the run if the connection breaks, or if the user ends the wait."""
    from jobctl.jobs.login.asking import Broken

    try:
        yield
    except Broken as broken:
        raise UserError(broken.message, hint=_what_to_do(verb, run, words), code=1) from None
    except KeyboardInterrupt:
        if verb in ACTING or verb == "wait":
            click.echo(f"\njobctl: interrupted; {_what_to_do(verb, run, words)}", err=True)

        # The caller turns this into the exit code of Ctrl-C.
        raise


def _what_to_do(verb: str, run: str | None, words: Sequence[str]) -> str:
    if verb in NAMING:
        if run is None:
            return f"jobctl list shows whether the {verb} was successful"

        return (
            f"jobctl status {run} shows whether it was submitted; if not, run the same command again with "
            f"--run {run}: a second submission with the same name is refused"
        )

    if verb in ACTING:
        return (
            f"jobctl status {run} shows whether the command was successful"
            if run
            else "jobctl list shows whether the command was successful"
        )

    return f"running jobs continue; run the command again: jobctl {shlex.join(words or [verb, run or ''])}"


def texts_of(options: Mapping[str, Any], project: Project) -> dict[str, str | None]:
    """Return the texts of the files here that a command reads: the project file, and those of its choices."""
    # It is read here: its site and its model are files of this machine.
    is_project = Path(PROJECT_FILE).is_file()
    # None is also sent: a project file in the login node's own folder must not count.
    texts: dict[str, str | None] = {PROJECT_FILE: read_text_file(PROJECT_FILE) if is_project else None}
    choices = [options.get(key) or getattr(project, key) for key in ("model", "hardware")]
    choices.append(_site_of(options, project))
    files = [choice for choice in choices if choice and is_file_name(choice)]
    files += [word for word in options.get("subjects") or () if word.endswith(".csv")]

    return texts | {str(Path(file)): read_text_file(file) for file in files}
