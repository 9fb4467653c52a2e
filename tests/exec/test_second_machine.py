"""A run made on one machine, found, verified and taken home on another: two processes, a web server, files, lies."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from tests.cas.remote_places import QuietHandler, serving_files
from tests.cas.test_remotes_hostile import (
    Lie,
    changed,
    end_early,
    endless,
    hang_up,
    not_http,
    patience_s,
    send,
    stall,
    trickle,
    trickle_headers,
)
from tests.cli.test_remote_commands import serve
from tests.exec.small_job import make_job
from tests.serving import serving_app

import samebits
from samebits.cas import (
    CasError,
    Digest,
    RemoteError,
    Store,
    check_objects,
    collect_garbage,
    fsck,
    open_remote,
    tensor_node,
    tree_node,
)
from samebits.cas.node import Node, node_address
from samebits.exec.commits import make_commit
from samebits.exec.devices.registry import open_device
from samebits.exec.errors import DeviceError, ExecError, RunError
from samebits.exec.job import Job
from samebits.exec.ledger_folder import log_directory
from samebits.exec.places import searched_log
from samebits.exec.places.archive_place import ArchivePlace, pack_run
from samebits.exec.places.place_opening import open_run_place
from samebits.exec.places.publishing import push_run
from samebits.exec.places.run_places import StorePlace
from samebits.exec.places.run_record import run_pin
from samebits.exec.places.run_server import make_place_app
from samebits.exec.places.take_home import take_home
from samebits.exec.retention import ledger_roots
from samebits.exec.running.runner import ChainWriter, put_job
from samebits.ledger import Entry, LedgerError, Log, RunNotFoundError, SegmentBody, VerifierKey, sign_entry
from samebits.ledger.keyfile import load_key
from samebits.ledger.run_proof import MAX_RUN_PROOF_SIZE_BYTES, encode_run_proof, make_run_proof


def samebits_process(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `samebits ARGUMENTS` in a process of its own."""
    command = [sys.executable, "-m", "samebits.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Digest]:
    """Return the folder of a store, machine A, and a run of three segments in it, made on OpenCL if there is any."""
    device = "opencl"
    try:
        open_device(device)
    except DeviceError:
        device = "numpy"
    folder = tmp_path_factory.mktemp("machine") / "a"
    with Store(folder) as store:
        return folder, samebits.run(make_job(), store, device=device, checkpoint_every=10).address


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Store]:
    """Return an empty store, machine B."""
    with Store(tmp_path / "b") as store:
        yield store


def log_key(folder: Path) -> VerifierKey:
    return VerifierKey.parse((folder / "ledger" / "log.pub").read_text().strip())


def test_server_says_that_what_it_publishes_takes_no_writes(made: tuple[Path, Digest]) -> None:
    """The store beside log and runs answered, that there is no such thing."""
    folder, run = made
    with Store(folder, read_only=True) as store, serving_app(make_place_app(store)) as url:
        for path in ("checkpoint", "log.pub", "tile/0/000.p/1", f"runs/{run}"):
            for method in ("POST", "PUT"):
                with pytest.raises(HTTPError) as refused:
                    urlopen(Request(f"{url}/{path}", b"", method=method))
                assert refused.value.code == 405
                assert set(refused.value.headers["allow"].split(", ")) == {"GET", "HEAD"}
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{url}/nothing")
        assert refused.value.code == 404


def test_two_processes_verify_pull_and_go_on_without_a_network(made: tuple[Path, Digest], tmp_path: Path) -> None:
    folder, run = made
    home, key = tmp_path / "b", log_key(folder).vkey
    with serve("--store", folder) as url:
        verdict = json.loads(samebits_process("verify", f"{url}/{run}", "--store", home, "--json").stdout)
        assert (verdict["verdict"], verdict["commits_checked"], verdict["device"]) == ("same", 25, "numpy")
        assert (verdict["log_audited"], verdict["log_key_known"], verdict["log_vkey"]) == (False, False, key)
        assert verdict["bytes_fetched"] > 10_000
        other = key.replace("+A", "+B", 1)
        samebits_process("verify", f"{url}/{run}", "--store", home, "--log-key", other, code=2)
        taken = samebits_process("pull", run, "--from", url, "--store", home, "--log-key", key)
        assert f"samebits verify {run}" in taken.stdout and "0 objects, 0 B new" in taken.stdout
        gone = samebits_process("pull", f"{url}/{Digest(bytes(32))}", "--store", home, code=2)
        assert gone.stderr == f"samebits: {url} has no run {Digest(bytes(32))}\n"
    again = json.loads(samebits_process("verify", run, "--store", home, "--json").stdout)
    assert (again["verdict"], again["bytes_fetched"]) == ("same", 0)
    samebits_process("verify", f"{url}/{run}", "--store", home, code=2)


