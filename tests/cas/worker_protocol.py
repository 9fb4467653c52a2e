"""What a program of workers, and the test that it works for, say to each other (zygote.py is the other side).

The program imports everything once and then reads jobs, in each line a JSON list of ``[name, arguments]``. It forks a
worker for each and says ``pids ...``. Workers say what is done: their number in the job, and words. With the next line
of its input the program reaps them: ``end NUMBER STATUS`` for each, and ``done``.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from samebits.cas.errors import CasError
from samebits.ledger.errors import LedgerError

_number = 0  # of this worker among those of its job


def write_line(*words: object) -> None:
    """Write a line into the pipe in one piece: several processes do."""
    os.write(1, f"{' '.join(map(str, words))}\n".encode())


def say(*words: object) -> None:
    """Tell the test that something is done, at once and whole."""
    write_line(_number, *words)


def work(known: Mapping[str, Callable[..., None]], number: int, name: str, arguments: list[Any]) -> None:
    """Be a worker, and end the process."""
    global _number
    _number = number
    try:
        known[name](*arguments)
        os._exit(0)  # faster than to take down all that was imported
    except (CasError, LedgerError) as error:
        say("error", type(error).__name__, str(error).replace("\n", "\\n"))
    except BaseException:
        traceback.print_exc()
    sys.exit(1)  # waits for threads, as any program does


def serve(known: Mapping[str, Callable[..., None]]) -> None:
    """Fork workers, as the lines of the input say."""
    for line in sys.stdin:
        children = []
        for number, (name, arguments) in enumerate(json.loads(line)):
            child = os.fork()
            if child == 0:
                work(known, number, name, arguments)
            children.append(child)
        write_line("pids", *children)
        sys.stdin.readline()  # until then their process numbers are theirs
        for number, child in enumerate(children):
            write_line("end", number, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        write_line("done")
