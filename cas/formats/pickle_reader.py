"""Read a pickle as inert data: nothing is imported, called or built.

Pickle is a stack machine (Python's pickletools.py describes every opcode). This one knows the binary opcodes of the
protocols 2 to 5, as far as checkpoints contain them. A class or a function stays a name (Global) and must be on the
caller's list of allowed ones; what a pickle would call stays a Call. Example: that of ``OrderedDict(a=1)`` reads as
``Call(Global("collections", "OrderedDict"), (), pairs=[("a", 1)])``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, NoReturn

from samebits.cas.formats.bounded_reader import BoundedReader
from samebits.cas.formats.plan import shown

MAX_PICKLE_SIZE_BYTES: Final = 100_000_000
MAX_OPERATIONS: Final = 4_000_000  # bounds time and memory: an operation makes at most one small object
MAX_PROTOCOL: Final = 5
_MAX_NAME_BYTES: Final = 1000  # of a module or a class
_MAX_INTEGER_BYTES: Final = 64  # a longer one is kept as its bytes
_PYTHON_2_MODULES: Final = {"__builtin__": "builtins"}


@dataclass(frozen=True, slots=True)
class Global:
    """A class or a function by name; never imported."""

    module: str
    name: str


@dataclass(slots=True, eq=False)
class Mapping:
    """A dict: its pairs in the order in which they were set. Keys are not hashed, so one may occur twice."""

    pairs: list[tuple[object, object]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Call:
    """What the pickle asks to be called or made; nobody does."""

    function: Global
    arguments: tuple[object, ...]
    pairs: list[tuple[object, object]] | None = None  # items set later, as for an OrderedDict
    state: object = None  # attributes set later


@dataclass(frozen=True, slots=True, eq=False)
class Persistent:
    """A reference to something outside of the pickle, such as a storage."""

    identity: object


@dataclass(frozen=True, slots=True, eq=False)
class Pickle:
    """What a pickle holds. Values are None, bool, int, float, str, bytes, list, tuple and the classes above."""

    value: object
    persistents: tuple[Persistent, ...]


@dataclass(slots=True, eq=False)
class _Machine:
    reader: BoundedReader
    allowed: Collection[Global]
    stack: list[object] = field(default_factory=list)
    outer: list[list[object]] = field(default_factory=list)  # the stacks below each mark
    memo: dict[int, object] = field(default_factory=dict)
    persistents: list[Persistent] = field(default_factory=list)

    def fail(self, reason: str) -> NoReturn:
        raise self.reader.error(reason)

    def pop(self) -> object:
        if not self.stack:
            self.fail("takes a value that is not on its stack")
        return self.stack.pop()

    def top(self) -> object:
        if not self.stack:
            self.fail("takes a value that is not on its stack")
        return self.stack[-1]

    def pop_mark(self) -> list[object]:
        if not self.outer:
            self.fail("takes a mark that is not on its stack")
        items, self.stack = self.stack, self.outer.pop()
        return items


def read_pickle(reader: BoundedReader, allowed: Collection[Global]) -> Pickle:
    """Read one pickle, up to its STOP; raises FileFormatError, by name for a class or function not in `allowed`."""
    machine = _Machine(reader, allowed)
    start = reader.position
    for _ in range(MAX_OPERATIONS):
        code = reader.read(1)
        if code == b".":
            return Pickle(machine.pop(), tuple(machine.persistents))
        operation = _OPERATIONS.get(code)
        if operation is None:
            machine.fail(f"has the opcode {code!r} at {reader.position - 1}, which checkpoints do not use")
        operation(machine)
        if reader.position - start > MAX_PICKLE_SIZE_BYTES:
            machine.fail(f"has more than {MAX_PICKLE_SIZE_BYTES} bytes")
    return machine.fail(f"has more than {MAX_OPERATIONS} operations")


def _protocol(machine: _Machine) -> None:
    version = machine.reader.read_unsigned(1)
    if version > MAX_PROTOCOL:
        machine.fail(f"has the protocol {version}, the newest known is {MAX_PROTOCOL}")


def _read_bytes(machine: _Machine, length_bytes: int) -> bytes:
    size_bytes = machine.reader.read_unsigned(length_bytes)
    if size_bytes > MAX_PICKLE_SIZE_BYTES:
        machine.fail(f"has a text of {size_bytes} bytes, the most is {MAX_PICKLE_SIZE_BYTES}")
    return machine.reader.read(size_bytes)


def _text(length_bytes: int) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        try:
            machine.stack.append(_read_bytes(machine, length_bytes).decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            machine.fail("has a text that is not UTF-8")

    return push


def _bytes(length_bytes: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(_read_bytes(machine, length_bytes))


def _python_2_text(length_bytes: int) -> Callable[[_Machine], None]:
    """Python 2's str, text or bytes."""

    def push(machine: _Machine) -> None:
        data = _read_bytes(machine, length_bytes)
        try:
            machine.stack.append(data.decode())
        except UnicodeDecodeError:
            machine.stack.append(data)

    return push


