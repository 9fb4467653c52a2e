"""The C library under `kernels/source`: which files an operation needs, and the text of a program."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from samebits.kernels.codegen.program import Kernel
from samebits.kernels.errors import KernelError

SOURCE: Final = Path(__file__).parent.parent / "source"
PRELUDE: Final = "prelude.h"

# file -> files that it needs; in an order in which each follows what it needs
FILES: Final[dict[str, tuple[str, ...]]] = {
    "numbers.h": (),
    "arithmetic.h": ("numbers.h",),
    "functions/exponential.h": (),
    "functions/logarithm.h": ("functions/exponential.h",),
    "functions/roots.h": (),
    "functions/power.h": ("functions/exponential.h", "functions/logarithm.h"),
    "functions/error_function.h": ("functions/exponential.h",),
    "functions/trigonometric.h": (),
    "functions/inverse_trigonometric.h": (),
    "order.h": ("numbers.h",),
    "reduce.h": ("numbers.h", "order.h"),
    "random.h": (),
    "dot.h": ("numbers.h",),
    "tensor.h": (),  # CUDA only
}
_FUNCTION_FILES: Final = {
    "functions/exponential.h": ("exp", "exp2", "expm1", "logistic", "tanh", "sinh", "cosh"),
    "functions/logarithm.h": ("log", "log2", "log1p"),
    "functions/roots.h": ("sqrt", "rsqrt", "reciprocal"),
    "functions/power.h": ("pow",),
    "functions/error_function.h": ("erf", "erfc"),
    "functions/trigonometric.h": ("sin", "cos", "tan"),
    "functions/inverse_trigonometric.h": ("asin", "acos", "atan", "atan2"),
}
_FILE_OF: Final = {op: file for file, ops in _FUNCTION_FILES.items() for op in ops}


def library_of(ops: Iterable[str]) -> tuple[str, ...]:
    """Return the files that kernels of element-wise operations need."""
    return with_needed(["arithmetic.h", *(_FILE_OF[op] for op in ops if op in _FILE_OF)])


def with_needed(files: Iterable[str]) -> tuple[str, ...]:
    """Return files with all that they need, in the library's order; raises KernelError for one that isn't there."""
    wanted: set[str] = set()
    pending = list(files)
    while pending:
        file = pending.pop()
        if file not in FILES:
            raise KernelError(f"there is no kernel library file {file!r}")
        if file not in wanted:
            wanted.add(file)
            pending += FILES[file]
    return tuple(file for file in FILES if file in wanted)


def program_text(kernels: Iterable[Kernel]) -> str:
    """Return the whole source of some kernels: the prelude, the library files they need, their texts."""
    kernels = list(kernels)
    files = with_needed(file for kernel in kernels for file in kernel.library)
    return "\n".join([*(_read(file) for file in (PRELUDE, *files)), *(kernel.text for kernel in kernels)])


@cache
def _read(file: str) -> str:
    try:
        return (SOURCE / file).read_text(encoding="utf-8")
    except OSError as error:
        raise KernelError(f"the kernel library file {file} is missing") from error
