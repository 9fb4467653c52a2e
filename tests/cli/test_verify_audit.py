"""`samebits verify` of a part of a run, what it prints and signs, and its HTML page."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.exec.small_job import make_job
from tests.exec.test_audit import lose, object_of
from tests.exec.test_run_and_verify import Fraud
from typer.testing import CliRunner, Result

import samebits
from samebits.cas import Digest, Store
from samebits.cli.main import app
from samebits.cli.report_curve import curve_svg
from samebits.exec.ledger_folder import log_directory

HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u00e9"


def command(*arguments: Any, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    assert "Traceback" not in done.stderr
    return done


def json_of(*arguments: Any, code: int = 0) -> Any:
    return json.loads(command(*arguments, "--json", code=code).stdout)


@pytest.fixture
def run(store: Store) -> Digest:
    return samebits.run(make_job(steps=100), store, checkpoint_every=10).address


def test_a_sample_never_reads_like_a_full_replay(store: Store, run: Digest) -> None:
    text = command("verify", run, "--store", store.path, "--sample", 4, "--fraud", "30%").stdout
    (said,) = [line for line in text.splitlines() if line.startswith("verdict")]
    assert "same: 4 of 10 segments (drawn by a nonce announced in entry " in said
    assert "a run with 30 % altered segments (3 of 10) would have passed with probability 0.17; " in said
    assert "a single altered step is only surely found by replaying everything" in said
    assert "all" not in said.partition(" (drawn")[0]
    listed = command("log", "verdicts", run, "--store", store.path).stdout
    assert "sample of 4 segments, the draw is right" in listed


def test_json_says_the_three_parts_and_the_draw(store: Store, run: Digest) -> None:
    found = json_of("verify", run, "--store", store.path, "--confidence", "0.9", "--fraud", "0.3", "--beacon", "00ff")
    assert [found[name]["status"] for name in ("log", "artifacts", "computation")] == ["verified"] * 3
    drawn = found["drawn"]
    assert (drawn["sample"], drawn["segments_total"], drawn["altered_segments"]) == (5, 10, 3)
    assert (drawn["draw"], drawn["beacon"], drawn["miss_probability"]) == (None, "00ff", 1 / 12)
    assert [one["number"] for one in found["segments"]] == drawn["segments"]
    again = json_of("verify", run, "--store", store.path, "--sample", "5", "--beacon", "00ff")
    assert again["drawn"]["checkpoint"] != drawn["checkpoint"]  # the log has the first verdict now
    listed = json_of("log", "verdicts", run, "--store", store.path)
    assert [(one["draw"], one["counts"]) for one in listed["verdicts"]] == [("fits", True)] * 2


def test_what_is_missing_is_exit_code_2_with_a_report_and_one_line(store: Store, run: Digest) -> None:
    lost = object_of(store, run, 4, "commits")
    lose(store, lost)
    done = command("verify", run, "--store", store.path, code=2)
    lines = [line for line in done.stderr.splitlines() if line.startswith("samebits:")]
    assert len(lines) == 1
    assert f"run {run} is not verified: artifacts: object {lost} is not intact" in lines[0]
    found = json_of("verify", run, "--store", store.path, code=2)
    assert (found["verdict"], found["entry"], found["commits_checked"]) == ("failed", None, 90)
    assert [found[name]["status"] for name in ("log", "artifacts", "computation")] == ["verified", "failed", "failed"]
    command("verify", run, "--store", store.path, "--sample", 10, code=2)
    listed = command("log", "verdicts", run, "--store", store.path).stdout
    assert "draw of 10 of 10 segments  by you  announced, never reported" in listed
    assert len(json_of("log", "verdicts", run, "--store", store.path)["unreported_draws"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "5:3"], "5:3 is not a range in them"),
        (["--steps", "x"], "is no range of steps"),
        (["--steps", "1:2", "--sample", "3"], "give one of them"),
        (["--sample", "3", "--confidence", "0.9"], "give one of them"),
        (["--fraud", "0.1"], "belong to --sample"),
        (["--beacon", "00"], "belong to --sample"),
        (["--sample", "3", "--beacon", "xy"], "in hex"),
        (["--sample", "3", "--beacon", ""], "in hex"),
        (["--sample", "3", "--beacon", "00" * 65], "want 1 to 64"),
        (["--sample", "11"], "the run has 10"),
        (["--confidence", "1"], "above 0 and below 1"),
        (["--confidence", "sure"], "is no fraction"),
        (["--sample", "3", "--fraud", "0"], "above 0 and up to 1"),
        (["--sample", "3", "--no-sign"], "announced in a ledger"),
        (["--ledger", "/nowhere"], "no log that can be written to"),
        (["--scheduler", "nonsense"], "scheduler 'nonsense'"),
        (["--report", "/nowhere/page.html"], "page.html"),
    ],
)
def test_bad_options_give_one_line(store: Store, run: Digest, arguments: list[str], message: str) -> None:
    done = command("verify", run, "--store", store.path, *arguments, code=2)
    lines = [line for line in done.stderr.splitlines() if line.startswith("samebits:")]
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    assert done.stdout == ""


def test_a_locked_ledger_is_said_in_one_line(store: Store, run: Digest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.exec.running.ledger_wait._SAY_AFTER_S", 0.1)
    directory = log_directory(store)
    locked = os.open(directory / "lock", os.O_RDWR)
    fcntl.flock(locked, fcntl.LOCK_EX)
    threading.Timer(1.5, os.close, (locked,)).start()
    done = command("verify", run, "--store", store.path)
    line = f"samebits: waiting for the ledger {directory}, which process {os.getpid()} has locked"
    assert done.stderr.splitlines().count(line) == 1, done.stderr


# the page


class Page(HTMLParser):
    """What is in a page: its elements, their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def boxes(self) -> list[str]:
        return [str(attrs["class"]) for tag, attrs in self.elements if tag == "span" and "title" in attrs]


