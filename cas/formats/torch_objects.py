"""What PyTorch's pickles say about tensors and storages: symbols in, named views of storages out.

A tensor is ``Call(torch._utils._rebuild_tensor_v2, (Persistent(("storage", torch.FloatStorage, "0", "cpu", 12)),
offset, shape, strides, ...))``. Source: torch/_utils.py, torch/serialization.py, torch/_weights_only_unpickler.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

from samebits.cas.dtype import numpy_dtype
from samebits.cas.errors import FileFormatError
from samebits.cas.formats.pickle_reader import Call, Global, Mapping, Persistent, Pickle
from samebits.cas.formats.plan import shown
from samebits.cas.formats.torch_names import (
    COUNTER,
    DTYPES,
    ORDERED_DICT,
    PARAMETER,
    REBUILD_FROM_TYPE,
    SIZE,
    STORAGES,
    TENSOR,
    UNTYPED_STORAGE,
)
from samebits.cas.tensor import MAX_RANK

ROOT_NAME: Final = "tensor"  # of a tensor that is the whole object
MAX_DEPTH: Final = 64
MAX_VISITS: Final = 4_000_000  # values in containers; a container that is referred to twice is visited twice
_CONTAINER_COST: Final = 8  # visits that a container or a tensor counts for
MAX_NAMES_SIZE_CHARS: Final = 32 << 20  # of all names together
MAX_NAME_CHARS: Final = 4096  # what has a longer name has none
_MAX_NUMBER: Final = 1 << 63
_DICTS: Final = (ORDERED_DICT, COUNTER)
_CONTAINERS: Final = (Call, Mapping, list, tuple)
_PLAIN_TENSORS: Final = (TENSOR, PARAMETER)


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage that a pickle refers to."""

    key: str
    dtype: str | None  # ours; None where we have none or the storage is untyped
    item_size_bytes: int
    count: int  # elements
    first: int = 0  # the element at which it begins within the storage of that key, for views in old files


@dataclass(frozen=True, slots=True)
class NamedView:
    """A contiguous tensor of a supported type: bytes [start, stop) of the storage `key`."""

    name: str
    key: str
    start: int
    stop: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class _Budget:
    visits: int
    chars: int


def read_storages(pickle: Pickle, path: Path) -> dict[str, Storage]:
    """Return every storage that the pickle refers to, by key; raises FileFormatError where it contradicts itself."""
    found: dict[str, Storage] = {}
    for persistent in pickle.persistents:
        storage = read_storage(persistent, path)
        known = found.setdefault(storage.key, storage)
        if _size_bytes(known) != _size_bytes(storage):
            sizes = f"{_size_bytes(known)} and {_size_bytes(storage)} bytes"
            raise FileFormatError(path, f"its pickle gives storage {shown(storage.key)} two sizes, {sizes}")
    return found


def read_storage(persistent: Persistent, path: Path) -> Storage:
    """Return the storage of a persistent id: ("storage", type, key, location, count[, view])."""
    match persistent.identity:
        case ("storage", Global() as kind, str() as key, str(), int() as count, *rest) if _is_number(count):
            pass
        case _:
            raise FileFormatError(path, "its pickle refers to something outside that is not a storage")
    dtype, item_size_bytes = STORAGES.get(kind.name, (None, 1))
    if kind.name not in STORAGES and kind != UNTYPED_STORAGE:
        raise FileFormatError(path, f"its pickle has a storage of type {shown(kind.name)}")
    match rest:
        case [] | [None]:
            first = 0
        case [(str(), int() as first, int())] if _is_number(first):
            pass
        case _:
            raise FileFormatError(path, f"its pickle has a malformed view of storage {shown(key)}")
    return Storage(key, dtype, item_size_bytes, count, first)


def named_views(value: object, path: Path) -> list[NamedView]:
    """Return the tensors in an object that have a name and contiguous bytes.

    A name is the keys and indices on the way joined by "/": `layer.weight`, `optimizer/state/0/exp_avg`. A name that
    two different tensors have names neither. Raises FileFormatError for a tensor that does not fit its storage.
    """
    found: dict[str, NamedView | None] = {}
    for name, call in _named_tensors(value, path):
        view = _read_view(name, call, path)
        found[name] = view if found.get(name, view) == view else None
    return [view for view in found.values() if view is not None]


def _named_tensors(root: object, path: Path) -> Iterable[tuple[str, Call]]:
    """Yield every Call in nested dicts, lists and tuples with its name; no recursion, cycles end."""
    budget = _Budget(MAX_VISITS, MAX_NAMES_SIZE_CHARS)
    pending: list[tuple[str, object, tuple[int, ...]]] = [("", root, ())]  # name, value, ids of what is around it
    while pending:
        name, value, around = pending.pop()
        budget.visits -= _CONTAINER_COST
        if isinstance(value, Call) and value.function not in _DICTS:
            budget.chars -= len(name)
            yield name if around else ROOT_NAME, value
        elif id(value) not in around:
            children = _children(value)
            budget.visits -= len(children)
            if children and len(around) >= MAX_DEPTH:
                raise FileFormatError(path, f"its pickle is nested deeper than {MAX_DEPTH}")
            inside = (*around, id(value))
            for key, child in reversed(children) if budget.visits >= 0 else ():
                if isinstance(child, _CONTAINERS):
                    longer = _longer_name(name, key, bool(around))
                    if longer is not None:
                        pending.append((longer, child, inside))
        if budget.visits < 0 or budget.chars < 0:
            raise FileFormatError(path, "its pickle holds too many tensors, or one container too often")