def test_what_was_taken_home_stays_and_is_served_on(made: tuple[Path, Digest], home: Store, tmp_path: Path) -> None:
    folder, run = made
    with open_run_place(str(folder), home, log_key=log_key(folder)) as place:
        taken = take_home(place, run, home)
    assert (taken.news, taken.chain.is_complete, taken.log_key) == ("new", True, log_key(folder))
    assert fsck(home).problems == ()
    before = {info.digest for info in home.objects()}
    collect_garbage(home, (digest for _, digest in ledger_roots(home)), grace_s=0)
    assert {info.digest for info in home.objects()} == before
    with (
        serving_app(make_place_app(home)) as url,
        Store(tmp_path / "c") as third,
        open_run_place(url, third) as place,
    ):
        assert samebits.verify(run, third, source=place).verdict == "same"
    found = StorePlace(home, is_own=True).find(run)
    assert (found.audited, found.is_key_known, len(found.chain.segments)) == (False, False, 3)


def test_only_what_is_needed_is_fetched(made: tuple[Path, Digest], home: Store) -> None:
    folder, run = made
    with Store(folder) as source:
        source.put_blob(b"of no run")
    with open_run_place(str(folder), home) as place:
        report = samebits.verify(run, home, source=place)
    with Store(folder, read_only=True) as source:
        assert {info.digest for info in home.objects()} < {info.digest for info in source.objects()}
    assert report.objects_checked >= len(list(home.objects())) > 50


def test_a_run_goes_through_a_remote_of_files_and_any_web_server(
    made: tuple[Path, Digest], home: Store, tmp_path: Path
) -> None:
    folder, run = made
    with Store(folder) as source:
        remote = open_remote(str(tmp_path / "remote"), create=True)
        push_run(run, source, remote)
        assert push_run(run, source, remote).objects == 0
    with serving_files(tmp_path / "remote") as url:
        for text in (str(tmp_path / "remote"), url):
            with open_run_place(text, home) as place:
                assert samebits.verify(run, home, source=place).verdict == "same"
                assert take_home(place, run, home).chain.is_complete


def test_a_run_is_found_in_the_tiles_of_a_log_beside_the_objects(
    made: tuple[Path, Digest], home: Store, tmp_path: Path
) -> None:
    folder, run = made
    with Store(folder) as source:
        push_run(run, source, open_remote(str(tmp_path / "remote"), create=True))
    shutil.rmtree(tmp_path / "remote" / "pins")
    (tmp_path / "remote" / "pins.json").unlink()
    with serving_files(tmp_path / "remote") as url:
        with open_run_place(url, home) as place, pytest.raises(RunError, match=f"{url} has no run {run}"):
            place.find(run)
        for name in ("log.pub", "checkpoint"):
            shutil.copy(folder / "ledger" / name, tmp_path / "remote" / name)
        shutil.copytree(folder / "ledger" / "tile", tmp_path / "remote" / "tile")
        with open_run_place(url, home, log_key=log_key(folder)) as place:
            assert samebits.verify(run, home, source=place).verdict == "same"
            assert take_home(place, run, home).news == "new"
            with pytest.raises(RunError, match="is not in this log"):
                place.find(Digest(bytes(32)))
    assert samebits.verify(run, home).verdict == "same"


class EndlessHandler(QuietHandler):
    """Serves files, but the entries of a log go on for ever, just fast enough that no single read is too slow."""

    def do_GET(self) -> None:
        if "/tile/entries" not in self.path:
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):  # until nobody reads any more
            while True:
                self.wfile.write(bytes(4096))
                time.sleep(0.2)