def page_of(store: Store, run: Digest, path: Path, *arguments: Any, code: int = 0) -> Page:
    command("verify", run, "--store", store.path, "--report", path, *arguments, code=code)
    page = Page(path.read_text(encoding="utf-8"))
    assert not {tag for tag, _ in page.elements} & {"script", "img", "link", "iframe", "object", "embed", "a"}
    for tag, attrs in page.elements:
        assert not {name for name in attrs if name.startswith("on") or name in ("src", "href", "style")}, (tag, attrs)
    (policy,) = [attrs["content"] for _, attrs in page.elements if attrs.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    return page


def test_report_shows_segments_curves_names_and_how_to_repeat_it(store: Store, run: Digest, tmp_path: Path) -> None:
    page = page_of(store, run, tmp_path / "page.html", "--sample", 4, "--beacon", "0a")
    boxes = page.boxes()
    assert (boxes.count("same"), boxes.count("left"), len(boxes)) == (4, 6, 10)
    text = "".join(page.text)
    assert "4 of 10 segments (drawn by a beacon)" in text
    assert f"samebits verify {run}" in text
    assert "--beacon 0a" in text
    for name in ("loss", "evaluation/distance", str(run), "verified: ", "device, as the runner claims"):
        assert name in text
    assert sum(tag == "path" for tag, _ in page.elements) == 2


def test_report_of_a_fraud_and_of_what_failed(store: Store, tmp_path: Path) -> None:
    run = Fraud(store, 47, claimed=make_job(steps=100)).run
    page = page_of(store, run, tmp_path / "different.html", code=1)
    assert page.boxes() == ["same"] * 4 + ["different"] + ["skipped"] * 5
    assert "different: step 47 is the first that differs" in "".join(page.text)
    lose(store, object_of(store, run, 2, "commits"))
    page = page_of(store, run, tmp_path / "failed.html", "--steps", "0:40", code=2)
    assert page.boxes() == ["same"] * 2 + ["failed"] + ["same"] + ["left"] * 6
    (store.path / "ledger" / "checkpoint").write_text("nonsense\n")
    log = page_of(store, run, tmp_path / "log.html", code=2)
    assert (log.boxes(), "failed: log: " in "".join(log.text)) == ([], True)


def test_report_escapes_what_strangers_named(store: Store, tmp_path: Path) -> None:
    run = samebits.run(make_job(steps=5, metric=HOSTILE), store).address
    page = page_of(store, run, tmp_path / "page.html")
    assert any("<script>alert(1)</script>" in text for text in page.text)  # as text, and only as text


def test_report_is_whole_or_not_there(store: Store, run: Digest, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("before")
    command("verify", run, "--store", store.path, "--report", path, "--steps", "9:2", code=2)
    assert path.read_text() == "before"
    inside = store.path / "cas" / "data.mdb"
    assert "within the store itself" in command("verify", run, "--store", store.path, "--report", inside, code=2).stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["page.html", "store"]


def test_curve_leaves_gaps_for_what_is_not_finite() -> None:
    assert curve_svg([(0, 1.0), (1, float("nan")), (2, 2.0), (3, 1.5)]).count("M") == 2
    assert curve_svg([(0, float("inf"))]) == "<p>no finite value</p>"
    assert "(logarithmic)" in curve_svg([(0, 1e-5), (1, 3.0)])
    assert "nan" not in curve_svg([(0, -1.7e308), (1, 1.7e308), (2, 0.0)])
    assert "nan" not in curve_svg([(0, 5e-324), (1, 1.7e308)])
    assert curve_svg([(7, 2.0)]).count("M") == 1
