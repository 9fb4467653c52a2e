"""The trust file: what its lines mean, which lines are refused and where, and edits that lose nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samebits.ledger.bodies import EntryKind
from samebits.ledger.ed25519 import REFUSED_POINTS
from samebits.ledger.errors import TrustFileError
from samebits.ledger.keys import ED25519, SigningKey, VerifierKey, encode_base64
from samebits.ledger.logkey import log_origin
from samebits.ledger.trust import ROLES, Trust, TrustedAs, TrustedKey, is_log_key, parse_trust
from samebits.ledger.trust_edits import add_trusted, remove_trusted

PATH = Path("trust")
ALICE, BOB, CAROL = (SigningKey(f"{name}.example", bytes([n]) * 32).verifier for n, name in enumerate("abc", 1))
LOG = VerifierKey(log_origin(CAROL.public), CAROL.public)
KINDS: tuple[EntryKind, ...] = ("run", "segment", "verdict")


def load(text: str, tmp_path: Path, own: bytes | None = None) -> Trust:
    path = tmp_path / "trust"
    path.write_text(text)
    path.chmod(0o644)
    return Trust.load(path, own)


@pytest.mark.parametrize(
    ("role", "counted"),
    [("author", KINDS), ("author:runs", ("run", "segment")), ("author:verdicts", ("verdict",)), ("log", ())],
)
def test_counts_what_the_line_says(role: TrustedAs, counted: tuple[str, ...], tmp_path: Path) -> None:
    trust = load(f"{role} {ALICE.vkey}\n", tmp_path)
    assert tuple(kind for kind in KINDS if trust.counts(ALICE.public, kind)) == counted
    assert not any(trust.counts(BOB.public, kind) for kind in KINDS)


def test_nobody_counts_without_a_file_but_the_user(tmp_path: Path) -> None:
    trust = Trust.load(tmp_path / "none", own=ALICE.public)
    assert all(trust.counts(ALICE.public, kind) for kind in KINDS)
    assert not trust.counts(BOB.public, "verdict")
    assert (trust.author_name(ALICE.public), trust.author_name(BOB.public)) == ("you", None)


def test_names_are_those_of_the_lines_or_of_the_keys(tmp_path: Path) -> None:
    trust = load(f"author {ALICE.vkey}\t Alice  of  here \nauthor {BOB.vkey}\nlog {LOG.vkey} the log\n", tmp_path)
    assert trust.author_name(ALICE.public) == "Alice  of  here"
    assert trust.author_name(BOB.public) == "b.example"
    assert trust.log_name(LOG.vkey) == "the log"


def test_knows_log_wants_the_name_and_the_key(tmp_path: Path) -> None:
    trust = load(f"log {LOG.vkey}\nauthor {ALICE.vkey}\n", tmp_path)
    assert trust.knows_log(LOG.vkey)
    assert not trust.knows_log(CAROL.vkey)
    assert not trust.knows_log(ALICE.vkey)
    assert trust.author_name(LOG.public) is None


def test_a_log_and_an_author_are_different_even_with_one_key(tmp_path: Path) -> None:
    trust = load(f"log {LOG.vkey}\nauthor {CAROL.vkey}\n", tmp_path)
    assert trust.knows_log(LOG.vkey)
    assert trust.counts(CAROL.public, "run")
    assert is_log_key(LOG)
    assert not is_log_key(CAROL)


def small_order() -> str:
    return f"a.example+00000000+{encode_base64(ED25519 + min(REFUSED_POINTS))}"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("Author VKEY", "starts with one of log, author, author:runs, author:verdicts"),
        ("author:logs VKEY", "starts with one of"),
        ("VKEY", "starts with one of"),
        ("author", "no verifier key after author"),
        ("author a.example", "want name+key ID"),
        ("author VKEYx", "malformed verifier key"),
        (f"author {ALICE.vkey.replace('+', '+0', 1)}", "malformed verifier key"),
        (f"author {small_order()}", "small order"),
        ("author VKEY a\u200bb", "printable"),
        ("author VKEY a\x1b[31mb", "printable"),
        ("author VKEY " + "n" * 101, "at most 100"),
        (f"author {LOG.vkey}", "is the key of a log, not of an author"),
        (f"author:verdicts {BOB.vkey}", "repeats the key of line 2"),
    ],
)
def test_parse_refuses_a_line_and_names_it(line: str, problem: str) -> None:
    text = f"# comment\nauthor {BOB.vkey} Bob\n\n{line.replace('VKEY', ALICE.vkey)}\n"
    with pytest.raises(TrustFileError, match="trust file trust, line 4: ") as caught:
        parse_trust(PATH, text)
    assert problem in str(caught.value)
    assert caught.value.line == 4
    assert "\n" not in str(caught.value)


def test_load_refuses_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "trust"
    path.mkdir()
    with pytest.raises(TrustFileError):
        Trust.load(path)
    path.rmdir()
    path.write_bytes(b"# \xff\n")
    path.chmod(0o644)
    with pytest.raises(TrustFileError, match="not UTF-8"):
        Trust.load(path)
    path.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(TrustFileError, match="longer than"):
        Trust.load(path)


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_load_refuses_a_file_that_others_may_write(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "trust"
    path.write_text("")
    path.chmod(mode)
    with pytest.raises(TrustFileError, match="others may write it"):
        Trust.load(path)


labels = st.text(st.characters(exclude_categories=("C", "Z")), max_size=40)


@given(st.lists(st.tuples(st.sampled_from(ROLES), labels, st.binary(min_size=32, max_size=32)), max_size=5))
def test_parse_reads_back_what_is_formatted(lines: list[tuple[TrustedAs, str, bytes]]) -> None:
    keys = {seed: TrustedKey(role, SigningKey("k.example", seed).verifier, label) for role, label, seed in lines}
    text = "".join(key.format() + "\n" for key in keys.values())
    assert parse_trust(PATH, text) == tuple(keys.values())


@given(st.text(max_size=200))
def test_parse_takes_or_refuses_any_text(text: str) -> None:
    try:
        parse_trust(PATH, text)
    except TrustFileError as error:
        assert error.line is not None


def test_edits_keep_the_rest_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "new" / "trust"
    assert add_trusted(path, TrustedKey("author", ALICE, "Alice")) is None
    assert oct(path.stat().st_mode & 0o777) == "0o644"
    text = path.read_text() + f"\n  # by phone\nlog   {LOG.vkey}   it\n"
    path.write_text(text)
    add_trusted(path, TrustedKey("author", BOB))
    assert path.read_text() == f"{text}author {BOB.vkey}\n"
    old = add_trusted(path, TrustedKey("author:verdicts", ALICE, "A."))
    assert old == TrustedKey("author", ALICE, "Alice")
    assert not Trust.load(path).counts(ALICE.public, "run")
    assert remove_trusted(path, "A.") == (TrustedKey("author:verdicts", ALICE, "A."),)
    assert remove_trusted(path, BOB.vkey) == (TrustedKey("author", BOB),)
    assert path.read_text() == text.replace(f"author {ALICE.vkey} Alice\n", "")
    assert [p.name for p in path.parent.iterdir()] == ["trust"]


def test_remove_refuses_what_is_not_there_or_not_clear(tmp_path: Path) -> None:
    path = tmp_path / "trust"
    add_trusted(path, TrustedKey("author", ALICE, "A."))
    with pytest.raises(TrustFileError, match=r"A\. is the name of another key already"):
        add_trusted(path, TrustedKey("author", BOB, "A."))
    path.write_text(path.read_text() + TrustedKey("author", BOB, "A.").format() + "\n")  # by hand it goes
    before = path.read_bytes()
    with pytest.raises(TrustFileError, match="no key and no name Eve"):
        remove_trusted(path, "Eve")
    with pytest.raises(TrustFileError, match=r"A\. is the name of 2 keys"):
        remove_trusted(path, "A.")
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["you", ALICE.public.hex()[:12], "0" * 64])
def test_names_that_pass_for_another_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="can't be shown as a name"):
        TrustedKey("author", ALICE, name)
    with pytest.raises(ValueError, match="can't be shown as a name"):
        TrustedKey("author", VerifierKey(name, ALICE.public))


def test_edits_refuse_to_touch_a_file_with_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "trust"
    path.write_text("autor x\n")
    path.chmod(0o644)
    with pytest.raises(TrustFileError, match="line 1"):
        add_trusted(path, TrustedKey("author", ALICE))
    assert path.read_text() == "autor x\n"


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o077])
def test_edits_leave_a_file_that_all_may_read_and_one_may_write(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        add_trusted(tmp_path / "trust", TrustedKey("author", ALICE))
    finally:
        os.umask(before)
    assert oct((tmp_path / "trust").stat().st_mode & 0o777) == "0o644"


def test_edits_go_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real" / "trust")
    add_trusted(tmp_path / "link", TrustedKey("author", ALICE))
    assert (tmp_path / "link").is_symlink()
    assert Trust.load(tmp_path / "real" / "trust").keys == Trust.load(tmp_path / "link").keys != ()
    remove_trusted(tmp_path / "link", ALICE.vkey)
    assert (tmp_path / "link").is_symlink()


def test_edits_that_cannot_be_written_say_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrustFileError, match="cannot be"):
        add_trusted(tmp_path / "file" / "trust", TrustedKey("author", ALICE))
    (tmp_path / "trust").mkdir()
    with pytest.raises(TrustFileError, match="cannot be read"):
        add_trusted(tmp_path / "trust", TrustedKey("author", ALICE))


def test_edits_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "trust"
    program = (
        "import sys; from pathlib import Path\n"
        "from samebits.ledger.keys import SigningKey\n"
        "from samebits.ledger.trust import TrustedKey\n"
        "from samebits.ledger.trust_edits import add_trusted\n"
        "for n in range(5):\n"
        "    key = SigningKey(f'k{sys.argv[2]}-{n}', bytes([int(sys.argv[2]), n]) * 16).verifier\n"
        "    add_trusted(Path(sys.argv[1]), TrustedKey('author', key))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(path), str(worker)], env=os.environ) for worker in range(3)
    ]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert len(Trust.load(path).keys) == 15
