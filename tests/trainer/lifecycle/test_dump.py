import msgspec

from jobctl.trainer.lifecycle.dump import Collective, Dump, Place


def test_a_dump_goes_to_the_others_as_json_and_comes_back_equal() -> None:
    collective = Collective(group="control", number=3, name="all_reduce", shapes=((5,),), dtypes=("Float",))
    dump = Dump(place=Place(1, "n1", 7), idle_seconds=3.0, collectives=(collective,), neighbours={0: "T"})
    assert msgspec.json.decode(msgspec.json.encode(dump), type=Dump) == dump


def test_a_collective_without_shapes_is_its_name() -> None:
    assert str(Collective(group="control", number=3, name="barrier")) == "barrier"


def test_a_place_is_said_with_its_host_and_process() -> None:
    assert str(Place(1, "n1", 7)) == "rank 1 (n1, process 7)"
