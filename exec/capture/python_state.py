"""Python values that a step can see: what changes in them from step to step is not in the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

import torch

_PLAIN: Final = (int, float, complex, bool, str, bytes, type(None))
_MAX_VALUES: Final = 20_000
_MAX_DEPTH: Final = 6
_OWN_TO_TORCH: Final = ("_step_count", "_opt_called", "_grad_outputs")


def snapshot(step: Callable[..., Any], model: torch.nn.Module) -> dict[str, Any]:
    """Return the plain values (numbers, texts, None) reachable from a function's closure and globals and a model."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    pending: list[tuple[str, Any, int]] = [("model", model, 0), ("step", step, 0)]
    while pending and len(found) < _MAX_VALUES:
        path, value, depth = pending.pop()
        if isinstance(value, _PLAIN):
            found[path] = value
            continue
        if id(value) in seen or depth > _MAX_DEPTH or isinstance(value, ModuleType | type | torch.Tensor):
            continue
        seen.add(id(value))
        pending.extend((f"{path}{name}", item, depth + 1) for name, item in _parts(value))
    return found


def first_change(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """Say which value changed, as ``step.counter[0] from 1 to 2``; values that are new don't count."""
    for path, value in before.items():
        if path in after and type(after[path]) is type(value) and after[path] == value:
            continue
        if path in after and not (value != value and after[path] != after[path]):  # NaN stays NaN
            return f"{path} from {value!r} to {after[path]!r}"
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, MethodType):
        yield "", value.__func__
        yield ".self", value.__self__
    elif isinstance(value, FunctionType):
        yield from _closure(value)
    elif isinstance(value, list | tuple):
        yield from ((f"[{i}]", item) for i, item in enumerate(value[:200]))
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in list(value.items())[:200])
    elif isinstance(value, torch.optim.Optimizer):
        return  # its options are compared apart
    elif hasattr(value, "__dict__") and not type(value).__module__.startswith(("torch._", "numpy")):
        yield from ((f".{name}", item) for name, item in vars(value).items() if name not in _OWN_TO_TORCH)


def _closure(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    if not str(function.__module__).startswith(("torch.", "numpy")):
        names = (name for name in function.__code__.co_names if name in function.__globals__)
        yield from ((f".{name}", function.__globals__[name]) for name in names)
