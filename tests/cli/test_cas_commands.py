"""`cas put`, `get`, `cat`, `ls`, `show`, `diff` and `export`, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from samebits.cas import Node, Store, hash_blob, put_tensor, put_tree
from samebits.cas.environment import PINS
from samebits.cli.cas import app

safetensors = pytest.importorskip("safetensors.numpy")
ROW = 1 << 20


class Commands:
    """The commands on one store, run in this process."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def __call__(self, *arguments: Any, code: int = 0) -> Result:
        """Run a command and check its exit code; an error is one line on stderr."""
        done = CliRunner().invoke(app, [*map(str, arguments), "--store", str(self.store)])
        assert done.exit_code == code, (done.exit_code, done.stdout, done.stderr)
        if code == 2:
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        return done

    def json(self, *arguments: Any, code: int = 0) -> Any:
        """Run a command with --json: stdout is one JSON value."""
        return json.loads(self(*arguments, "--json", code=code).stdout)


@pytest.fixture
def cas(tmp_path: Path) -> Commands:
    return Commands(tmp_path / "store")


def write_model(folder: Path, scale: float = 1.0) -> Path:
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    weight[1] *= scale
    safetensors.save_file({"layer.weight": weight, "layer.bias": np.ones(4, np.float16)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "onnx" / "model.onnx").write_bytes(b"onnx" * ROW)
    return folder


@pytest.fixture
def model(cas: Commands, tmp_path: Path) -> str:
    """A folder that the store has; its address."""
    (stored,) = cas.json("put", write_model(tmp_path / "model"))
    return str(stored["digest"])


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_put_and_get_of_a_folder(cas: Commands, tmp_path: Path, model: str) -> None:
    again = cas.json("put", tmp_path / "model", tmp_path / "model" / "config.json")
    assert [one["kind"] for one in again] == ["directory", "blob"]
    assert again[0] == {
        "digest": model, "kind": "directory", "name": "model", "files": 3, "notes": [], "new_bytes": 0,
        "size_bytes": sum(map(len, files_of(tmp_path / "model").values())),
    }  # fmt: skip
    found = cas.json("get", model, "-o", tmp_path / "out")
    assert found == {"digest": model, "file": str(tmp_path / "out"), "size_bytes": again[0]["size_bytes"]}
    assert files_of(tmp_path / "out") == files_of(tmp_path / "model")
    assert "3 files" in cas("put", tmp_path / "model").stdout
    cas("get", model, "-o", tmp_path / "out", code=2)


def test_put_says_which_weights_it_kept_as_bytes(cas: Commands, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.safetensors").write_bytes(b"junk" * 9)
    done = cas("put", tmp_path / "bad")
    assert done.stderr.startswith("x.safetensors: stored as plain bytes: its header")
    assert len(cas.json("put", tmp_path / "bad")[0]["notes"]) == 1


def test_get_of_files_and_tensors_in_a_folder(cas: Commands, tmp_path: Path, model: str) -> None:
    for name in ("config.json", "onnx/model.onnx", "model.safetensors"):
        cas("get", f"{model[:10]}/{name}", "-o", tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == (tmp_path / "model" / name).read_bytes()
    tensor = f"{model}/model.safetensors/layer.weight"
    wanted = np.arange(12, dtype=np.float32).reshape(3, 4)
    for suffix in ("npy", "npz", "safetensors"):
        found = cas.json("get", tensor, "-o", tmp_path / f"w.{suffix}")
        assert found["size_bytes"] == (tmp_path / f"w.{suffix}").stat().st_size
    assert np.array_equal(np.load(tmp_path / "w.npy"), wanted)
    assert list(np.load(tmp_path / "w.npz")) == list(safetensors.load_file(tmp_path / "w.safetensors"))
    assert list(np.load(tmp_path / "w.npz")) == ["layer.weight"]
    assert "its suffix is none of them" in cas("get", tensor, "-o", tmp_path / "w.bin", code=2).stderr
    assert not (tmp_path / "w.bin").exists()


def test_stdout_gets_the_bytes_of_a_file_and_nothing_else(cas: Commands, tmp_path: Path, model: str) -> None:
    for arguments in (["get", f"{model}/onnx/model.onnx", "-o", "-"], ["cat", f"{model}/onnx/model.onnx"]):
        command = [sys.executable, "-m", "samebits.cli", "cas", *arguments, "--store", str(cas.store)]
        done = subprocess.run(command, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == b"onnx" * ROW
    assert (
        cas("cat", f"{model}/model.safetensors").stdout_bytes == (tmp_path / "model" / "model.safetensors").read_bytes()
    )
    assert "both want stdout" in cas("get", model, "-o", "-", "--json", code=2).stderr
    assert "not a file" in cas("cat", f"{model}/model.safetensors/layer.bias", code=2).stderr
    assert "not a file" in cas("cat", model, code=2).stderr


def test_ls_lists_what_an_object_holds(cas: Commands, tmp_path: Path, model: str) -> None:
    listed = cas.json("ls", model)
    assert [(one["name"], one["kind"]) for one in listed] == [
        ("config.json", "blob"),
        ("model.safetensors", "weights_file"),
        ("onnx/model.onnx", "blob"),
    ]
    assert listed[1]["size_bytes"] == (tmp_path / "model" / "model.safetensors").stat().st_size
    tensors = cas.json("ls", f"{model}/model.safetensors")
    assert [(one["name"], one["dtype"], one["shape"], one["size_bytes"]) for one in tensors] == [
        ("layer.bias", "f16", [4], 8),
        ("layer.weight", "f32", [3, 4], 48),
    ]
    text = cas("ls", f"{model}/model.safetensors").stdout
    assert text.splitlines()[1] == f"{tensors[1]['digest']}  f32[3,4]      48 B  layer.weight"
    assert cas.json("ls", f"{model}/config.json")[0]["kind"] == "blob"
    assert {one["digest"] for one in cas.json("ls")} >= {model, tensors[0]["digest"]}


def test_show_takes_paths_and_pins(cas: Commands, model: str) -> None:
    with Store(cas.store) as store:
        store.pin("my/model", next(info.digest for info in store.objects() if str(info.digest) == model))
    assert cas.json("show", "my/model")["digest"] == model
    assert cas.json("show", "my/model/model.safetensors/layer.weight")["body"]["shape"] == [3, 4]
    said = cas("show", "my/model/modle.safetensors", code=2).stderr
    assert "did you mean 'model.safetensors'?" in said


def test_diff_names_what_differs_and_exits_with_1(cas: Commands, tmp_path: Path, model: str) -> None:
    folder = write_model(tmp_path / "tuned", scale=2.0)
    (folder / "new.txt").write_text("new")
    (folder / "config.json").unlink()
    (tuned,) = cas.json("put", folder)
    lines = cas("diff", model, tuned["digest"], code=1).stdout.splitlines()
    assert lines == [
        " D config.json                    | blob  2 B",
        " M model.safetensors/layer.weight | f32[3,4]  4 of 12 elements (33.3 %)",
        " A new.txt                        | blob  3 B",
        " 1 changed, 1 added, 1 removed, 3 equal; 4.2 MB of 4.2 MB shared (100.0 %)",
    ]
    found = cas.json("diff", model, tuned["digest"], code=1)
    assert (found["same"], found["counts"]["changed"]) == (False, 1)
    assert found["after_size_bytes"] - found["shared_size_bytes"] == 48 + 3
    assert [one["name"] for one in found["differences"]] == [
        "config.json", "model.safetensors/layer.weight", "new.txt",
    ]  # fmt: skip
    assert found["differences"][0]["after"] is None
    assert found["differences"][1]["different_elements"] == 4
    quick = cas.json("diff", model, tuned["digest"], "--quick", code=1)
    assert quick["differences"][1]["different_elements"] is None
    assert cas.json("diff", model, model)["same"] is True
    assert "0 changed" in cas("diff", model, model).stdout


def test_export_writes_the_tensors_of_a_folder(cas: Commands, tmp_path: Path, model: str) -> None:
    found = cas.json("export", model, "-o", tmp_path / "x.npz")
    assert (found["tensors"], found["left_out_bytes"]) == (2, 0)
    assert found["size_bytes"] == (tmp_path / "x.npz").stat().st_size
    assert sorted(np.load(tmp_path / "x.npz")) == ["layer.bias", "layer.weight"]
    cas("export", f"{model}/model.safetensors", "-o", tmp_path / "plain", "--format", "safetensors")
    assert sorted(safetensors.load_file(tmp_path / "plain")) == ["layer.bias", "layer.weight"]
    for arguments, said in (
        (["-o", tmp_path / "y.npz", "--format", "hdf5"], "unknown format 'hdf5'"),
        (["-o", tmp_path / "y.pt"], "its suffix is none of them"),
        (["-o", tmp_path / "y.npy"], "holds one tensor, not 2"),
    ):
        assert said in cas("export", model, *arguments, code=2).stderr
    assert not list(tmp_path.glob("y.*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["put", "{tmp}/none"], "no such file or folder"),
        (["put", "/dev/null"], "not a regular file"),
        (["get", "xyz", "-o", "{tmp}/out"], "not an address"),
        (["get", "0" * 64, "-o", "{tmp}/out"], "is not in the store"),
        (["get", "{model}/none", "-o", "{tmp}/out"], "there is no 'none' in"),
        (["get", "{model}", "-o", "{tmp}/model"], "not an empty folder"),
        (["get", "{tree}", "-o", "{tmp}/out"], "is a tree; `cas export` writes its tensors into a file"),
        (["cat", "{model}/onnx"], "but it has 'onnx/model.onnx'"),
        (["ls", "{model}/model.safetensors/layer.weight/x"], "holds nothing by name"),
        (["diff", "{model}", "0badf00d"], "no address in the store begins with 0badf00d"),
        (["export", "{model}/config.json", "-o", "{tmp}/x.npz"], "is a blob, which holds no tensors"),
    ],
)
def test_bad_input_is_one_line(cas: Commands, tmp_path: Path, model: str, arguments: list[str], said: str) -> None:
    with Store(cas.store) as store:
        tree = put_tree(store, {"w": put_tensor(store, np.ones(2))})
    given = [argument.format(tmp=tmp_path, model=model, tree=tree) for argument in arguments]
    assert said in cas(*given, code=2).stderr
    assert not (tmp_path / "out").exists()


def test_names_of_others_do_not_steer_the_terminal_or_leave_the_folder(cas: Commands, tmp_path: Path) -> None:
    with Store(cas.store) as store:
        blob = store.put_blob(b"x")
        for name in ("../escaped", "\x1b[2Jgone", "\u202egone", "/abs"):
            digest = store.put_node(Node("directory", {"entries": {name: blob}}))
            for arguments in (["ls", digest], ["get", digest, "-o", tmp_path / "out"], ["diff", digest, blob]):
                done = cas(*arguments, code=2)
                assert "can't be a name" in done.stderr
                assert "\x1b" not in done.stderr + done.stdout
    assert not (tmp_path / "escaped").exists()


def test_a_damaged_file_ends_with_an_error_not_with_half_of_it(cas: Commands, model: str) -> None:
    with Store(cas.store) as store:
        key = hash_blob(b"onnx" * (ROW // 4)).raw
        store.environment.write(lambda transaction: transaction.put("rows", key, bytes(ROW)))
    done = CliRunner().invoke(app, ["cat", f"{model}/onnx/model.onnx", "--store", str(cas.store)])
    assert done.exit_code == 2
    assert "is damaged" in done.stderr
    assert done.stdout_bytes == b""


def test_repair_leaves_what_the_remote_does_not_have(tmp_path: Path) -> None:
    """One such object was enough: all damaged ones were taken out, and none was fetched."""
    data = {name: os.urandom(20_000) for name in ("there", "nowhere")}
    with Store(tmp_path / "store") as store, Store(tmp_path / "copy") as copy:
        digests = {name: store.put_blob(content) for name, content in data.items()}
        copy.put_blob(data["there"])
        for digest in digests.values():
            store.environment.write(lambda t, key=digest.raw: t.put("rows", key, bytes(20_000)))  # type: ignore[misc]
    arguments = ["fsck", "--repair", "--from", str(tmp_path / "copy"), "--store", str(tmp_path / "store")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "fetched 1 objects" in done.stdout
    assert f"damaged  {digests['nowhere']}" in done.stdout
    assert "1 objects stay as they are" in done.stderr
    with Store(tmp_path / "store") as store:
        assert store.get_blob(digests["there"]) == data["there"]
        assert store.has(digests["nowhere"])


def test_a_pin_is_not_moved_without_force(cas: Commands, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    cas("put", tmp_path / "one", "--pin", "model")
    before = cas.json("pins")
    cas("put", tmp_path / "one", "--pin", "model")
    assert "model names" in cas("put", tmp_path / "two", "--pin", "model", code=2).stderr
    assert cas.json("pins") == before
    cas("put", tmp_path / "two", "--pin", "model", "--force")
    assert cas.json("pins") == {"model": str(hash_blob(b"two"))}
    cas("pin", "model", hash_blob(b"two"))
    assert "--force" in cas("pin", "model", hash_blob(b"one"), code=2).stderr
    cas("pin", "model", hash_blob(b"one"), "--force")
    assert cas.json("pins") == {"model": str(hash_blob(b"one"))}


def test_a_malformed_pin_is_named_by_fsck_and_gc_and_removed_by_unpin(cas: Commands, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("one")
    cas("put", tmp_path / "one", "--pin", "good")
    with Store(cas.store) as store:
        store.environment.write(lambda t: t.put(PINS, b"bad", b"short"))
    said = "pin bad names no address (`samebits cas unpin bad` removes it)"
    done = cas("fsck", code=1)
    assert f"damaged  {said}" in done.stdout
    assert "1 pins malformed" in done.stdout
    assert cas.json("fsck", code=1)["malformed_pins"] == [said]
    for arguments in (("gc",), ("gc", "--dry-run"), ("pins",)):
        assert f"is damaged: its {said}" in cas(*arguments, code=2).stderr
    assert cas("unpin", "bad").stdout == "malformed  bad\n"
    assert "no damage" in cas("fsck").stdout
    assert list(cas.json("pins")) == ["good"]
    cas("gc")


def test_nothing_is_written_into_the_store_itself(cas: Commands, tmp_path: Path, model: str) -> None:
    inside = cas.store / "cas"
    for arguments in (
        ("get", f"{model}/config.json", "-o", inside / "data.mdb"),
        ("get", model, "-o", inside / "new"),
        ("export", model, "-o", inside / "x.npz"),
        ("get", f"{model}/model.safetensors/layer.weight", "-o", inside / "w.npy"),
    ):
        assert "is within the store itself" in cas(*arguments, code=2).stderr
    assert cas.json("fsck")["problems"] == []


def test_empty_folders_are_told(cas: Commands, tmp_path: Path) -> None:
    (tmp_path / "folder" / "a" / "empty").mkdir(parents=True)
    (tmp_path / "folder" / "file").write_text("x")
    assert cas.json("put", tmp_path / "folder")[0]["notes"] == ["a/empty: an empty folder, which is not kept"]


def test_gc_keeps_what_is_pinned_or_young_and_compact_gives_space_back(cas: Commands, model: str) -> None:
    assert cas.json("gc", "--grace", "0")["objects"] == 0
    assert [*cas.json("unpin", model)] == [f"kept/{model}"]
    assert "no pin" in cas("unpin", model, code=2).stderr
    kept = cas.json("gc", "--dry-run")["kept_objects"]
    assert cas.json("gc") == {"dry_run": False, "objects": 0, "rows": 0, "size_bytes": 0, "kept_objects": kept}
    time.sleep(1.1)  # what was put in this second stays
    assert cas.json("gc", "--grace", "0", "--dry-run")["objects"] == kept
    assert cas.json("gc", "--grace", "0")["objects"] == kept
    report = cas.json("compact")
    assert report["after_size_bytes"] < report["before_size_bytes"] / 10
    assert "--grace" in cas("gc", "--grace", "-1", code=2).stderr
    assert "--from" in cas("fsck", "--repair", code=2).stderr
    assert "unknown level" in cas("fsck", "--level", "deep", code=2).stderr


def test_interrupt_while_the_command_starts_is_one_line() -> None:
    program = """
import builtins, sys
load = builtins.__import__
def interrupted(name, *rest, **more):
    if name == "samebits.cli.cas":
        raise KeyboardInterrupt
    return load(name, *rest, **more)
from samebits.cli.cas_main import main
builtins.__import__ = interrupted
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "samebits: interrupted\n")
