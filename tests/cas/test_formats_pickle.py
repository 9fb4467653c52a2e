"""Pickles are read as data: what real ones hold, and what hostile ones want and do not get."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.cas.weight_files import make_checkpoint, plan_bytes, plan_or_refuse, save_torch, text

from samebits.cas.errors import FileFormatError
from samebits.cas.files import put_file
from samebits.cas.formats import pickle_reader, torch_objects
from samebits.cas.formats.bounded_reader import BoundedReader
from samebits.cas.formats.pickle_reader import Call, Global, Mapping, Persistent, Pickle, read_pickle
from samebits.cas.formats.torch_names import ALLOWED
from samebits.cas.store import Store

PATH = Path("m.pt")


def read(data: bytes) -> Pickle:
    return read_pickle(BoundedReader(io.BytesIO(data), 0, len(data), PATH, "pickle"), ALLOWED)


def rebuilt(value: object) -> object:
    """Return the Python value that an inert one stands for, sets without their elements."""
    match value:
        case list():
            return [rebuilt(item) for item in value]
        case tuple():
            return tuple(rebuilt(item) for item in value)
        case Mapping(pairs):
            return {rebuilt(key): rebuilt(item) for key, item in pairs}
        case Call(Global("_codecs", "encode"), (str() as data, "latin1")):
            return data.encode("latin1")
        case Call(Global("builtins", "set" | "frozenset")):
            return "set"
        case Call(Global("builtins", "bytearray" | "complex")):
            return "other"
        case _:
            return value


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-(1 << 400), 1 << 400) | st.text() | st.binary(min_size=1)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner) | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([2, 3, 4, 5]), st.booleans())
def test_read_pickle_reads_what_python_writes(value: object, protocol: int, is_python: bool) -> None:
    if is_python:
        stream = io.BytesIO()
        pickle._Pickler(stream, protocol).dump(value)
        data = stream.getvalue()
    else:
        data = pickle.dumps(value, protocol)
    assert rebuilt(read(data).value) == value


def test_read_pickle_keeps_calls_as_symbols() -> None:
    value = OrderedDict(a=1)
    value.extra = (2,)  # type: ignore[attr-defined]
    found = read(pickle.dumps(value, 2)).value
    assert isinstance(found, Call)
    assert (found.function, found.arguments, found.pairs) == (Global("collections", "OrderedDict"), (), [("a", 1)])
    assert rebuilt(found.state) == {"extra": (2,)}
    assert rebuilt(read(pickle.dumps([{1, 2}, bytearray(b"x"), 1j], 4)).value) == ["set", "other", "other"]
    assert rebuilt(read(pickle.dumps([{1, 2}, bytearray(b"x"), 1j], 2)).value) == ["set", "other", "other"]
    assert isinstance(read(pickle.dumps(Counter("aab"), 2)).value, Call)
    assert rebuilt(read(b"\x80\x02U\x02abU\x01\xffh\0\x86.".replace(b"h\0", b"")).value) == ("ab", b"\xff")


def test_read_pickle_shares_what_the_memo_shares() -> None:
    shared: list[int] = [1]
    found = read(pickle.dumps((shared, shared), 2)).value
    assert isinstance(found, tuple)
    assert found[0] is found[1]


def test_read_pickle_collects_storages_in_their_order() -> None:
    found = read(b"\x80\x02K\1QK\2Q\x86.").persistents
    assert [one.identity for one in found] == [1, 2]
    assert all(isinstance(one, Persistent) for one in found)


def test_read_pickle_keeps_integers_of_any_size() -> None:
    assert read(pickle.dumps(-(1 << 500), 2)).value == -(1 << 500)
    assert isinstance(read(pickle.dumps(1 << 100_000, 2)).value, bytes)  # too long to count with, kept as its bytes


def test_allowed_names_are_those_that_torch_loads_with_weights_only() -> None:
    unpickler = pytest.importorskip("torch._weights_only_unpickler")
    assert {f"{one.module}.{one.name}" for one in ALLOWED} == set(unpickler._get_allowed_globals())


class Attack:
    def __init__(self, function: Any, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("how", ["data.pkl", "legacy", "within a tensor's arguments"])
def test_put_file_never_runs_a_pickle(store: Store, tmp_path: Path, protocol: int, how: str) -> None:
    trace = tmp_path / "ran"
    attack = Attack(os.system, f"touch {trace}")
    path = tmp_path / "m.pt"
    if how == "legacy":
        start = save_torch({}, _use_new_zipfile_serialization=False)
        path.write_bytes(start.replace(b"\x80\x02}q\x00.", pickle.dumps({"a": attack}, protocol)))
    elif how == "data.pkl":
        path.write_bytes(make_checkpoint(pickle.dumps([attack], protocol), {}))
    else:
        arguments = pickle.dumps(Attack(torch._utils._rebuild_tensor, attack), protocol)
        path.write_bytes(make_checkpoint(arguments, {}))
    said = "opcode" if protocol == 0 else r"needs '(posix|nt)\.system'"
    with pytest.raises(FileFormatError, match=rf"{said}.* \(raw=True, --raw"):
        put_file(store, path)
    assert not trace.exists()
    assert list(store.objects()) == []
    assert put_file(store, path, raw=True).kind == "blob"


def test_put_file_names_the_class_that_a_pickle_needs(store: Store, tmp_path: Path) -> None:
    import argparse

    path = tmp_path / "m.pt"
    for value, name in (
        (argparse.Namespace(lr=1), "argparse.Namespace"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (Path("x"), "pathlib.PosixPath"),
        (eval, "(builtins|__builtin__).eval"),
    ):
        torch.save({"a": torch.zeros(2), "b": value}, path)
        with pytest.raises(FileFormatError, match=f"data.pkl needs '{name}'"):
            put_file(store, path)


HOSTILE = {
    "nothing": (b"", "ends early"),
    "no stop": (b"\x80\x02N", "ends early"),
    "only a stop": (b".", "not on its stack"),
    "protocol 6": (b"\x80\x06N.", "protocol 6"),
    "a call below a mark": (b"N(\x85.", "not on its stack"),
    "a tuple without a mark": (b"Nt.", "a mark that is not"),
    "an unknown memo": (b"h\5.", "refers to the value 5"),
    "an unknown opcode": (b"\xff.", "opcode"),
    "a text of protocol 0": (b"S'a'\n.", "opcode"),
    "a registered extension": (b"\x82\1.", "opcode"),
    "a buffer out of band": (b"\x97.", "opcode"),
    "a text longer than the pickle": (b"X\xff\0\0\0a.", "ends early"),
    "a text of 2^63 bytes": (b"\x8d" + (1 << 63).to_bytes(8, "little") + b"a.", "9223372036854775808 bytes"),
    "bytes of 2^64-1 bytes": (b"\x8e" + b"\xff" * 8 + b".", "bytes"),
    "an integer of 2^32-1 bytes": (b"\x8b" + b"\xff" * 4 + b".", "bytes"),
    "a frame of 2^63 bytes": (b"\x95" + (1 << 63).to_bytes(8, "little") + b"N.", "frame"),
    "a text that is not UTF-8": (b"X\1\0\0\0\xff.", "UTF-8"),
    "an endless name": (b"c" + b"a" * 2000 + b"\n.", "line"),
    "a name with control characters": (b"ca\x1b[2J\nb\n.", r"needs 'a\\x1b\[2J.b'"),
    "a name that is a number": (b"K\1K\1\x93.", "name is not text"),
    "a class by its name from the memo": (text("os") + b"\x94" + text("system") + b"\x94h\0h\1\x93.", "'os.system'"),
    "an old instance": (b"(ios\nsystem\n.", "'os.system'"),
    "a call of a text": (text("print") + b")R.", "not a named function"),
    "a call with a list": (b"ctorch\nSize\n]R.", "tuple of arguments"),
    "a call of a result": (b"ctorch\nSize\n)R)R.", "not a named function"),
    "an append to a dict": (b"}Na.", "not a list"),
    "an append to a class": (b"ctorch\nSize\nNa.", "not a list"),
    "an item of a list": (b"]NNs.", "not a dict"),
    "an odd dict": (b"}(Nu.", "without a value"),
    "an element of a list": (b"](N\x90.", "not a set"),
    "attributes of a class": (b"ctorch\nTensor\n}b.", "attributes"),
    "attributes of a dict": (b"}}b.", "attributes"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_read_pickle_refuses(what: str) -> None:
    data, said = HOSTILE[what]
    with pytest.raises(FileFormatError, match=said) as caught:
        read(data)
    assert str(caught.value).isprintable()
    assert plan_or_refuse(make_checkpoint(data, {}), "m.pt") is None


def test_read_pickle_ends_after_so_many_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_reader, "MAX_OPERATIONS", 100)
    assert read(b"N" * 99 + b".").value is None
    with pytest.raises(FileFormatError, match="more than 100 operations"):
        read(b"N" * 100 + b".")
    monkeypatch.setattr(pickle_reader, "MAX_PICKLE_SIZE_BYTES", 10)
    with pytest.raises(FileFormatError, match="more than 10 bytes"):
        read(b"K\1" * 20 + b".")


def test_cycles_and_deep_or_shared_nests_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_objects, "MAX_VISITS", 200_000)
    in_itself = b"\x80\x02]q\0h\0a."
    assert plan_bytes(make_checkpoint(in_itself, {}), "m.pt") is not None
    tuple_in_its_list = b"\x80\x02]q\0h\0\x85q\1ah\0."
    assert plan_bytes(make_checkpoint(tuple_in_its_list, {}), "m.pt") is not None
    deep = {
        "lists": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
        "tuples": b"\x80\x02N" + b"\x85" * 20_000 + b".",
        "keys": b"\x80\x02}N" + b"\x85" * 20_000 + b"Ns.",
    }
    for name, data in deep.items():
        plan = plan_or_refuse(make_checkpoint(data, {}), "m.pt")
        assert (plan is None) == (name != "keys")
    doubled_63_times = b"\x80\x02]" + b"2\x86" * 63 + b"."
    with pytest.raises(FileFormatError, match="one container too often"):
        plan_bytes(make_checkpoint(doubled_63_times, {}), "m.pt")


def test_long_keys_and_wide_sharing_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_objects, "MAX_VISITS", 200_000)
    long_key = b"\x80\x02}" + text("k" * 1_000_000) + b"](" + b"]" * 1000 + b"es."
    assert plan_bytes(make_checkpoint(long_key, {}), "m.pt") is not None
    shared = b"\x80\x02](" + b"N" * 100_000 + b"eq\0]q\1(" + b"h\0" * 1000 + b"e."
    with pytest.raises(FileFormatError, match="one container too often"):
        plan_bytes(make_checkpoint(shared, {}), "m.pt")
    set_grown_bit_by_bit = b"\x80\x04\x8f" + b"(N\x90" * 50_000 + b"."
    assert plan_bytes(make_checkpoint(set_grown_bit_by_bit, {}), "m.pt") is not None


OPCODES = st.sampled_from(
    [bytes([code]) for code in b"NKMJX\x8c()]}\x8f\x85\x86\x87tldaeuscRbQ012qrh\x94\x93\x81\x90\x91\x88\x95."]
    + [b"ctorch\nSize\n", b"ccollections\nOrderedDict\n", b"K\1", text("a"), text("storage"), b"q\0", b"h\0", b"("]
)


@given(st.lists(OPCODES | st.binary(max_size=4), max_size=60))
def test_read_pickle_refuses_or_reads_any_opcodes(pieces: list[bytes]) -> None:
    plan_or_refuse(make_checkpoint(b"\x80\x02" + b"".join(pieces) + b".", {}), "m.pt")


def test_float_is_read_big_endian() -> None:
    assert read(b"G" + struct.pack(">d", 1.5) + b".").value == 1.5
