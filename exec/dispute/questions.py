"""The questions of a dispute as they go over HTTP: ``POST /dispute/RUN/QUESTION``, canonical msgpack both ways.

    question   asked              answer
    chain      []                 [entry, ...]: the run's, in the log's order
    commit     [step, trace]      [encoded commit, proof]; trace: its entry's address, or nil
    state      [step]             encoded tree
    trace      [level, first, stop]   entry
    children   [trace, first, stop]   [left, right]
    leaf       [trace, index]     [leaf, proof]
    values     [trace, [index, ...]]  [bytes, ...]

A proof is a list of hashes. An error is a status and one line: 400 for what is no such question, 404 for what is not
there, 409 where nobody signs, 503 for too many at once.
"""

from __future__ import annotations

from typing import Final

FOLDER: Final = "dispute"
MAX_QUESTION_SIZE_BYTES: Final = 1 << 14
MAX_SMALL_ANSWER_SIZE_BYTES: Final = 16 << 20
MAX_VALUES_SIZE_BYTES: Final = 1 << 30
NO_SIGNER: Final = 409