@pytest.mark.parametrize(
    ("bound", "handler", "said"),
    [
        ({"MAX_SEARCH_S": 1.0}, EndlessHandler, "took 1 s and was given up"),
        ({"MAX_SEARCHED_SIZE_BYTES": 1000}, QuietHandler, "read 1.0 kB and was given up"),
    ],
)
def test_a_search_in_a_log_without_end_is_given_up(
    made: tuple[Path, Digest],
    home: Store,
    monkeypatch: pytest.MonkeyPatch,
    bound: dict[str, float],
    handler: type[QuietHandler],
    said: str,
    tmp_path: Path,
) -> None:
    """A server that trickled kept whoever asked it for as long as a million entries can be made to take."""
    folder, run = made
    open_remote(str(tmp_path / "remote"), create=True).close()
    for name in ("log.pub", "checkpoint", "tile"):
        copy = shutil.copytree if name == "tile" else shutil.copy
        copy(folder / "ledger" / name, tmp_path / "remote" / name)
    for name, value in bound.items():
        monkeypatch.setattr(searched_log, name, value)
    started = time.monotonic()
    with (
        serving_files(tmp_path / "remote", handler) as url,
        open_run_place(url, home) as place,
        pytest.raises(RunError, match=said) as raised,
    ):
        place.find(run)
    assert time.monotonic() - started < 20  # without a bound it would not end
    assert str(raised.value).startswith(f"{url}: ")


