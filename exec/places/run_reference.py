"""How a run is named: ``RUN``, ``PLACE/RUN``, and with ``@STEP`` behind it the state before that step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from samebits.cas import Digest
from samebits.exec.errors import RunError

_FORM: Final = re.compile(r"(?:(?P<place>.+)/)?(?P<run>[0-9a-f]{64})(?:@(?P<step>[0-9]{1,16}))?\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RunReference:
    """A run, and where it is to be found."""

    run: Digest
    place: str | None = None  # a URL, a store's folder, an archive; None: the user's own store
    step: int | None = None  # the state after so many steps; None: the whole run


def parse_run_reference(text: str) -> RunReference:
    """Read the name of a run; raises RunError.

    Example: ``http://host:8420/RUN@500`` is the state of a run on that server after its first 500 steps.
    """
    found = _FORM.match(text)
    if found is None:
        raise RunError(f"{text[:200]!r} names no run: want RUN, PLACE/RUN or PLACE/RUN@STEP (RUN: 64 hex characters)")
    step = found["step"]
    return RunReference(Digest.parse(found["run"]), found["place"], None if step is None else int(step))
