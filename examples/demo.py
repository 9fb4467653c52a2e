"""The main job, end to end: run it, then verify it in a second process with a second, empty store."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMEBITS = (sys.executable, "-m", "samebits.cli")


def main() -> None:
    """Train from the job file in one store, replay in another; exit with the verdict's code."""
    scratch = ROOT / ".demo"
    shutil.rmtree(scratch, ignore_errors=True)
    first, second = scratch / "runner", scratch / "verifier"

    print("1. train examples/digits.job and chain the run in the ledger", flush=True)
    command = [*SAMEBITS, "run", str(ROOT / "examples" / "digits.job"), "--store", str(first), "--json"]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    run = json.loads(finished.stdout)["run"]

    print(f"2. verify run {run} in a second process and a second, empty store", flush=True)
    sys.exit(subprocess.run([*SAMEBITS, "verify", run, "--store", str(second), "--from", str(first)]).returncode)


if __name__ == "__main__":
    main()
