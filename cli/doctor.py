"""`samebits doctor`: what works here, and what doesn't."""

from __future__ import annotations

import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import typer

import samebits
from samebits.cas import Store
from samebits.cas.subtree import COMPILED
from samebits.cli.options import JsonOption, StoreOption, store_path
from samebits.cli.output import OUR_ERRORS, command, print_fields, print_json
from samebits.exec.devices.registry import check_and_remember, describe_device, list_devices, make_device
from samebits.exec.ledger_folder import LEDGER_FOLDER
from samebits.kernels.version import ARITHMETIC
from samebits.ledger import Log

LIBRARIES = ("numpy", "blake3", "lmdb", "msgpack", "cryptography", "torch", "pyopencl", "pycuda")


@command
def doctor_command(store: StoreOption = None, json: JsonOption = False) -> None:
    """Check devices, arithmetic, store and versions. Exit code 2 if something is broken."""
    devices = {name: _check_device(name) for name in list_devices()}
    path = store_path(store)
    stored = _check_store(path)
    versions = {"samebits": samebits.__version__, "python": platform.python_version()}
    versions |= {name: _version(name) for name in LIBRARIES}
    if json:
        found = {"devices": devices, "arithmetic": ARITHMETIC, "store": stored, "versions": versions}
        print_json({**found, "rows_compiled": COMPILED})
    else:
        print_fields(
            {
                "arithmetic": ARITHMETIC,
                **{f"device {name}": _device_text(found) for name, found in devices.items()},
                "store": f"{path}: {stored['state']}",
                "rows": "checked by compiled code"
                if COMPILED
                else "checked by NumPy: slow (install with a C compiler)",
                **versions,
            }
        )
    if stored["state"].startswith("broken") or not any(found["usable"] for found in devices.values()):
        raise typer.Exit(2)


def _check_device(name: str) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        device = make_device(name)
        vectors = check_and_remember(device)
    except OUR_ERRORS as error:
        return {"usable": False, "reason": str(error)}
    seconds = round(time.perf_counter() - started, 3)
    return {"usable": True, "device": describe_device(device), "vectors": vectors, "seconds": seconds}


def _device_text(found: dict[str, Any]) -> str:
    if not found["usable"]:
        return f"not usable: {found['reason']}"
    checked = f"{found['vectors']} vectors, every bit right, in {found['seconds']:.2f} s"
    return f"conforms: {checked} ({found['device']})"


def _check_store(path: Path) -> dict[str, Any]:
    if path.exists() and not path.is_dir():
        return {"path": str(path), "state": "broken: not a directory"}
    if not (path / "cas").exists():
        return {"path": str(path), "state": "none yet; the first run or put makes it"}
    try:
        with Store(path, read_only=True) as store:
            objects = sum(1 for _ in store.objects())
        entries = _audit(path / LEDGER_FOLDER) if (path / LEDGER_FOLDER).exists() else 0
    except OUR_ERRORS as error:
        return {"path": str(path), "state": f"broken: {error}"}
    return {"path": str(path), "state": f"{objects} objects, ledger of {entries} verified entries"}


def _audit(ledger: Path) -> int:
    """Return the number of entries of a ledger in which everything is in order."""
    audit = Log.open(ledger, read_only=True).audit()
    audit.check()
    return audit.tree_size


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
