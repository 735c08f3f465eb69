"""Who made training hang, in words, from what ranks told."""

from __future__ import annotations

import pytest

from jobctl.trainer.lifecycle.dump import Collective, Dump, Frame, Place, Worker
from jobctl.trainer.lifecycle.verdict import place_of, ranks_in_words, short, verdict

STACK = (
    Frame("/usr/lib/python3.11/site-packages/torch/_ops.py", 9, "__call__"),
    Frame("/code/jobctl/trainer/training/loop.py", 103, "take_step"),
)


def place(rank: int) -> Place:
    return Place(rank, f"n{rank // 2}", 100 + rank, f"boot-{rank // 2}")


def reached(
    number: int, shape: tuple[int, ...] = (5,), group: str = "gradients", name: str = "all_reduce"
) -> Collective:
    return Collective(group=group, number=number, name=name, shapes=(shape,), dtypes=("Float",))


def dump(rank: int, *collectives: Collective, **facts: object) -> Dump:
    whole = {"stack": STACK, "collectives": collectives, **facts}
    return Dump(place=place(rank), idle_seconds=60.0, **whole)  # type: ignore[arg-type]


def lines(*dumps: Dump, size: int | None = None) -> list[str]:
    return verdict([place(rank) for rank in range(size or len(dumps))], {d.place.rank: d for d in dumps})


def test_a_late_rank_is_named_with_number_kind_shape_and_its_line() -> None:
    told = lines(dump(0, reached(7)), dump(1, reached(6)), dump(2, reached(7)))
    assert told == [
        "rank 1 did not arrive at collective 7 of gradients, all_reduce of [5] Float, in which ranks 0, 2 wait",
        "rank 1 is in take_step (jobctl/trainer/training/loop.py:103), which called __call__ (torch/_ops.py:9)",
    ]


def test_ranks_that_are_late_at_several_places_are_all_named() -> None:
    told = lines(dump(0, reached(6), reached(7)), dump(1, reached(5)), dump(2, reached(6)))
    assert told[0].startswith("rank 1 did not arrive at collective 6 of gradients")
    assert told[1].startswith("rank 2 did not arrive at collective 7 of gradients")


def test_different_shapes_are_a_disagreement_and_every_rank_is_placed() -> None:
    told = lines(dump(0, reached(7, (4, 8))), dump(1, reached(7, (4, 9))))
    assert told[0] == (
        "the ranks disagree at collective 7 of gradients: "
        "all_reduce of [4, 8] Float on rank 0; all_reduce of [4, 9] Float on rank 1"
    )
    assert sum("take_step" in line for line in told) == 2


def test_a_scatter_has_tensors_on_its_root_only_which_is_no_disagreement() -> None:
    root = Collective(group="gradients", number=7, name="scatter", shapes=((5,), (5,)))
    leaf = Collective(group="gradients", number=7, name="scatter")
    assert not any("disagree" in line for line in lines(dump(0, root), dump(1, leaf)))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("T", "is stopped by a signal; kill -CONT 101 lets it continue"),
        ("D", "does not answer: it waits for a disk or a driver"),
        ("", "does not answer: it is gone"),
        ("R", "does not answer: it runs, but no Python code of it does"),
    ],
)
def test_a_silent_rank_is_what_its_neighbour_sees(state: str, words: str) -> None:
    told = lines(dump(0, reached(7), neighbours={1: state}), size=2)
    assert told[0] == f"rank 1 (n0, process 101) {words}"


def test_a_silent_rank_that_nobody_sees_may_have_lost_its_node() -> None:
    told = lines(dump(0, reached(7)), size=4)
    assert told[2] == "rank 3 (n1, process 103) does not answer: it is stopped, or its node is dead"


def test_writers_that_wait_for_storage_are_told_only_where_nothing_else_hangs() -> None:
    writing = reached(1, group="saving (gloo)")
    alone = lines(dump(0), dump(1, writing))
    assert alone[0].startswith("rank 0 did not arrive at collective 1 of saving (gloo)")

    beside = lines(dump(0, reached(7)), dump(1, reached(6), writing))
    assert beside[0].startswith("rank 1 did not arrive at collective 7 of gradients")
    assert not any("saving" in line for line in beside)


def test_where_all_have_arrived_each_rank_is_placed() -> None:
    told = lines(dump(0, reached(7)), dump(1, reached(7), doing="storage: the last checkpoint"))
    assert len(told) == 2
    assert told[1].endswith(", waiting for storage: the last checkpoint")


def test_data_workers_are_told_of_a_rank_that_waits_for_them() -> None:
    waiting = (Frame("/lib/torch/utils/data/dataloader.py", 1, "_get_data"), *STACK)
    workers = (
        Worker(7, "S", (Frame("/code/jobctl/trainer/data/samples.py", 5, "read"),)),
        Worker(8, "T"),
        Worker(9, "Z"),
    )
    told = lines(dump(0, stack=waiting, workers=workers))
    assert told[1:] == [
        "rank 0 waits for its data: data worker 7 is in read (jobctl/trainer/data/samples.py:5)",
        "rank 0 waits for its data: data worker 8 is stopped by a signal",
        "rank 0 waits for its data: data worker 9 has ended",
    ]
    assert len(lines(dump(0, workers=workers))) == 1, "the rank is elsewhere"


def test_nobody_answers() -> None:
    assert len(lines(size=2)) == 2


def test_a_stack_of_others_code_alone_is_told_by_its_innermost_frame() -> None:
    assert place_of(STACK[:1]) == "__call__ (torch/_ops.py:9)"
    assert place_of(()) == "unknown code"


@pytest.mark.parametrize(
    ("ranks", "words"), [([3], "rank 3"), ([0, 1, 2], "ranks 0 to 2"), ([0, 2, 3, 9], "ranks 0, 2 to 3, 9")]
)
def test_ranks_are_said_shortly(ranks: list[int], words: str) -> None:
    assert ranks_in_words(ranks) == words


def test_a_file_is_said_from_the_package_on() -> None:
    assert (
        short("/env/lib/python3.11/site-packages/jobctl/trainer/data/samples.py")
        == "jobctl/trainer/data/samples.py"
    )
    assert short("/home/me/jobctl/src/jobctl/trainer/launch.py") == "jobctl/trainer/launch.py"
    assert short("/home/me/lab/own_data.py") == "lab/own_data.py"