def test_a_run_taken_home_is_found_beside_a_ledger_whose_making_was_interrupted(
    made: tuple[Path, Digest], home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = made
    take(folder, run, home)
    rename = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == "checkpoint.new":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", interrupted)
        Log.open(log_directory(home))
    assert (log_directory(home) / "log.pub").exists() and not (log_directory(home) / "checkpoint").exists()
    assert samebits.verify(run, home, sign=False).verdict == "same"
    assert samebits.verify(run, home).verdict == "same"  # makes the ledger, which the verdict goes into
    with pytest.raises(RunNotFoundError):
        StorePlace(home, is_own=True).find(Digest(bytes(32)))


def test_a_run_taken_home_is_found_under_its_logs_key_beside_a_ledger_of_ones_own(
    made: tuple[Path, Digest], home: Store
) -> None:
    """The key of the own ledger was compared before it was known whether the run is in there."""
    folder, run = made
    take(folder, run, home)
    assert samebits.verify(run, home).verdict == "same"  # signs: from now on there is a ledger here
    for key, found in ((log_key(folder), "same"), (log_key(home.path), "failed")):
        assert samebits.verify(run, home, source=StorePlace(home, is_own=True, log_key=key)).verdict == found


def test_a_run_goes_by_file(made: tuple[Path, Digest], tmp_path: Path) -> None:
    folder, run = made
    home, archive = tmp_path / "b", tmp_path / "run.car"
    packed = samebits_process("pack", run, "-o", archive, "--store", folder)
    assert f"samebits unpack {archive}" in packed.stdout
    assert json.loads(samebits_process("unpack", archive, "--store", home, "--json").stdout)["news"] == "new"
    with Store(home) as store:
        assert samebits.verify(run, store).verdict == "same"
        pack_run(run, store, tmp_path / "again.car")
    assert archive.read_bytes() == (tmp_path / "again.car").read_bytes()
    with Store(tmp_path / "c") as store, open_run_place(str(archive), store) as place:
        assert samebits.verify(run, store, source=place).verdict == "same"
        assert store.pins() == {}
        with pytest.raises(RunError, match=f"holds run {run}, not"):
            place.find(Digest(bytes(32)))
    damaged = bytearray(archive.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    archive.write_bytes(damaged)
    error = samebits_process("unpack", archive, "--store", tmp_path / "d", code=2).stderr
    assert error.count("\n") == 1 and str(archive) in error
    with Store(tmp_path / "d") as store:
        assert store.pins() == {}


def test_an_archive_of_something_else_is_no_run(home: Store, tmp_path: Path) -> None:
    from samebits.cas.car import write_car

    write_car(home, home.put_blob(b"hello"), tmp_path / "x.car")
    with pytest.raises(RunError, match="holds a blob and no run"):
        ArchivePlace(tmp_path / "x.car", home).run()
    write_car(home, home.put_node(tree_node({})), tmp_path / "y.car")
    with pytest.raises(RunError, match="not the record of a run but a tree"):
        ArchivePlace(tmp_path / "y.car", home).run()


def test_a_proof_in_an_archive_is_bounded_before_it_is_read(home: Store, tmp_path: Path) -> None:
    from samebits.cas.car import write_car

    run, proof = Digest(bytes(32)), home.put_blob(bytes(MAX_RUN_PROOF_SIZE_BYTES + 1))
    record = home.put_node(Node("run", {"objects": [], "proof": proof, "run": run.raw}))
    write_car(home, record, tmp_path / "x.car")
    with pytest.raises(RunError, match=r"x\.car: its proof has more than \d+ bytes"):
        ArchivePlace(tmp_path / "x.car", home).prove(run)


def other_history(folder: Path, run: Digest, to: Path, segments: int, *, forged: bool) -> Path:
    """Copy a store, with another history of the run in its log: some segments, the last of them another one."""
    shutil.copytree(folder, to)
    with Log.open(folder / "ledger", read_only=True) as log:
        chain = log.chain(run)
    for path in list((to / "ledger").iterdir()):
        if path.name != "log.key":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    entries: list[Entry] = [chain.run, *(segment.entry for segment in chain.segments[:segments])]
    if forged:
        body = entries[-1].body
        assert isinstance(body, SegmentBody)
        author = load_key(folder / "keys" / "author.key")
        changed_body = dataclasses.replace(body, device="another")
        entries[-1] = sign_entry(chain.origin, entries[-1].prev, changed_body, author, time=1)
    with Log.open(to / "ledger", state_folder=to / "state") as log:
        log.append(entries)
    return to


def take(folder: Path, run: Digest, home: Store) -> str:
    with open_run_place(str(folder), home) as place:
        return take_home(place, run, home).news


def test_a_run_that_went_on_replaces_the_older_one(made: tuple[Path, Digest], home: Store, tmp_path: Path) -> None:
    folder, run = made
    early = other_history(folder, run, tmp_path / "early", 1, forged=False)
    assert take(early, run, home) == "new"
    first = home.pins()
    with pytest.raises(RunError, match="stops after 10 of 25 steps"):
        samebits.verify(run, home)
    assert samebits.verify(run, home, partial=True).verdict == "same"
    assert take(folder, run, home) == "grew"
    assert home.pins().keys() == first.keys() == {run_pin(run)}
    assert home.pins() != first
    assert samebits.verify(run, home).verdict == "same"
    assert take(early, run, home) == "known"
    assert samebits.verify(run, home).verdict == "same"


@pytest.mark.parametrize("forged", [False, True])
def test_what_another_process_brought_meanwhile_stays(
    made: tuple[Path, Digest], home: Store, tmp_path: Path, forged: bool
) -> None:
    """A slow pull of less, or of another history, replaced what a faster one had pinned since it began."""
    folder, run = made
    slow = other_history(folder, run, tmp_path / "slow", 2, forged=forged)
    brought: list[dict[str, Digest]] = []

    def faster(*_: object) -> None:
        if not brought:
            take(folder, run, home)
            brought.append(home.pins())

    outcome = pytest.raises(RunError, match="signed two histories") if forged else nullcontext()
    with open_run_place(str(slow), home) as place, outcome:
        assert take_home(place, run, home, progress=faster).news == "known"
    assert brought == [home.pins()]


def test_two_histories_of_one_run_are_refused(made: tuple[Path, Digest], home: Store, tmp_path: Path) -> None:
    folder, run = made
    other = other_history(folder, run, tmp_path / "other", 2, forged=True)
    assert take(folder, run, home) == "new"
    pins = home.pins()
    with pytest.raises(RunError, match=f"author of run {run} signed two histories: from step 10 on entry"):
        take(other, run, home)
    assert home.pins() == pins
    with Store(other) as source:  # nor does it get into a remote that has the first
        remote = open_remote(str(tmp_path / "remote"), create=True)
        push_run(run, home, remote)
        with pytest.raises(RunError, match="signed two histories"):
            push_run(run, source, remote)
        assert remote.pins() == pins


def big_job() -> Job:
    """Return the small job with 24 MiB of data."""
    job = make_job()
    nodes, blobs, entries = dict(job.nodes), dict(job.blobs), {}
    for seed, name in enumerate("xy"):
        array = np.random.default_rng(seed).random(3 << 20, dtype=np.float32)
        node, data = tensor_node(array)
        blob = node.body["blob"]
        assert isinstance(blob, Digest)
        nodes[node_address(node)], blobs[blob] = node, bytes(data)
        entries[name] = node_address(node)
    tree = tree_node(entries)
    nodes[node_address(tree)] = tree
    return Job(dataclasses.replace(job.spec, data=node_address(tree), steps=2), nodes, blobs)


class SlowRows:
    """An application that gives out rows one after the other, slowly, and counts them."""

    def __init__(self, app: Callable[..., Awaitable[None]], delay_s: float) -> None:
        self.app, self.delay_s, self.rows = app, delay_s, 0
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/rows/"):
            async with self._turn:
                await asyncio.sleep(self.delay_s)
            self.rows += 1
        await self.app(scope, receive, send)


def test_a_pull_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    with Store(tmp_path / "a") as source:
        run = samebits.run(big_job(), source).address
        slow: Any = SlowRows(make_place_app(source), 0.15)
        with serving_app(slow) as url:
            arguments = ["pull", f"{url}/{run}", "--store", str(tmp_path / "b"), "--json"]
            process = subprocess.Popen(
                [sys.executable, "-m", "samebits.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            deadline = time.monotonic() + 60
            while slow.rows < 15 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            first, slow.delay_s = slow.rows, 0.0
            assert 15 <= first < 20
            with Store(tmp_path / "b") as home:
                assert home.pins() == {}
            report = json.loads(samebits_process(*arguments).stdout)
    assert report["news"] == "new"
    # rows that arrived more than a second before the kill, some six in a second, are not fetched again
    assert 24 - first <= report["bytes"] >> 20 <= 24 - 5
    with Store(tmp_path / "b") as home:
        assert check_objects(home, home.pins().values())[1] == []
        assert samebits.verify(run, home).verdict == "same"


@pytest.fixture
def lying(made: tuple[Path, Digest], tmp_path: Path) -> Iterator[tuple[str, dict[str, Lie], Digest]]:
    """Serve a run by files, with its proof where a server has it; yields the URL and what to lie about."""
    folder, run = made
    with Store(folder) as source, Log.open(log_directory(source), read_only=True) as log:
        push_run(run, source, open_remote(str(tmp_path / "remote"), create=True))
        (tmp_path / "remote" / "runs").mkdir()
        (tmp_path / "remote" / "runs" / str(run)).write_bytes(encode_run_proof(make_run_proof(log, run)))
    lies: dict[str, Lie] = {}

    class Liar(QuietHandler):
        def do_GET(self) -> None:
            if self.path not in lies:
                super().do_GET()
                return
            file = tmp_path / "remote" / self.path[1:]
            with suppress(OSError):
                lies[self.path](self, file.read_bytes() if file.is_file() else b"")
            self.close_connection = True

    with serving_files(tmp_path / "remote", Liar) as url:
        yield url, lies, run


PROOF_LIES: list[tuple[str, Lie, str]] = [
    ("nothing", send(b""), "malformed run proof"),
    ("text", send(b"hello"), "malformed run proof"),
    ("a flipped bit", changed(lambda data: data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]), "."),
    ("cut", changed(lambda data: data[:-100]), "malformed run proof"),
    ("longer", changed(lambda data: data + b"x"), "malformed run proof"),
    ("endless", endless(chunked=False), "malformed run proof: more than"),
    ("endless in chunks", endless(chunked=True), "malformed run proof: more than"),
    ("a stall", stall, "too slow"),
    ("a trickle", trickle, "too slow"),
    ("a trickle of headers", trickle_headers, "too slow"),
    ("an end", hang_up, "the connection broke"),
    ("an early end", end_early, "the connection broke"),
    ("something else", not_http, "the connection broke"),
    ("a redirect", send(b"", 302, location="http://127.0.0.1:1/elsewhere"), "status 302"),
    ("a failure", send(b"out of order\nsecond line", 500), "status 500 when asked for the run: out of order second"),
]


@pytest.mark.parametrize(("lie", "reason"), [pytest.param(lie, why, id=name) for name, lie, why in PROOF_LIES])
def test_a_server_that_lies_about_a_proof_is_named(
    lying: tuple[str, dict[str, Lie], Digest], home: Store, lie: Lie, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samebits.cas.remotes.http_client._RETRY_AFTER_S", (0.01, 0.01))
    url, lies, run = lying
    lies[f"/runs/{run}"] = lie
    with open_run_place(url, home, timeout_s=patience_s(reason)) as place:
        with pytest.raises((ExecError, RemoteError), match=reason) as error:
            take_home(place, run, home)
        assert url in str(error.value)
        assert "\n" not in str(error.value)
        assert list(home.objects()) == [] and home.pins() == {}
    lies.clear()
    with open_run_place(url, home) as place:
        assert take_home(place, run, home).news == "new"


def test_a_server_with_another_logs_key_is_refused(
    lying: tuple[str, dict[str, Lie], Digest], home: Store, tmp_path: Path
) -> None:
    url, _, run = lying
    with Log.open(tmp_path / "log") as log, open_run_place(url, home, log_key=log.verifier) as place:
        with pytest.raises(RunError, match=rf"{url}: it is in the log .*, not in {log.origin}"):
            place.find(run)
        with pytest.raises(RunError, match=rf"{url}: it is in the log .*, not in {log.origin}"):
            take_home(place, run, home)
    assert list(home.objects()) == []


def test_a_server_without_an_object_or_with_a_wrong_one_is_named(
    lying: tuple[str, dict[str, Lie], Digest], home: Store, made: tuple[Path, Digest]
) -> None:
    url, lies, run = lying
    with Log.open(made[0] / "ledger", read_only=True) as log:
        chain = log.chain(run)
    state = str(chain.segments[1].body.state_out)
    for lie in (send(b"", 404), send(b"hello"), changed(lambda data: data[:-1] + bytes([data[-1] ^ 1]))):
        lies[f"/objects/{state[:2]}/{state[2:]}"] = lie
        with open_run_place(url, home) as place, pytest.raises(CasError, match=state):
            take_home(place, run, home)
        assert home.pins() == {} and not home.has(Digest.parse(state))


def test_a_run_of_other_steps_than_its_job_is_refused_before_data_is_fetched(home: Store, tmp_path: Path) -> None:

    with Store(tmp_path / "a") as source:
        job = make_job()
        writer = ChainWriter(source, put_job(job, source), 1000, 1, 10)
        state = {"w": np.ones((), np.float32)}
        commit = make_commit(0, state, {"loss": np.zeros((), np.float32)})
        writer.add_segment(0, 1, job.spec.state, commit.state, [commit], "numpy", [])
        with serving_app(make_place_app(source)) as url, open_run_place(url, home) as place:
            with pytest.raises(RunError, match="the run says that its job has 1000 steps, it has 25"):
                take_home(place, writer.run, home)
            verdict = samebits.verify(writer.run, home, source=place, partial=True)
    assert (verdict.verdict, verdict.entry) == ("failed", None)
    assert "the run says that its job has 1000 steps, it has 25" in verdict.problem
    assert list(home.objects()) == []


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("none", "no samebits remote here"),
        ("gopher://x", "unknown kind of remote 'gopher'"),
        ("http://127.0.0.1:1", "can't connect"),
        ("host:store", "names another machine"),
        ("none.car", "No such file"),
    ],
)
def test_places_that_are_none_are_named(home: Store, tmp_path: Path, place: str, reason: str) -> None:
    text = str(tmp_path / place) if place.startswith("none") else place
    with (
        pytest.raises((CasError, ExecError, LedgerError), match=reason) as error,
        open_run_place(text, home) as opened,
    ):
        opened.find(Digest(bytes(32)))
    assert text in str(error.value)
