"""Read a script as sbatch and bash read it: directives, then commands."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

SHORT = {
    "A": "account",
    "a": "array",
    "c": "cpus-per-task",
    "C": "constraint",
    "d": "dependency",
    "D": "chdir",
    "e": "error",
    "G": "gpus",
    "J": "job-name",
    "N": "nodes",
    "n": "ntasks",
    "o": "output",
    "p": "partition",
    "q": "qos",
    "t": "time",
    "w": "nodelist",
    "x": "exclude",
}
"""Short options of sbatch by their letters."""
_FLAGS = frozenset(
    (
        *("exclusive", "requeue", "no-requeue", "contiguous", "hold", "oversubscribe", "overcommit"),
        *("parsable", "quiet", "reboot", "spread-job", "test-only", "use-min-nodes", "verbose", "wait"),
        *("get-user-env", "nodefile", "no-kill", "propagate"),
    )
)
"""Long options whose value, if they have one, follows an equals sign and never a space."""
_IGNORE = re.compile(r"#\s*jobctl-lint:\s*ignore=([\w,-]+)")
_HEREDOC = re.compile(r"<<(-?)\s*(['\"]?)(\w+)\2")


class Directive(msgspec.Struct, frozen=True):
    """One ``#SBATCH`` option: its long name, its value, and its line."""

    line: int
    name: str
    value: str


class Command(msgspec.Struct, frozen=True):
    """A whole command of the batch shell: with its continued lines, and without its here-documents."""

    line: int
    text: str


class Script(msgspec.Struct, frozen=True):
    """A script. Only directives before the first command count."""

    lines: tuple[str, ...]
    directives: tuple[Directive, ...]
    late: tuple[tuple[int, str], ...]
    """Directives that stand after the first command."""
    commands: tuple[Command, ...]
    ignored_rules: dict[int, frozenset[str]]
    """Rules that the script ignores, by line; 0: in the whole script."""
    crlf: bool
    generates: bool
    """True if it writes the scripts of other jobs: its strings or here-documents have directives."""

    @property
    def options(self) -> dict[str, Directive]:
        """The last directive of each long name. sbatch uses the last one."""
        return {directive.name: directive for directive in self.directives}

    def value(self, name: str) -> str:
        """Return the value of an option, or an empty text if the script does not have it."""
        directive = self.options.get(name)
        return directive.value if directive else ""

    def number(self, name: str, default: int) -> int | None:
        """Return the value of an option as a number, or None if it is something else."""
        value = self.value(name)
        if not value:
            return default

        return int(value) if value.isdigit() else None

    @property
    def is_shell(self) -> bool:
        """True if bash or another shell reads the commands."""
        first = self.lines[0] if self.lines else ""
        return not first.startswith("#!") or re.search(r"\b(ba|z|k|da|c|tc)?sh\b", first) is not None

    @property
    def several_nodes(self) -> bool:
        """True if the script itself asks for more than one node."""
        # A range of nodes begins with its least number.
        lowest = re.match(r"\d+", self.value("nodes"))
        return lowest is not None and int(lowest[0]) > 1

    def find(self, pattern: str) -> Iterator[Command]:
        """Yield the commands in which ``pattern`` occurs."""
        return (command for command in self.commands if re.search(pattern, command.text))

    def has(self, pattern: str) -> bool:
        """Return True if ``pattern`` occurs in a command."""
        return any(True for _ in self.find(pattern))


def read_script(text: str) -> Script:
    """Return a script as sbatch and bash read it."""
    lines = tuple(line.removesuffix("\r") for line in text.split("\n"))
    # The text after the last line end is no line.
    if lines and not lines[-1]:
        lines = lines[:-1]

    commands, bodies = _commands(lines)
    first = min((command.line for command in commands), default=len(lines) + 1)
    directives: list[Directive] = []
    late: list[tuple[int, str]] = []

    for number, line in enumerate(lines, 1):
        # A directive in a here-document or a string belongs to the script of another job.
        if not line.startswith("#SBATCH") or number in bodies:
            continue

        if number > first:
            late.append((number, line))
        else:
            directives += [Directive(number, name, value) for name, value in _options(line)]

    return Script(
        lines=lines,
        directives=tuple(directives),
        late=tuple(late),
        commands=tuple(commands),
        ignored_rules=_ignored(lines, first),
        crlf="\r\n" in text,
        generates=any("#SBATCH" in lines[number - 1] for number in bodies),
    )


