"""The login node of a site: a verb acts there where this machine does not reach the site's Slurm itself."""

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
"""Verbs that change something, and that go on to their end although the connection breaks."""
NAMING = frozenset({"submit", "pipeline", "sweep"})
"""Verbs that make a run. Its name is chosen here, so that it is known whatever becomes of the connection."""
SUBMIT = "submit"
SWEEP = "sweep"
"""Verbs whose run is named in a way of its own. The second is a verb here, and no kind of job."""
AT_TERMINAL = frozenset({"watch", "shell"})
"""Verbs that draw on a terminal."""
ASKING = frozenset({"delete", "prune"})
"""Verbs that ask a question at a terminal, except with ``--yes``."""
OF_THE_LOGIN = ("new", "check", "adopt")
"""Commands of a group that act on the login node."""
SUBJECTS = ("runs", "subjects", "folder")
"""Options that name runs or folders, in the verbs where a path of this machine has a meaning."""
SAMPLE = "sample"
"""A verb whose one run may be a folder."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """The login node that is in force for one command."""

    section: LoginSection
    project: Project

    @property
    def host(self) -> str:
        return self.section.host


def where_runs_are(command: click.Command, verb: str) -> click.Command:
    """Return the command in a form that acts on the login node, where one is in force."""
    # A copy: the module's own command would be wrapped once more at each call.
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
    """Return the login node on which a command acts; None where it acts here.

    It acts here on a target without a login node, and on a machine that has the scheduler's commands. It also
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

    # `jobctl site new > FILE` where the project names FILE: it cannot say anything yet.
    if "login_host" in options and is_being_written(_site_of(options, project)):
        return None

    # Only keys of `login`: a sweep's --set has words that are no settings, such as tier=1,2.
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
    """Whether a word names a file or a folder of this machine.

    A bare name is that of a run, although `collect` may have made a folder of that name here.
    """
    path = Path(word).expanduser()
    return path.is_file() or (path.exists() and (os.sep in word or word in (".", "..")))


def _site_of(options: Mapping[str, Any], project: Project) -> str | None:
    file = options.get("file")
    return path_of_file(file) if file else options.get("site") or project.site


def _act(login: Login, verb: str, words: Sequence[str], options: Mapping[str, Any]) -> int:
    """Do ``words`` on the login node; the exit code. A wait is a command of its own, which may break off."""
    refuse_what_stays_here(options, login.host)
    run, words = _with_name(verb, words, options)
    waits = bool(options.get("wait")) and not options.get("dry_run")
    if not waits:
        return _do(login, verb, words, options, run)

    code = _do(login, verb, [word for word in words if word != "--wait"], options, run)
    if code or run is None:
        return code

    place = [text for key in ("target", "site") if options.get(key) for text in (f"--{key}", options[key])]
    code = _do(login, "wait", ["wait", run, *place], options, run)
    # `wait` knows no result of a sweep, so a further command asks for it.
    if verb == SWEEP:
        _do(login, verb, ["sweep", run, *place], options, run)

    return code