def _longer_name(name: str, key: object, is_inside: bool) -> str | None:
    """Return the name of what a container has under a key; None for one that is too long, or no text or number."""
    if isinstance(key, bool) or not isinstance(key, str | int):
        return None
    text = str(key)
    if len(name) + len(text) > MAX_NAME_CHARS:
        return None
    return f"{name}/{text}" if is_inside else text


def _children(value: object) -> list[tuple[object, object]]:
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, Call):
        return [*_argument_pairs(value), *(value.pairs or ())]
    return value.pairs if isinstance(value, Mapping) else []


def _argument_pairs(call: Call) -> list[tuple[object, object]]:
    """Return the pairs of an OrderedDict as Python 2 pickled it: OrderedDict([[key, value], ...])."""
    match call.arguments:
        case ([*items],):
            return [(item[0], item[1]) for item in items if isinstance(item, list | tuple) and len(item) == 2]
    return []


def _read_view(name: str, call: Call, path: Path) -> NamedView | None:
    """Return the view that a call would rebuild, or None for one whose elements do not lie in C order in the file."""
    tensor = _plain_tensor(call)
    if tensor is None:
        return None
    function, arguments = tensor.function.name, tensor.arguments
    match arguments:
        case (Persistent() as persistent, int() as offset, sizes, strides, *rest):
            storage, shape, steps = read_storage(persistent, path), _numbers(sizes), _numbers(strides)
        case _:
            raise FileFormatError(path, f"tensor {shown(name)} is not {{storage, offset, shape, strides}}")
    if shape is None or steps is None or len(steps) != len(shape) or not _is_number(offset):
        raise FileFormatError(path, f"tensor {shown(name)} has a size or an offset that is not one")
    dtype, metadata = storage.dtype, rest[2:3]
    if function == "_rebuild_tensor_v3":
        dtype, metadata = _dtype(rest[2] if len(rest) > 2 else None), rest[3:4]
    if dtype is None or not _is_contiguous(shape, steps) or _changes_values(metadata):
        return None
    item_size_bytes = numpy_dtype(dtype).itemsize
    start = offset * item_size_bytes + storage.first * storage.item_size_bytes
    stop = start + prod(shape) * item_size_bytes
    if not prod(shape):
        return NamedView(name, storage.key, 0, 0, dtype, shape)
    if stop > _size_bytes(storage):
        raise FileFormatError(
            path, f"tensor {shown(name)} ends at {stop}, its storage has {_size_bytes(storage)} bytes"
        )
    return NamedView(name, storage.key, start, stop, dtype, shape)


def _plain_tensor(call: Call) -> Call | None:
    """Return the call that rebuilds the elements, inside of those that make a parameter of it; None for all others."""
    for _ in range(4):
        match call:
            case Call(Global("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3")):
                return call
            case Call(
                Global("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"), (Call() as data, *_)
            ):
                call = data
            case Call(Global("torch.nn.parameter", "Parameter"), (Call() as data, *_)):
                call = data
            case Call(function, (Global() as inner, Global() as kind, tuple() as arguments, *_)):
                if function != REBUILD_FROM_TYPE or kind not in _PLAIN_TENSORS:
                    return None
                call = Call(inner, arguments)
            case _:
                return None
    return None


def _numbers(value: object) -> tuple[int, ...] | None:
    """Return a tuple of sizes (or the torch.Size of one), or None for anything else."""
    if isinstance(value, Call) and value.function == SIZE and len(value.arguments) == 1:
        value = value.arguments[0]
    if not isinstance(value, tuple) or len(value) > MAX_RANK:
        return None
    numbers = tuple(number for number in value if isinstance(number, int) and _is_number(number))
    return numbers if len(numbers) == len(value) else None


def _is_number(value: int) -> bool:
    return not isinstance(value, bool) and 0 <= value < _MAX_NUMBER


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    step = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size == 0:
            return True
        if size != 1 and stride != step:
            return 0 in shape
        step *= size
    return True


def _changes_values(metadata: list[object]) -> bool:
    """Return whether a tensor's elements are not those of its storage (a lazy negation or conjugate)."""
    return any(not isinstance(value, Mapping) or bool(value.pairs) for value in metadata if value is not None)


def _dtype(value: object) -> str | None:
    return DTYPES.get(value.name) if isinstance(value, Global) and value.module == "torch" else None


def _size_bytes(storage: Storage) -> int:
    return storage.count * storage.item_size_bytes
