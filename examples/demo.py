"""The main job, end to end: run it on one device, then verify it on another, in a second process and an empty store."""

import importlib.util
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
    device = "opencl" if importlib.util.find_spec("pyopencl") else "numpy"

    print(f"1. train examples/digits.job on {device} and chain the run in the ledger", flush=True)
    job = str(ROOT / "examples" / "digits.job")
    command = [*SAMEBITS, "run", job, "--store", str(first), "--device", device, "--json"]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    run = json.loads(finished.stdout)["run"]

    print(f"2. verify run {run} on numpy, in a second process and a second, empty store", flush=True)
    verify = [*SAMEBITS, "verify", run, "--store", str(second), "--from", str(first), "--device", "numpy"]
    sys.exit(subprocess.run(verify).returncode)


if __name__ == "__main__":
    main()
