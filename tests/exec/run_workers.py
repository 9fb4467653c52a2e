"""A program whose workers are `samebits` processes to kill, on disks that fill up or may only be read."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from tests.cas.worker_protocol import say, serve

from samebits.cli import samebits_main


def command(output: str, file_size_bytes: int | None, *arguments: str) -> None:
    """Be `samebits ARGUMENTS`: what it prints goes to files at `output`; no file may grow beyond a size."""
    for descriptor, suffix in ((1, ".out"), (2, ".err")):
        target = os.open(output + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        if descriptor == 1:
            pipe = os.dup(1)  # on which workers say what they do
        os.dup2(target, descriptor)
        os.close(target)
    if file_size_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size_bytes, file_size_bytes))
    sys.argv = ["samebits", *arguments]
    try:
        samebits_main.main()
        code: object = 0
    except SystemExit as error:
        code = error.code
    sys.stdout.flush()
    os.dup2(pipe, 1)
    say("exit", code)


def mount(disk: str, options: str) -> None:
    """Put a file system in memory at a folder, for this program alone, or change its options."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], check=True)


def unmount(disk: str) -> None:
    """Take it away again."""
    subprocess.run(["umount", disk], check=True)


def audit(store: str, run: str) -> None:
    """Say what the ledger of a store holds of a run: it may be on a disk that only this program sees."""
    from samebits.cas import Store
    from samebits.exec.ledger_folder import log_directory
    from samebits.exec.verification.verify import verify
    from samebits.ledger import Log

    with Store(Path(store)) as opened, Log.open(log_directory(opened), read_only=True) as log:
        log.audit().check()
        chains = log.runs()
        say("runs", *(chain.run_address for chain in chains))
        chain = log.chain(chains[0].run_address if not run else type(chains[0].run_address).parse(run))
        say("ranges", *(f"{one.body.first_step}:{one.body.stop_step}" for one in chain.segments))
        say("final", chain.state)
        say("verdict", verify(chain.run_address, opened).verdict if chain.is_complete else "incomplete")


if __name__ == "__main__":
    serve({"command": command, "mount": mount, "unmount": unmount, "audit": audit})
