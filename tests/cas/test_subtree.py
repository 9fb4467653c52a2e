"""Subtree values of rows: both implementations, against BLAKE3's vectors, the package `blake3` and each other."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from samebits.cas import blake3_numpy, subtree
from samebits.cas.digest import Buffer, hash_blob
from samebits.cas.subtree import root_address, subtree_value

ROOT = Path(__file__).parent.parent.parent
VECTORS: dict[str, Any] = json.loads((ROOT / "tests/vectors/blake3/test_vectors.json").read_text())
ROW = 1 << 20
CHUNK = 1024
BLOCK = 64
WIDTHS = (1, 4, 8, 16)  # lanes of the kernels in C
INDEXES = (0, 1, 2, 1023, 2**22 - 1, 2**22, 2**32, 2**43 + 1, 2**44 - 1)  # counters pass 2^32 at 2^22
DATA = np.random.Generator(np.random.Philox(5)).bytes(8 * ROW + CHUNK + 1)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Build the extension from its source as it is now; without a compiler take the installed one."""
    compiler = shutil.which("cc")
    include = Path(sysconfig.get_paths()["include"])
    if compiler is None or not (include / "Python.h").exists():
        installed: ModuleType = pytest.importorskip("samebits.cas._subtree", reason="no C compiler and no extension")
        return installed
    target = tmp_path_factory.mktemp("extension") / "_subtree.abi3.so"
    shared = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    flags = ["-O2", "-fPIC", f"-I{include}", "-DPy_LIMITED_API=0x030B0000"]
    subprocess.run([compiler, *flags, *shared, ROOT / "cas/_subtree.c", "-o", target], check=True)
    loader = importlib.machinery.ExtensionFileLoader("_subtree", str(target))
    spec = importlib.util.spec_from_file_location("_subtree", target, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(params=WIDTHS)
def lanes(request: pytest.FixtureRequest, compiled: ModuleType) -> int:
    """Give each width that this processor has."""
    width: int = request.param
    if width not in compiled.LANES:
        pytest.skip(f"this processor has no kernel of {width} lanes")
    return width


def official_input(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def rows_of(data: bytes) -> list[bytes]:
    return [data[start : start + ROW] for start in range(0, len(data), ROW)]


def values_of(data: bytes, value: Callable[[Buffer, int], bytes] = subtree_value) -> list[bytes]:
    return [value(row, index) for index, row in enumerate(rows_of(data))]


def test_numpy_gives_the_official_vectors() -> None:
    for case in VECTORS["cases"]:
        data = official_input(case["input_len"])
        only_chunk = len(data) <= CHUNK
        values = blake3_numpy.chunk_values(data, 0, blake3_numpy.ROOT if only_chunk else 0)
        hashed = blake3_numpy.encode_value(blake3_numpy.merge_values(values, blake3_numpy.ROOT))
        assert hashed.hex() == case["hash"][:64], len(data)


@pytest.mark.parametrize("counter", [0, 1, 2**32 - 1, 2**32, 2**42, 2**54 - 1, 2**58 - 1])
def test_numpy_counts_chunks_as_the_package_counts_blocks_of_output(counter: int) -> None:
    """The counter of a root's compression is the block of the output, so an output far on checks both its halves."""
    value = blake3_numpy.chunk_values(b"one block", counter, blake3_numpy.ROOT)
    assert blake3_numpy.encode_value(value) == blake3(b"one block").digest(32, seek=BLOCK * counter)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
def test_values_of_rows_give_the_address(rows: int, lanes: int, compiled: ModuleType) -> None:
    for delta in (-CHUNK, -BLOCK, -1, 0, 1, BLOCK, CHUNK, CHUNK + 1):
        data = DATA[: rows * ROW + delta]
        if len(data) > ROW:
            values = values_of(data, lambda row, index: compiled.subtree_value(row, index, lanes))
            assert compiled.root_value(b"".join(values), lanes) == hash_blob(data).raw, len(data)


def test_numpy_values_of_rows_give_the_address() -> None:
    whole = values_of(DATA[: 3 * ROW], blake3_numpy.subtree_value)
    for rows in (1, 2, 3):
        for delta in (-CHUNK, -1, 0, 1, CHUNK + 1):
            data = DATA[: rows * ROW + delta]
            if len(data) > ROW:
                last = len(data) // ROW if len(data) % ROW else len(data) // ROW - 1
                values = [*whole[:last], blake3_numpy.subtree_value(data[last * ROW :], last)]
                assert blake3_numpy.root_value(b"".join(values)) == hash_blob(data).raw, len(data)


def test_public_functions_give_the_address() -> None:
    for size in (ROW + 1, 2 * ROW, 5 * ROW - 1, 8 * ROW + 1):
        assert root_address(values_of(DATA[:size])) == hash_blob(DATA[:size])


def test_values_are_those_of_the_docstring() -> None:
    values = [subtree_value(bytes(ROW), index) for index in (0, 1)]
    for text in (*(value.hex() for value in values), str(root_address(values))):
        assert text in str(subtree.__doc__)


# 8 and 16 chunks are where the kernels of that many lanes start; the top of a row is the deepest tree
SIZES = sorted(
    {1, 2, 63, 64, 65, 127, 128, 129, ROW - CHUNK - 1, ROW - 1, ROW}
    | {count * CHUNK + delta for count in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33) for delta in (-65, -1, 0, 1, 65)}
)


def test_every_kernel_gives_the_numpy_values(compiled: ModuleType) -> None:
    for number, size in enumerate(SIZES):
        row = memoryview(DATA)[number : number + size]  # not aligned, most of them
        index = INDEXES[number % len(INDEXES)]
        expected = blake3_numpy.subtree_value(row, index)
        for lanes in (0, *compiled.LANES):
            assert compiled.subtree_value(row, index, lanes) == expected, (size, index, lanes)


@pytest.mark.parametrize("index", INDEXES)
def test_every_kernel_counts_as_numpy(index: int, compiled: ModuleType) -> None:
    row = DATA[: 33 * CHUNK + 1]
    expected = blake3_numpy.subtree_value(row, index)
    for lanes in (0, *compiled.LANES):
        assert compiled.subtree_value(row, index, lanes) == expected, lanes


@given(st.integers(0, 20 * CHUNK), st.integers(1, 20 * CHUNK), st.integers(0, 2**44 - 1))
def test_compiled_and_numpy_agree(compiled: ModuleType, start: int, size: int, index: int) -> None:
    row = memoryview(DATA)[start : start + size]
    assert compiled.subtree_value(row, index) == blake3_numpy.subtree_value(row, index)


def merge_recursively(values: Sequence[bytes], flags: int = blake3_numpy.ROOT) -> bytes:
    """The tree as the paper says it: the left subtree has the largest power of two below the number of values."""
    if len(values) == 1:
        return values[0]
    left = 1 << (len(values) - 1).bit_length() - 1
    pair = merge_recursively(values[:left], 0) + merge_recursively(values[left:], 0)
    words = np.frombuffer(pair, "<u4").reshape(2, 8).T.astype(np.uint32)
    return blake3_numpy.encode_value(blake3_numpy.merge_values(words, flags))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47])
