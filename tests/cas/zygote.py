"""Processes to kill, a fork each: a program imports everything once, and forks a worker for each job."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

KILLED = -signal.SIGKILL
Job = tuple[str, Sequence[object]]  # the name of a worker that the program has, and its arguments
_ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Outcome:
    """How a worker ended."""

    lines: list[list[str]] = field(default_factory=list)  # the words of each line that it said
    status: int = 0  # of its exit; the negative number of the signal that ended it
    timed_out: bool = False

    def said(self, word: str) -> list[list[str]]:
        """Return what followed a word, for each line that began with it."""
        return [line[1:] for line in self.lines if line[0] == word]


class Zygote:
    """A process that forks workers."""

    def __init__(self, program: str, log: Path, prefix: Sequence[str] = ()) -> None:
        """Run a module of `tests`. What workers write on stderr goes to `log`; `prefix` is a command that runs it."""
        self.log = log
        module = program if "." in program else f"cas.{program}"
        command = [*prefix, sys.executable, "-m", f"tests.{module}"]
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            )
        self._rest = b""

    def kill(self, jobs: Sequence[Job], delays_s: Sequence[float]) -> list[Outcome]:
        """Start jobs at once and kill each after its delay, which begins when all have begun."""
        pids, began = self._start(jobs), time.monotonic()
        for delay, pid in sorted(zip(delays_s, pids, strict=True)):
            time.sleep(max(0.0, began + delay - time.monotonic()))
            os.kill(pid, signal.SIGKILL)
        return self._reap(pids, time.monotonic() + 60)

    def run(self, name: str, *arguments: object, timeout_s: float = 60) -> Outcome:
        """Do one job to its end; kills it when it takes too long."""
        return self._reap(self._start([(name, arguments)]), time.monotonic() + timeout_s)[0]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _start(self, jobs: Sequence[Job]) -> list[int]:
        self._outcomes = [Outcome() for _ in jobs]
        self._send(json.dumps([[name, list(arguments)] for name, arguments in jobs]))
        while True:
            line = self._line(time.monotonic() + 60)
            if line[0] == "pids":
                return [int(pid) for pid in line[1:]]
            self._outcomes[int(line[0])].lines.append(line[1:])

    def _reap(self, pids: Sequence[int], deadline: float) -> list[Outcome]:
        self._send("reap")
        ended: set[int] = set()
        while True:
            try:
                line = self._line(deadline)
            except TimeoutError:
                for number in set(range(len(pids))) - ended:
                    self._outcomes[number].timed_out = True
                    os.kill(pids[number], signal.SIGKILL)
                deadline = time.monotonic() + 60
                continue
            if line[0] == "done":
                return self._outcomes
            if line[0] == "end":
                ended.add(int(line[1]))
                self._outcomes[int(line[1])].status = int(line[2])
            else:
                self._outcomes[int(line[0])].lines.append(line[1:])

    def _send(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.flush()

    def _line(self, deadline: float) -> list[str]:
        """Return the words of the next line; raises TimeoutError."""
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            ready = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise TimeoutError
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            assert data, f"the process that forks ended: {self.log.read_text(errors='replace')[-4000:]}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode().split(" ")


@contextmanager
def zygote(program: str, log: Path, prefix: Sequence[str] = ()) -> Iterator[Zygote]:
    """Start a program of `tests/cas`, or one named with its folder, that forks workers, and end it."""
    process = Zygote(program, log, prefix)
    try:
        yield process
    finally:
        process.close()
