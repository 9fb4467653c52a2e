"""Tensors: any array in, the same bits out."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from samebits.cas.digest import hash_blob
from samebits.cas.dtype import DTYPES, numpy_dtype
from samebits.cas.errors import DamagedObjectError, NodeError, ObjectKindError, ObjectNotFoundError
from samebits.cas.node import Node
from samebits.cas.store import Store
from samebits.cas.tensor import get_tensor, put_tensor, tensor_address, tensor_info, tensor_node

BLOB = hash_blob(b"")


def make_array(dtype: str, shape: tuple[int, ...], seed: int = 1) -> NDArray[Any]:
    raw = np.random.default_rng(seed).integers(0, 256, (*shape, numpy_dtype(dtype).itemsize), np.uint8)
    if dtype == "bool":
        raw &= 1
    return raw.view(numpy_dtype(dtype)).reshape(shape)


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 5), (700, 800)])
def test_get_tensor_gives_what_put_tensor_got(store: Store, dtype: str, shape: tuple[int, ...]) -> None:
    array = make_array(dtype, shape)
    digest = put_tensor(store, array)
    found = get_tensor(store, digest)
    assert same_bits(found, array)
    assert not found.flags.writeable
    assert digest == tensor_address(array)
    info = tensor_info(store.get_node(digest))
    assert (info.dtype, info.shape, info.size_bytes) == (dtype, shape, array.nbytes)
    assert store.get_blob(info.blob) == array.tobytes()


def test_put_tensor_normalizes_order_and_endianness(store: Store) -> None:
    array = make_array("f32", (4, 6))
    address = tensor_address(array)
    assert tensor_address(array.astype(">f4")) == address
    assert tensor_address(np.asfortranarray(array)) == address
    assert tensor_address(array.T) != address
    assert tensor_address(array.T.copy().T) == address
    assert same_bits(get_tensor(store, put_tensor(store, array[::2, ::-1])), array[::2, ::-1].copy())


def test_tensor_address_tells_dtype_and_shape_apart() -> None:
    arrays = [
        np.zeros(4, np.float32),
        np.zeros(4, np.int32),
        np.zeros((2, 2), np.float32),
        np.zeros((1, 4), np.float32),
    ]
    assert len({tensor_address(array) for array in arrays}) == len(arrays)
    assert tensor_address(np.array([0.0])) != tensor_address(np.array([-0.0]))


def test_put_tensor_takes_any_true_byte_of_a_bool_for_1(store: Store) -> None:
    array = np.array([0, 1, 2, 255], np.uint8).view(np.bool_)
    assert get_tensor(store, put_tensor(store, array)).view(np.uint8).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    "array", [np.zeros(2, np.complex64), np.array(["a"]), np.array([None]), np.zeros(1, ml_dtypes.float8_e5m2)]
)
def test_tensor_node_refuses_other_elements(array: NDArray[Any]) -> None:
    with pytest.raises(TypeError, match="not supported"):
        tensor_node(array)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("tree", {}, "not a tensor"),
        ("tensor", {"more": 1}, "fields"),
        ("tensor", {"dtype": "f33"}, "unknown dtype"),
        ("tensor", {"dtype": 32}, "dtype"),
        ("tensor", {"shape": 4}, "shape"),
        ("tensor", {"shape": [-1]}, "size -1"),
        ("tensor", {"shape": [True]}, "size True"),
        ("tensor", {"shape": ["4"]}, "size '4'"),
        ("tensor", {"shape": [1] * 65}, "at most 64"),
        ("tensor", {"shape": [1 << 62, 2]}, "beyond"),
        ("tensor", {"shape": [0, 1 << 62, 1 << 62]}, "beyond"),
        ("tensor", {"blob": BLOB.raw}, "blob"),
    ],
)
def test_tensor_info_names_the_wrong_field(kind: str, change: dict[str, Any], said: str) -> None:
    body: dict[str, Any] = {"dtype": "f32", "shape": [0], "blob": BLOB}
    with pytest.raises(NodeError, match=said):
        tensor_info(Node(kind, body | change))


@given(st.sampled_from(DTYPES), st.lists(st.integers(0, 1 << 20), max_size=4))
def test_tensor_info_computes_the_size_exactly(dtype: str, shape: list[int]) -> None:
    size = numpy_dtype(dtype).itemsize
    for length in shape:
        size *= length
    body: dict[str, Any] = {"dtype": dtype, "shape": shape, "blob": BLOB}
    try:
        assert tensor_info(Node("tensor", body)).size_bytes == size
    except NodeError:
        assert size == 0 or size >= 1 << 63


@pytest.mark.parametrize("shape", [[3], [], [5], [1 << 60], [0]])
def test_get_tensor_refuses_a_blob_of_another_size(store: Store, shape: list[Any]) -> None:
    digest = store.put_node(Node("tensor", {"dtype": "f32", "shape": shape, "blob": store.put_blob(bytes(16))}))
    with pytest.raises(NodeError, match="its blob 16"):
        get_tensor(store, digest)


def test_get_tensor_refuses_a_bool_that_is_neither_0_nor_1(store: Store) -> None:
    digest = store.put_node(Node("tensor", {"dtype": "bool", "shape": [2], "blob": store.put_blob(b"\1\2")}))
    with pytest.raises(NodeError, match="byte 0 or 1"):
        get_tensor(store, digest)


def test_get_tensor_refuses_what_is_no_tensor(store: Store) -> None:
    node = store.put_node(Node("note", {}))
    with pytest.raises(NodeError, match="not a tensor"):
        get_tensor(store, node)
    with pytest.raises(ObjectKindError):
        get_tensor(store, store.put_blob(b""))
    with pytest.raises(ObjectKindError):
        get_tensor(
            store, store.put_node(Node("tensor", {"dtype": "u8", "shape": [store.stat(node).size_bytes], "blob": node}))
        )
    with pytest.raises(ObjectNotFoundError):
        get_tensor(store, store.put_node(Node("tensor", {"dtype": "u8", "shape": [1], "blob": hash_blob(b"gone")})))


def test_get_tensor_verifies_its_bytes(store: Store) -> None:
    array = make_array("u8", (3 << 20,))
    digest = put_tensor(store, array)
    key = hash_blob(array[: 1 << 20].tobytes()).raw
    store.environment.write(lambda transaction: transaction.put("rows", key, bytes(1 << 20)))
    with pytest.raises(DamagedObjectError):
        get_tensor(store, digest)
