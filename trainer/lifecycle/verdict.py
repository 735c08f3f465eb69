"""Name the rank that made training hang, from the reports of the ranks. Pure."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jobctl.trainer.lifecycle.dump import Collective, Dump, Frame, Place, Worker

STOPPED = ("T", "t")
"""States of a process that a signal or a debugger has stopped."""
STATES = {"D": "waits for a disk or a driver", "Z": "has ended", "": "is gone"}
UNEQUAL = ("scatter", "gather", "alltoall", "all_to_all", "send", "recv")
"""Collectives in which ranks may give tensors of different shapes."""
SAVING = "saving"
"""The group of the threads that write checkpoints. Ranks wait in it for slow storage."""
OTHERS_CODE = (sysconfig.get_path("stdlib"), "site-packages", "dist-packages", "<frozen", "<string>")
PACKAGE = "jobctl"
WAITS_FOR_WORKERS = "torch/utils/data/dataloader.py"


def verdict(places: Sequence[Place], dumps: Mapping[int, Dump]) -> list[str]:
    """Return all facts about a hang, the most useful line first.

    ``places`` are all ranks, ``dumps`` those that have answered.
    """
    silent = [silence(place, dumps) for place in places if place.rank not in dumps]
    if not dumps:
        return silent

    # The ranks of one group have to be in the same collective.
    groups = by_group(dumps)
    disagreements = [line for group in groups.values() for line in disagreement(group)]
    missing: list[tuple[list[int], str]] = []
    for name, group in groups.items():
        missing += absence(name, group)

    late = sorted({rank for ranks, _ in missing for rank in ranks})
    lines = [*silent, *disagreements, *(line for _, line in missing)]

    # Without a record, or with all in the same collective, each rank's place is all that is known.
    told = late if late and not disagreements else sorted(dumps)
    return [*lines, *(line for rank in told for line in whereabouts(dumps[rank]))]


def silence(place: Place, dumps: Mapping[int, Dump]) -> str:
    """Describe a rank that has not answered, as its neighbours see it."""
    states = {dump.neighbours[place.rank] for dump in dumps.values() if place.rank in dump.neighbours}
    if not states:
        return f"{place} does not answer: it is stopped, or its node is dead"

    # Neighbours may have looked at different moments. Any of their answers says what is wrong.
    state = states.pop()
    if state in STOPPED:
        return f"{place} is stopped by a signal; kill -CONT {place.pid} lets it continue"

    return f"{place} does not answer: it {STATES.get(state, 'runs, but no Python code of it does')}"


def by_group(dumps: Mapping[int, Dump]) -> dict[str, dict[int, dict[int, Collective]]]:
    """Return the collectives by group, rank and number; the saving group last, and only without others' hangs."""
    groups: dict[str, dict[int, dict[int, Collective]]] = {}
    names = {collective.group for dump in dumps.values() for collective in dump.collectives}

    for name in sorted(names, key=lambda name: name.startswith(SAVING)):
        groups[name] = {
            rank: {c.number: c for c in dump.collectives if c.group == name} for rank, dump in dumps.items()
        }

    busy = [name for name, group in groups.items() if not name.startswith(SAVING) and absence(name, group)]
    return {name: group for name, group in groups.items() if not (busy and name.startswith(SAVING))}


def absence(name: str, group: Mapping[int, Mapping[int, Collective]]) -> list[tuple[list[int], str]]:
    """Return the ranks that others wait for at a collective, with a line that says so."""
    last = {rank: max(entries, default=0) for rank, entries in group.items()}
    highest = max(last.values())
    late: dict[int, list[int]] = {}
    for rank, number in last.items():
        if number < highest:
            # A rank that is behind is missing at the collective after its last one.
            late.setdefault(number + 1, []).append(rank)

    lines = []
    for number, ranks in sorted(late.items()):
        waiting = [rank for rank, reached in last.items() if reached >= number]
        # Any rank that waits knows the kind and the shapes of the collective.
        known = [group[rank][number] for rank in waiting if number in group[rank]]
        which = f", {known[0]}," if known else ""
        verb = "wait" if len(waiting) > 1 else "waits"
        lines.append(
            (
                ranks,
                f"{ranks_in_words(ranks)} did not arrive at collective {number} of {name}{which} "
                f"in which {ranks_in_words(waiting)} {verb}",
            )
        )

    return lines


def disagreement(group: Mapping[int, Mapping[int, Collective]]) -> list[str]:
    """Return a line on the first collective to which the ranks have come with different kinds or shapes."""
    numbers = sorted({number for entries in group.values() for number in entries})
    for number in numbers:
        entries = {rank: known[number] for rank, known in group.items() if number in known}
        kinds: dict[str, list[int]] = {}
        for rank, collective in entries.items():
            # Where ranks may give different shapes, only the kind is compared.
            unequal = any(word in collective.name for word in UNEQUAL)
            kinds.setdefault(collective.name if unequal else str(collective), []).append(rank)

        if len(kinds) > 1:
            name = next(iter(entries.values())).group
            ways = "; ".join(f"{kind} on {ranks_in_words(ranks)}" for kind, ranks in kinds.items())
            # Later collectives differ only because this one did.
            return [f"the ranks disagree at collective {number} of {name}: {ways}"]

    return []


def whereabouts(dump: Dump) -> list[str]:
    """Describe the place of a rank, and of the workers that read data for it."""
    allowed = f", waiting for {dump.doing}" if dump.doing else ""
    lines = [f"rank {dump.place.rank} is in {place_of(dump.stack)}{allowed}"]
    # Only then: the workers of a rank that is busy elsewhere are idle, and no cause.
    if any(WAITS_FOR_WORKERS in frame.file for frame in dump.stack):
        lines += [
            f"rank {dump.place.rank} waits for its data: {of_worker(worker)}" for worker in dump.workers
        ]

    return lines


def of_worker(worker: Worker) -> str:
    """Describe what a data worker does."""
    if worker.state in STOPPED:
        return f"data worker {worker.pid} is stopped by a signal"

    if worker.state in ("", "Z"):
        return f"data worker {worker.pid} {STATES[worker.state]}"

    return f"data worker {worker.pid} is in {place_of(worker.stack)}"


def place_of(stack: Sequence[Frame]) -> str:
    """Return the innermost frame of a user's code, and the function that it called."""
    if not stack:
        return "unknown code"

    ours = [frame for frame in stack if not any(part in frame.file for part in OTHERS_CODE)]
    frame = ours[0] if ours else stack[0]
    inner = stack[0]
    called = f", which called {inner.function} ({short(inner.file)}:{inner.line})" if inner != frame else ""

    return f"{frame.function} ({short(frame.file)}:{frame.line}){called}"


def short(file: str) -> str:
    """Return a path from the package on, or its last two parts. A checkout may have the package's name as well."""
    parts = Path(file).parts
    begin = max(0, len(parts) - 2)
    if PACKAGE in parts:
        begin = len(parts) - 1 - parts[::-1].index(PACKAGE)

    return "/".join(parts[begin:])


def ranks_in_words(ranks: Iterable[int]) -> str:
    """Return ``rank 3``, ``ranks 0 to 6`` or ``ranks 0, 2 to 4``."""
    spans: list[list[int]] = []
    for rank in sorted(ranks):
        if spans and rank == spans[-1][1] + 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])

    words = [str(first) if first == last else f"{first} to {last}" for first, last in spans]
    single = len(spans) == 1 and spans[0][0] == spans[0][1]

    return f"{'rank' if single else 'ranks'} {', '.join(words)}"
