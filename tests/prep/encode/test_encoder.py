from __future__ import annotations

import numpy as np

from jobctl.prep.encode.encoder import count_of, with_ends


def test_ends_stand_where_they_belong_and_empty_documents_are_ends_alone() -> None:
    texts = [np.array(ids, np.uint32) for ids in ([5, 6], [], [7])]
    ids, lengths = with_ends(texts, 0, None)
    assert (ids.tolist(), lengths.tolist()) == ([5, 6, 0, 0, 7, 0], [3, 1, 2])
    ids, lengths = with_ends(texts, 0, 1)
    assert (ids.tolist(), lengths.tolist()) == ([1, 5, 6, 0, 1, 0, 1, 7, 0], [4, 2, 3])
    ids, lengths = with_ends([], 0, 1)
    assert (ids.tolist(), lengths.tolist()) == ([], [])


def test_only_the_wanted_ids_are_counted() -> None:
    ids = np.array([1, 7, 9, 7, 10, 8], np.uint32)
    assert count_of(ids, np.array([7, 10], np.uint32)) == 3
    assert count_of(ids, np.array([], np.uint32)) == 0