def _commands(lines: tuple[str, ...]) -> tuple[list[Command], set[int]]:
    """Return the commands, and the numbers of the lines inside a here-document or a command."""
    commands: list[Command] = []
    bodies: set[int] = set()
    pending = ""
    began = 0
    index = 0

    while index < len(lines):
        number = index + 1
        line = lines[index]
        index += 1
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue

        if pending:
            bodies.add(number)
        else:
            began = number

        pending = f"{pending}\n{line}" if pending else line
        # A backslash joins the next line. Two backslashes are one written backslash.
        if line.endswith("\\") and not line.endswith("\\\\"):
            pending = pending[:-1] + " "
            continue

        # At the end of the file no line can close a quote any more.
        if _open_quote(pending) and index < len(lines):
            continue

        # A << inside quotes begins no here-document.
        for match in _HEREDOC.finditer(_without_quotes(pending)):
            index = _end_of_heredoc(lines, index, match[3], bodies)

        commands.append(Command(began, pending))
        pending = ""

    # The last line may end with a backslash.
    if pending:
        commands.append(Command(began, pending))

    return commands, bodies


def _end_of_heredoc(lines: tuple[str, ...], index: int, word: str, bodies: set[int]) -> int:
    while index < len(lines):
        bodies.add(index + 1)
        index += 1
        # With `<<-` the word may be indented.
        if lines[index - 1].strip() == word:
            break

    return index


def _open_quote(text: str) -> str:
    """Return the quote that is still open at the end of a text, or an empty text.

    Quotes in comments do not count.
    """
    quote = ""
    index = 0
    while index < len(text):
        character = text[index]
        # Between single quotes a backslash is an ordinary character.
        if character == "\\" and quote != "'":
            index += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (index == 0 or text[index - 1].isspace()):
            index = _end_of_line(text, index)

        index += 1

    return quote


def _end_of_line(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end


def _without_quotes(text: str) -> str:
    """Return a text with quoted strings as blanks, except the word of a here-document."""
    return re.sub(r"(?<!<)(?<!<\s)(?<!<-)(\"(?:\\.|[^\"\\])*\"|'[^']*')", lambda m: " " * len(m[0]), text)


def _options(directive: str) -> Iterator[tuple[str, str]]:
    """Yield the options of one ``#SBATCH`` line by their long names, without quotes. Escapes stay."""
    # A hash begins a comment only at the start of a word.
    words = re.findall(
        r"""(?:[^\s"'#]|(?<=\S)\#|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')+|\#.*""", directive[len("#SBATCH") :]
    )
    words = [re.sub(r"""["']""", "", word) for word in words if not word.startswith("#")]
    index = 0

    while index < len(words):
        word = words[index]
        following = words[index + 1] if index + 1 < len(words) else ""
        index += 1
        if match := re.fullmatch(r"--([A-Za-z][\w-]*)(?:=(.*))?", word):
            name = match[1]
            value = match[2]
        elif match := re.fullmatch(r"-(\w)(.*)", word):
            name = SHORT.get(match[1], match[1])
            value = match[2].removeprefix("=") or None
        else:
            continue

        # `--name value` as well as `--name=value`. A flag takes no value after a space.
        if value is None and following and not following.startswith("-") and name not in _FLAGS:
            value = following
            index += 1

        yield name, value or ""


def _ignored(lines: tuple[str, ...], first: int) -> dict[int, frozenset[str]]:
    """Return the ignored rules by line.

    A comment on a line of its own counts for the whole script if it is before the first command, and
    otherwise for the next line. A comment at the end of a line counts for that line.
    """
    rules: dict[int, frozenset[str]] = {}
    for number, line in enumerate(lines, 1):
        match = _IGNORE.search(line)
        if match is None:
            continue

        # A comment at the end of a directive is about that directive.
        alone = line.lstrip().startswith("#") and not line.startswith("#SBATCH")
        place = number
        if alone:
            place = 0 if number < first else number + 1

        rules[place] = rules.get(place, frozenset()) | frozenset(match[1].split(","))

    return rules
