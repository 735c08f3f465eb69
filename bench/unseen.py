"""What an encoder's cache of words is worth: ``python -m bench.unseen --folder DIR --root ROOT``.

With --copies bench.prep reads one corpus many times over, so nearly all its words have been met before. Here the
corpus, in a shuffled order, is encoded twice in one process: a line of rates, in millions of tokens a second of CPU
time, for each reading, an eighth of the text a figure. Encoding alone, one thread.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence

from bench.corpus import arguments, documents_of, write
from jobctl.jobs.core.layout import tokenizer_dir
from jobctl.prep.encode import tokenizers
from jobctl.prep.encode.encoder import Encoder
from jobctl.prep.encode.encoders import Encoders
from jobctl.prep.encode.look import Look, look

PARTS = 8
AT_ONCE = 200
"""Documents a call, about as many as prep gives."""


def rates(encoder: Encoder, documents: Sequence[str], looks: Sequence[Look]) -> list[float]:
    """Million tokens a second of CPU time over each of PARTS parts."""
    found = []
    for part in range(PARTS):
        begin, end = (len(documents) * edge // PARTS for edge in (part, part + 1))
        began = time.process_time()
        tokens = 0
        for at in range(begin, end, AT_ONCE):
            some = slice(at, min(at + AT_ONCE, end))
            tokens += sum(map(len, encoder.encode(documents[some], looks[some])))
        found.append(tokens / (time.process_time() - began) / 1e6)
    return found


def main() -> None:
    given = arguments(__doc__).parse_args()
    os.environ["RAYON_NUM_THREADS"] = "1"
    documents = documents_of(write(given.folder))
    random.Random(0).shuffle(documents)
    looks = [look(document) for document in documents]
    print(f"{len(documents):,} documents, {sum(len(seen.data) for seen in looks) / 1e6:.0f} MB")
    for name in given.tokenizers:
        file = tokenizer_dir(given.root, name) / tokenizers.FILE
        encoder = Encoders(tokenizers.entry_of(name), "auto", file).fast
        for reading in ("unseen", "again"):
            found = " ".join(f"{rate:6.1f}" for rate in rates(encoder, documents, looks))
            print(f"{name:8s} {reading:8s} {found}", flush=True)


if __name__ == "__main__":
    main()