def test_root_is_over_a_left_balanced_tree(count: int, compiled: ModuleType) -> None:
    values = [DATA[32 * i : 32 * i + 32] for i in range(count)]
    expected = merge_recursively(values)
    assert root_address(values).raw == blake3_numpy.root_value(b"".join(values)) == expected
    for lanes in (0, *compiled.LANES):
        assert compiled.root_value(b"".join(values), lanes) == expected


def test_root_of_more_values_than_one_call_works_on(compiled: ModuleType) -> None:
    values = DATA[: 32 * 10_001]
    assert blake3_numpy.root_value(values) == compiled.root_value(values)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [rows[1], rows[0], rows[2]],
        lambda rows: [rows[0], bytes([rows[1][0] ^ 1]) + rows[1][1:], rows[2]],
        lambda rows: [rows[0], rows[1], rows[2] + b"\0"],
        lambda rows: [rows[0], rows[1], rows[2][:-1]],
        lambda rows: rows[:2],
        lambda rows: [rows[0], rows[1], rows[1], rows[2]],
    ],
    ids=["swapped", "flipped bit", "a byte more", "a byte less", "a row less", "a row more"],
)
def test_root_shows_changed_rows(change: Callable[[list[bytes]], list[bytes]]) -> None:
    data = DATA[: 2 * ROW + 5000]
    changed = b"".join(change(rows_of(data)))
    assert root_address(values_of(changed)) == hash_blob(changed) != hash_blob(data)


