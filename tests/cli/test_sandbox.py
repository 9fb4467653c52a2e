"""A job, a tree or a file of a stranger executes nothing, and writes nothing outside of the store."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.exec.small_job import make_job, with_step
from tests.exec.strangers import only_reached, wide_chain

import samebits
from samebits.cas import Node, Store, put_file

ROOT = Path(__file__).parents[2]
AUDITED = Path(__file__).parent / "audited.py"


class Opens:
    """What a pickle can run: opening a file to write."""

    def __reduce__(self) -> Any:
        return open, ("pwned", "w")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that a stranger filled: modules with names that Python looks for, each of which says that it ran."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    for name in ("evil", "numpy", "lzma", "json", "sitecustomize", "usercustomize", "samebits", "pyopencl", "torch"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w').close()\n")
    return folder


def audited(place: Path, *arguments: Any, code: int | None = 0) -> tuple[str, list[str]]:
    """Run a command in a folder under the audit hook; returns its stdout and the violations."""
    rooms = [place.parent / name for name in ("store", "state", "cache", "out")]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "SAMEBITS_ROOT": str(ROOT),
        "SAMEBITS_STATE": str(rooms[1]),
        "PYTHONPATH": str(ROOT / "src"),
        "SAMEBITS_STORE": str(rooms[0]),
        "XDG_CACHE_HOME": str(rooms[2]),
        "POCL_CACHE_DIR": str(rooms[2]),
    }
    command = [sys.executable, str(AUDITED), *map(str, rooms), "--", *map(str, arguments)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code or (code is None and done.returncode in (0, 2)), done.stderr
    assert "Traceback" not in done.stderr
    assert not (place.parent / "pwned").exists()
    return done.stdout, [line for line in done.stderr.splitlines() if line.startswith("VIOLATION")]


def test_running_verifying_and_showing_a_job_executes_nothing(place: Path) -> None:
    samebits.save_job(make_job(), place / "a.job", embed="all")
    shown, violations = audited(place, "job", "show", "a.job")
    assert shown
    assert not violations
    run, violations = audited(place, "run", "a.job", "--max-memory", "500M", "--max-seconds", "250")
    assert not violations
    _, violations = audited(place, "verify", run.split()[1])
    assert not violations
    _, violations = audited(place, "run", run.split()[3])  # by address
    assert not violations


def test_the_hook_sees_what_a_script_does(place: Path) -> None:
    """The one thing that may run code, by name: without this the test above could not fail."""
    samebits.save_job(make_job(), place / "a.job", embed="all")
    (place / "foo.py").write_text(
        "import os, pickle, samebits\n"
        "os.system('true')\n"
        "open('written', 'w').close()\n"
        "pickle.loads(pickle.dumps(os.getcwd))\n"
        "def job():\n    return samebits.load_job('a.job')\n"
    )
    for name in ("numpy", "lzma", "json", "samebits", "torch", "pyopencl"):
        (place / f"{name}.py").unlink()  # a script imports from its own folder
    _, violations = audited(place, "run", "foo.py")
    events = {violation.split()[1] for violation in violations}
    assert {"exec", "compile", "os.system", "open", "pickle.find_class"} <= events


@pytest.mark.parametrize("name", ["x.job", "x", "x.job.txt"])
def test_a_script_that_is_not_named_as_one_is_refused(place: Path, name: str) -> None:
    (place / name).write_text("import evil\nopen('written', 'w').close()\ndef job():\n    return None\n")
    for command in (["run"], ["job", "show"]):
        assert audited(place, *command, name, code=2) == ("", [])
    assert not (place / "written").exists()


def test_putting_and_getting_files_of_strangers_executes_nothing(place: Path) -> None:
    (place.parent / "out").mkdir()
    (place / "model.bin").write_bytes(pickle.dumps(Opens()))
    (place / "model.pt").write_bytes(b"\x80\x02" + pickle.dumps(Opens())[2:])
    (place / "model.safetensors").write_bytes(b"\xff" * 100)
    (place / "model.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    (place / "a.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O'}\n")
    for file in ("model.bin", "model.pt", "model.safetensors", "model.gguf", "a.npy", "evil.py"):
        text, violations = audited(place, "cas", "put", "--raw", file)
        assert not violations
        _, violations = audited(place, "cas", "get", text.split()[0], "-o", place.parent / "out" / file)
        assert not violations
    _, violations = audited(place, "cas", "put", place)
    assert not violations
    for file in ("model.bin", "model.pt", "a.npy"):
        _, violations = audited(place, "cas", "put", file, code=None)  # as what it claims to be, or refused
        assert not violations
    assert not (place / "pwned").exists()


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "a/../../escaped", "..", "a\nb", "a\0b", "\x1b[2J"])
def test_a_tree_writes_nothing_outside_of_its_folder(place: Path, name: str) -> None:
    (place / "f").write_text("x")
    with Store(place.parent / "store") as store:
        entry = put_file(store, place / "f", raw=True).digest
        tree = store.put_node(Node("directory", {"entries": {name: entry}}))
    before = sorted(place.parent.rglob("*"))
    for command in (["cas", "get", tree, "-o", place / "out"], ["cas", "show", tree], ["cas", "ls", tree]):
        _, violations = audited(place, *command, code=2 if command[1] != "show" else 0)
        assert not violations
    after = [path for path in place.parent.rglob("*") if "store" not in path.parts and "state" not in path.parts]
    assert set(after) <= set(before)


def test_a_job_that_is_refused_for_its_size_executes_nothing(place: Path) -> None:
    samebits.save_job(only_reached(with_step(wide_chain(1 << 39))), place / "wide.job", embed="all")
    assert audited(place, "run", "wide.job", code=2)[1] == []