def _unsigned(size_bytes: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(machine.reader.read_unsigned(size_bytes))


def _signed(length_bytes: int) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        data = _read_bytes(machine, length_bytes)
        machine.stack.append(int.from_bytes(data, "little", signed=True) if len(data) <= _MAX_INTEGER_BYTES else data)

    return push


def _signed_4(machine: _Machine) -> None:
    machine.stack.append(int.from_bytes(machine.reader.read(4), "little", signed=True))


def _float(machine: _Machine) -> None:
    machine.stack.append(struct.unpack(">d", machine.reader.read(8))[0])


def _frame(machine: _Machine) -> None:
    size_bytes = machine.reader.read_unsigned(8)
    if size_bytes > machine.reader.stop - machine.reader.position:
        machine.fail(f"has a frame of {size_bytes} bytes, which is more than there is")


def _mark(machine: _Machine) -> None:
    machine.outer.append(machine.stack)
    machine.stack = []


def _tuple(count: int) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

    return push


def _tuple_of_mark(machine: _Machine) -> None:
    items = tuple(machine.pop_mark())
    machine.stack.append(items)


def _list_of_mark(machine: _Machine) -> None:
    items = machine.pop_mark()
    machine.stack.append(items)


def _dict_of_mark(machine: _Machine) -> None:
    pairs = _pairs(machine, machine.pop_mark())
    machine.stack.append(Mapping(pairs))


def _frozenset_of_mark(machine: _Machine) -> None:
    items = tuple(machine.pop_mark())
    machine.stack.append(Call(Global("builtins", "frozenset"), items))


def _pairs(machine: _Machine, items: list[object]) -> list[tuple[object, object]]:
    if len(items) % 2:
        machine.fail("has a dict with a key without a value")
    return list(zip(items[::2], items[1::2], strict=True))


def _append(machine: _Machine) -> None:
    _extend(machine, [machine.pop()])


def _appends(machine: _Machine) -> None:
    _extend(machine, machine.pop_mark())


def _extend(machine: _Machine, items: list[object]) -> None:
    target = machine.top()
    if not isinstance(target, list):
        machine.fail("appends to something that is not a list")
    target.extend(items)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _set_pairs(machine, [(key, value)])


def _set_items(machine: _Machine) -> None:
    _set_pairs(machine, _pairs(machine, machine.pop_mark()))


def _set_pairs(machine: _Machine, pairs: list[tuple[object, object]]) -> None:
    target = machine.top()
    if isinstance(target, Call):
        if target.pairs is None:
            target.pairs = []
        target.pairs.extend(pairs)
    elif isinstance(target, Mapping):
        target.pairs.extend(pairs)
    else:
        machine.fail("sets an item of something that is not a dict")


def _add_items(machine: _Machine) -> None:
    machine.pop_mark()
    target = machine.top()
    if not isinstance(target, Call) or target.function != Global("builtins", "set"):
        machine.fail("adds items to something that is not a set")
    # The elements are dropped: they have no order, so nothing in them has a name.


def _global(machine: _Machine) -> None:
    names = [machine.reader.read_line(_MAX_NAME_BYTES) for _ in range(2)]
    _push_global(machine, *(name.decode("utf-8", "backslashreplace") for name in names))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        machine.fail("has a class whose name is not text")
    _push_global(machine, module, name)


def _push_global(machine: _Machine, module: str, name: str) -> None:
    found = Global(_PYTHON_2_MODULES.get(module, module), name)
    if found not in machine.allowed:
        machine.fail(f"needs {shown(f'{module}.{name}')}, which is no part of plain weights; it was not run")
    machine.stack.append(found)


def _instance(machine: _Machine) -> None:
    _global(machine)  # protocol 0, only here so that what it needs is refused by name
    machine.fail("has the opcode INST, which checkpoints do not use")


def _reduce(machine: _Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    if not isinstance(function, Global) or not isinstance(arguments, tuple):
        machine.fail("calls something that is not a named function with a tuple of arguments")
    machine.stack.append(Call(function, arguments))


def _build(machine: _Machine) -> None:
    state = machine.pop()
    target = machine.top()
    if not isinstance(target, Call):
        machine.fail("sets the attributes of something that has none")
    target.state = state


def _persistent(machine: _Machine) -> None:
    found = Persistent(machine.pop())
    machine.persistents.append(found)
    machine.stack.append(found)


def _put(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.top()


def _get(machine: _Machine, index: int) -> None:
    if index not in machine.memo:
        machine.fail(f"refers to the value {index}, which it has not stored")
    machine.stack.append(machine.memo[index])


_OPERATIONS: Final[dict[bytes, Callable[[_Machine], None]]] = {
    b"\x80": _protocol,
    b"\x95": _frame,
    b"N": lambda machine: machine.stack.append(None),
    b"\x88": lambda machine: machine.stack.append(True),
    b"\x89": lambda machine: machine.stack.append(False),
    b"J": _signed_4,
    b"K": _unsigned(1),
    b"M": _unsigned(2),
    b"\x8a": _signed(1),
    b"\x8b": _signed(4),
    b"G": _float,
    b"X": _text(4),
    b"\x8c": _text(1),
    b"\x8d": _text(8),
    b"T": _python_2_text(4),
    b"U": _python_2_text(1),
    b"B": _bytes(4),
    b"C": _bytes(1),
    b"\x8e": _bytes(8),
    b"\x96": _bytes(8),
    b"]": lambda machine: machine.stack.append([]),
    b"}": lambda machine: machine.stack.append(Mapping()),
    b"\x8f": lambda machine: machine.stack.append(Call(Global("builtins", "set"), ())),
    b")": lambda machine: machine.stack.append(()),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"(": _mark,
    b"t": _tuple_of_mark,
    b"l": _list_of_mark,
    b"d": _dict_of_mark,
    b"\x91": _frozenset_of_mark,
    b"a": _append,
    b"e": _appends,
    b"s": _set_item,
    b"u": _set_items,
    b"\x90": _add_items,
    b"c": _global,
    b"\x93": _stack_global,
    b"i": _instance,
    b"R": _reduce,
    b"\x81": _reduce,  # NEWOBJ: a class and its arguments
    b"b": _build,
    b"Q": _persistent,
    b"0": lambda machine: _drop(machine.pop()),
    b"1": lambda machine: _drop(machine.pop_mark()),
    b"2": lambda machine: machine.stack.append(machine.top()),
    b"q": lambda machine: _put(machine, machine.reader.read_unsigned(1)),
    b"r": lambda machine: _put(machine, machine.reader.read_unsigned(4)),
    b"\x94": lambda machine: _put(machine, len(machine.memo)),
    b"h": lambda machine: _get(machine, machine.reader.read_unsigned(1)),
    b"j": lambda machine: _get(machine, machine.reader.read_unsigned(4)),
}


def _drop(_: object) -> None:
    """Take nothing from what was popped."""