def test_root_shows_a_row_at_another_place() -> None:
    data = DATA[: 2 * ROW + 5000]
    values = values_of(data)
    address = hash_blob(data)
    assert root_address(values) == address
    for place in range(3):
        for index in range(4):
            moved = [*values[:place], subtree_value(rows_of(data)[place], index), *values[place + 1 :]]
            assert (root_address(moved) == address) is (index == place)
    for order in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)):
        assert root_address([values[i] for i in order]) != address


@pytest.mark.parametrize("bit", [0, 7, 8 * 1000, 8 * (ROW // 2), 8 * ROW - 1])
def test_value_shows_a_flipped_bit(bit: int) -> None:
    row = bytearray(DATA[:ROW])
    row[bit // 8] ^= 1 << bit % 8
    assert subtree_value(row, 3) != subtree_value(DATA[:ROW], 3)


def test_value_depends_on_the_index() -> None:
    assert len({subtree_value(b"x", index) for index in INDEXES}) == len(INDEXES)


def test_value_is_never_the_address_of_the_row() -> None:
    assert subtree_value(b"hello", 0) != hash_blob(b"hello").raw
    assert subtree_value(DATA[:ROW], 0) != hash_blob(DATA[:ROW]).raw


@pytest.mark.parametrize(
    ("row", "index", "message"),
    [
        (b"", 0, "1 to 1048576 bytes, not 0"),
        (bytes(ROW + 1), 0, "not 1048577"),
        (memoryview(bytes(ROW + 4)).cast("I"), 0, "not 1048580"),
        (b"x", -1, "0 to 2^44 - 1, not -1"),
        (b"x", 2**44, "not 17592186044416"),
        (b"x", 2**64, "not 18446744073709551616"),
    ],
)
def test_subtree_value_refuses(row: Buffer, index: int, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("^", r"\^")):
        subtree_value(row, index)


@pytest.mark.parametrize("values", [[], [bytes(32)], [bytes(32), bytes(31)], [bytes(33), bytes(31)], [b"", b""]])
def test_root_address_refuses(values: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"two or more rows|bytes, not 32"):
        root_address(values)


@pytest.mark.parametrize(
    "args", [(b"", 0), (bytes(ROW + 1), 0), (b"x", -1), (b"x", 2**44), (b"x", 0, 2), (b"x", 0, -1)]
)
def test_compiled_refuses_and_lets_go_of_the_row(args: tuple[bytes, int], compiled: ModuleType) -> None:
    row = bytearray(args[0])
    with pytest.raises(ValueError, match=r"row|lanes"):
        compiled.subtree_value(row, *args[1:])
    row.append(0)  # BufferError, were the buffer still held
    assert compiled.subtree_value(row[:ROW], 0)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 63, 65])
def test_compiled_root_refuses(size: int, compiled: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"two or more values"):
        compiled.root_value(bytes(size))


def test_compiled_takes_bytes_alone(compiled: ModuleType) -> None:
    for row in ("text", 5, None, memoryview(bytes(8))[::2]):
        with pytest.raises((TypeError, BufferError)):
            compiled.subtree_value(row, 0)
    with pytest.raises(OverflowError):
        compiled.subtree_value(b"x", 2**64)


def test_numpy_takes_over_where_the_extension_is_missing() -> None:
    program = (
        "import sys; sys.modules['samebits.cas._subtree'] = None\n"
        "from samebits.cas import subtree\n"
        "values = [subtree.subtree_value(bytes(1 << 20), 0), subtree.subtree_value(b'x', 1)]\n"
        "print(subtree.COMPILED, subtree.root_address(values))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(hash_blob(bytes(ROW) + b"x"))]