def _with_name(verb: str, words: Sequence[str], options: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """Return the run that a command is about, as far as it is known here, and the words that name it."""
    named = options.get("run")
    if verb == SUBMIT:
        named = named_run(options["words"], named)
    elif verb == SWEEP and options["words"] and not options["model"]:  # it shows a run
        named = options["words"][0]

    if named or verb not in NAMING:
        return named, list(words)

    # Put before the other words, which may end with `--` and flags.
    chosen = _chosen_name(verb, options)
    return chosen, [words[0], "--run", chosen, *words[1:]] if chosen else list(words)


def _chosen_name(verb: str, options: Mapping[str, Any]) -> str | None:
    """Return a name for a run that nobody has named; None where only the login node can tell what it is."""
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    if verb != SUBMIT:
        model = options["model"] or project_choices()[0].model
        middle = "-sweep" if verb == SWEEP else ""
        return f"{entry_name(model)}{middle}-{stamp}" if model else None

    from jobctl.jobs.cli.choices import resolution

    of_the_verb = ("dry_run", "wait", "force", "as_json")
    choices = {key: value for key, value in options.items() if key not in of_the_verb}
    try:
        spec = resolution(**choices, stamp=stamp).spec
    except UserError:  # it says the same there, or knows there what is not known here
        return None

    return None if spec.on_a_checkpoint else spec.run


def output_of(login: Login, verb: str, options: Mapping[str, Any], *, as_file: bool = True) -> bytes:
    """Return what a command on the login node prints, or the file that it makes, to be written here.

    Exits with the code of the command where it makes none: it has said why.
    """
    words = list(click.get_current_context().meta[WORDS])
    if as_file:
        end = words.index("--") if "--" in words else len(words)
        # The last one counts, and a `-o` behind `--` would be the name of a run.
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
    """Do one command on the login node; the exit code. Its output is printed, or handed to ``write``."""
    from jobctl.jobs.login.asking import ask, ask_at_terminal
    from jobctl.jobs.login.request import Request
    from jobctl.jobs.runs.revision import git_revision

    acts = verb in ACTING
    request = Request(
        version=__version__,
        words=tuple(words),
        texts=texts_of(options, login.project),
        # Only for what makes a job: a checkout on a slow disk takes a while to say its revision.
        revision=git_revision() if acts else None,
        acts=acts,
    )
    host = login.host
    program = login.section.jobctl
    # Through ssh's terminal the output and the errors are one stream, so only where a person reads both.
    draws = verb in AT_TERMINAL or (verb in ASKING and not options["yes"])
    if draws and sys.stdin.isatty() and sys.stdout.isatty():
        return ask_at_terminal(host, program, request)

    with broken_in_words(verb, run, words):
        return ask(host, program, request, write or _print)


def _print(piece: bytes) -> None:
    sys.stdout.buffer.write(piece)
    # At once: a log that is followed comes in small pieces.
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def broken_in_words(verb: str, run: str | None, words: Sequence[str] = ()) -> Iterator[None]:
    """Say what is known of the run where the connection breaks, or the user does not wait any longer."""
    from jobctl.jobs.login.asking import Broken

    try:
        yield
    except Broken as broken:
        raise UserError(broken.message, hint=_what_to_do(verb, run, words), code=1) from None
    except KeyboardInterrupt:
        if verb in ACTING or verb == "wait":
            click.echo(f"\njobctl: interrupted; {_what_to_do(verb, run, words)}", err=True)

        raise


def _what_to_do(verb: str, run: str | None, words: Sequence[str]) -> str:
    if verb in NAMING:
        if run is None:
            return f"jobctl list shows whether the {verb} was done"

        return (
            f"jobctl status {run} shows whether it was submitted; if not, say the same again with --run {run}: "
            "of two submissions of one name only one is taken"
        )

    if verb in ACTING:
        return (
            f"jobctl status {run} shows whether it was done"
            if run
            else "jobctl list shows whether it was done"
        )

    return f"what runs goes on; say it again: jobctl {shlex.join(words or [verb, run or ''])}"


def texts_of(options: Mapping[str, Any], project: Project) -> dict[str, str | None]:
    """Return the files of this machine that a command reads: the project file, and those of its choices."""
    # Read here: the site and the model that it names are files of this machine.
    is_project = Path(PROJECT_FILE).is_file()
    # None is sent as well: a project file in the login node's own folder must not count.
    texts: dict[str, str | None] = {PROJECT_FILE: read_text_file(PROJECT_FILE) if is_project else None}
    choices = [options.get(key) or getattr(project, key) for key in ("model", "hardware")]
    choices.append(_site_of(options, project))
    files = [choice for choice in choices if choice and is_file_name(choice)]
    files += [word for word in options.get("subjects") or () if word.endswith(".csv")]

    return texts | {str(Path(file)): read_text_file(file) for file in files}
