"""Policies: what they require, what they refuse, and each malformed line named."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samebits.ledger.checkpoint import Checkpoint, format_checkpoint, sign_checkpoint
from samebits.ledger.cosignature import WitnessSigningKey
from samebits.ledger.cosigned import open_cosigned
from samebits.ledger.errors import LedgerError, PolicyFormatError, QuorumError, SignatureError
from samebits.ledger.keys import SigningKey
from samebits.ledger.merkle import EMPTY_ROOT
from samebits.ledger.policy import Policy, parse_policy

LOG = SigningKey("log.example/one", bytes(32))
OTHER_LOG = SigningKey("log.example/two", bytes([1]) * 32)
WITNESSES = {
    name: WitnessSigningKey(f"{name}.example", bytes([7, *name.encode()]) + bytes(29)) for name in ("X1", "X2", "X3")
}
WITNESSES |= {
    name: WitnessSigningKey(f"{name}.example", bytes([7, *name.encode()]) + bytes(29)) for name in ("Y1", "Y2")
}
X1 = WITNESSES["X1"].verifier.vkey
X2 = WITNESSES["X2"].verifier.vkey
LINES = "".join(f"witness {name} {key.verifier.vkey}\n" for name, key in WITNESSES.items())
EXAMPLE = (
    f"# the example of tlog-policy\n\nlog {LOG.vkey}\n{LINES}"
    "\tgroup X-witnesses\t2 X1  X2 X3 \n \t\n"
    "group Y-witnesses any Y1 Y2\n  # both\ngroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
)
TEXT = format_checkpoint(Checkpoint(LOG.name, 0, EMPTY_ROOT))
NOTE = sign_checkpoint(Checkpoint(LOG.name, 0, EMPTY_ROOT), LOG)


def cosigned_by(*names: str, time_s: int = 1_700_000_000) -> bytes:
    return (NOTE + "".join(WITNESSES[name].cosign(TEXT, time_s) for name in names)).encode()


def test_quorum_counts_every_subset_of_witnesses_as_the_groups_say() -> None:
    policy = parse_policy(EXAMPLE.encode())
    for count in range(6):
        for names in itertools.combinations(WITNESSES, count):
            enough = sum(name[0] == "X" for name in names) >= 2 and any(name[0] == "Y" for name in names)
            if enough:
                opened = open_cosigned(cosigned_by(*names), policy)
                assert [seen.witness for seen in opened.witnessings] == list(names)
            else:
                with pytest.raises(QuorumError, match="lacks cosignatures"):
                    open_cosigned(cosigned_by(*names), policy)


def test_quorum_error_names_the_witnesses_that_are_missing() -> None:
    policy = parse_policy(EXAMPLE.encode())
    with pytest.raises(QuorumError) as caught:
        open_cosigned(cosigned_by("X2"), policy)
    assert str(caught.value) == (
        "the checkpoint of 0 entries of log.example/one lacks cosignatures: "
        "X-and-Y (2 more of X-witnesses (1 more of X1, X3), Y-witnesses (1 more of Y1, Y2))"
    )


def test_open_cosigned_takes_any_of_the_keys_that_a_policy_names_for_a_log() -> None:
    newer = SigningKey(LOG.name, bytes([9]) * 32)
    for keys in ([LOG, newer], [newer, LOG]):
        policy = parse_policy("".join(f"log {key.vkey}\n" for key in keys).encode() + b"quorum none\n")
        for signer in keys:
            note = sign_checkpoint(Checkpoint(LOG.name, 0, EMPTY_ROOT), signer)
            opened = open_cosigned(note.encode(), policy)
            assert (opened.log_key, opened.unknown) == (signer.verifier, 0)
    bad = NOTE.replace(NOTE.splitlines()[-1], sign_checkpoint(Checkpoint(LOG.name, 1, bytes(32)), LOG).splitlines()[-1])
    with pytest.raises(SignatureError, match="does not verify"):
        open_cosigned(bad.encode(), policy)


def test_open_cosigned_refuses_a_bad_cosignature_even_where_it_is_not_needed() -> None:
    policy = parse_policy(f"log {LOG.vkey}\n{LINES}quorum X1\n".encode())
    good = cosigned_by("X1")
    other = WITNESSES["Y1"].cosign(TEXT.replace("\n0\n", "\n1\n"), 5).encode()
    assert open_cosigned(good, policy).witnessings[0].time_s == 1_700_000_000
    with pytest.raises(SignatureError, match=r"the cosignature by Y1\.example does not verify"):
        open_cosigned(good + other, policy)


def test_open_cosigned_counts_signatures_by_keys_that_it_does_not_know() -> None:
    policy = parse_policy(f"log {LOG.vkey}\nwitness X1 {X1}\nquorum X1\n".encode())
    opened = open_cosigned(cosigned_by("X1", "X2", "Y1"), policy)
    assert (len(opened.witnessings), opened.unknown) == (1, 2)


def test_open_cosigned_wants_the_signature_of_a_log_that_the_policy_names() -> None:
    policy = parse_policy(f"log {OTHER_LOG.vkey}\nquorum none\n".encode())
    with pytest.raises(SignatureError, match=r"it is of log log\.example/one, but log\.example/two is wanted"):
        open_cosigned(NOTE.encode(), policy)
    with pytest.raises(SignatureError, match=r"the policy does not name log log\.example/one"):
        open_cosigned(NOTE.encode(), policy, LOG.verifier)
    with pytest.raises(SignatureError, match="no log is wanted"):
        open_cosigned(NOTE.encode(), Policy(()))
    both = parse_policy(f"log {OTHER_LOG.vkey}\nlog {LOG.vkey} https://log.example\nquorum none\n".encode())
    assert open_cosigned(NOTE.encode(), both).log_key == LOG.verifier
    impostor = SigningKey(LOG.name, bytes([9]) * 32)
    with pytest.raises(SignatureError, match="no signature by"):
        open_cosigned(sign_checkpoint(Checkpoint(LOG.name, 0, EMPTY_ROOT), impostor).encode(), both)


def test_a_witness_cannot_stand_in_for_the_log_nor_the_log_for_a_witness() -> None:
    policy = parse_policy(f"log {LOG.vkey}\nwitness X1 {X1}\nquorum X1\n".encode())
    with pytest.raises(SignatureError):
        open_cosigned(f"{TEXT}\n{WITNESSES['X1'].cosign(TEXT, 1)}".encode(), policy)
    with pytest.raises(QuorumError):
        open_cosigned(NOTE.encode(), policy)


BAD = [
    ("", "no quorum line"),
    ("# nothing\n", "no quorum line"),
    ("quorum none", "line 1: no newline at its end"),
    (f"witness a {X1}\ngroup g any a", "line 2: no newline at its end"),
    ("quorum none\nquorum none\n", "line 2: a second quorum"),
    ("quorum a\n", "line 1: the quorum a is not defined"),
    (f"quorum a\nwitness a {X1}\n", "line 1: the quorum a is not defined"),
    ("log\n", "line 1: want: log VKEY"),
    (f"log {LOG.vkey} url more\n", "line 1: want: log VKEY"),
    (f"logs {LOG.vkey}\n", "line 1: want: log VKEY"),
    (f"Log {LOG.vkey}\n", "line 1: want: log VKEY"),
    ("log nonsense\n", "line 1: malformed verifier key"),
    (f"log {X1}\n", "line 1: malformed verifier key: key type 4"),
    (f"\n\nwitness a {LOG.vkey}\n", "line 3: malformed witness key: key type 1"),
    (f"log {LOG.vkey}\nlog {SigningKey('other', bytes(32)).vkey}\n", "line 2: a second log with the key"),
    (f"witness a {X1}\nwitness b {X1}\n", "line 2: a second witness with the key"),
    (f"witness a {X1}\nwitness a {X2}\n", "line 2: the name a is taken"),
    (f"witness none {X1}\n", "line 1: the name none is reserved"),
    (f"witness a {X1}\ngroup a any a\n", "line 2: the name a is taken"),
    (f"witness a {X1}\ngroup none any a\n", "line 2: the name none is reserved"),
    ("group g any none\n", "line 1: the member none is not defined"),
    ("group g any g\n", "line 1: the member g is not defined"),
    ("group g any\n", "line 1: want: log VKEY"),
    (f"witness a {X1}\ngroup g 2 a\n", "line 2: want all, any or a number from 1 to 1, not 2"),
    (f"witness a {X1}\ngroup g 0 a\n", "line 2: want all, any"),
    (f"witness a {X1}\ngroup g 01 a\n", "line 2: want all, any"),
    (f"witness a {X1}\ngroup g +1 a\n", "line 2: want all, any"),
    (f"witness a {X1}\ngroup g \u0661 a\n", "line 2: want all, any"),
    (f"witness a {X1}\ngroup g any a a\n", "line 2: a is already a member"),
    (f"witness a {X1}\ngroup g any a\ngroup h any a\n", "line 3: a is already a member"),
    ("quorum none\r\n", "line 1: control character 13"),
    ("quorum none\n\x7f\n", "line 2: control character 127"),
    ("quorum\u00a0none\n", "line 1: want: log VKEY"),
    ("#" * (256 << 10) + "\n", "longer than 262144 bytes"),
]


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_parse_policy_names_the_line_and_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(PolicyFormatError) as caught:
        parse_policy(text.encode())
    assert problem in str(caught.value)


def test_parse_policy_takes_names_as_octets() -> None:
    kelvin, letter, raw = "\u212a".encode(), b"K", b"\xff\xfe"
    names = b" ".join((kelvin, letter, raw))
    keys = [WITNESSES[name].verifier.vkey.encode() for name in ("X1", "X2", "X3")]
    lines = [b"witness %s %s\n" % pair for pair in zip((kelvin, letter, raw), keys, strict=True)]
    policy = parse_policy(b"".join(lines) + b"group \xc2\xa0 all " + names + b"\nquorum \xc2\xa0\n")
    assert len({witness.name for witness in policy.witnesses}) == 3
    assert policy.groups[0].threshold == 3
    assert policy.unmet(witness.name for witness in policy.witnesses) == ""


def test_parse_policy_takes_32_logs_witnesses_and_groups_nested_in_each_other() -> None:
    logs = [f"log {SigningKey(f'log{i}', bytes([i]) * 32).vkey}" for i in range(32)]
    keys = [WitnessSigningKey(f"w{i}", bytes([i]) * 32).verifier.vkey for i in range(32)]
    witnesses = [f"witness w{i} {key} https://w.example/{i}" for i, key in enumerate(keys)]
    groups = ["group g0 all w0"] + [f"group g{i} all w{i} g{i - 1}" for i in range(1, 32)]
    policy = parse_policy("\n".join([*logs, *witnesses, *groups, "quorum g31\n"]).encode())
    everyone = {f"w{i}" for i in range(32)}
    assert policy.unmet(everyone) == ""
    for name in everyone:
        assert name in policy.unmet(everyone - {name})


@given(st.lists(st.sampled_from([*EXAMPLE.splitlines(keepends=True), "x", " ", "\n", "quorum ", "group g 1 X1\n"])))
def test_parse_policy_accepts_or_names_a_line(parts: list[str]) -> None:
    try:
        policy = parse_policy("".join(parts).encode())
    except LedgerError as error:
        assert isinstance(error, PolicyFormatError)
    else:
        assert isinstance(policy.unmet(()), str)
