"""Where a program draws random numbers: module path, which call of it, and which draw within that call.

A site's text is ``net/block0#1/drop:0``: the modules that are being called, outermost first, each under its own name
and, from its second call within the same parent on, with the number of the call; then the number of the draw within the
innermost call. So reordering statements in other modules changes no site, and no two draws of a step share one.
Activation checkpointing calls a function again while gradients are computed: there the sites repeat, as they must.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils import checkpoint


@dataclass(slots=True)
class _Call:
    """A call that is going on: its path, and what it has called and drawn so far."""

    path: str
    counts: Counter[str] = field(default_factory=Counter)

    def copy(self) -> _Call:
        return _Call(self.path, Counter(self.counts))

    def enter(self, name: str) -> _Call:
        number = self.counts[name]
        self.counts[name] += 1
        return _Call(f"{self.path}{name}#{number}/" if number else f"{self.path}{name}/")


class Sites:
    """Names the sites of one step while it runs."""

    def __init__(self, model: torch.nn.Module | None) -> None:
        self._names = {} if model is None else {module: name or "model" for name, module in model.named_modules()}
        self._calls = [_Call("")]

    def next(self) -> str:
        """Return the text of the next site in the call that is going on."""
        call = self._calls[-1]
        number = call.counts[":"]
        call.counts[":"] += 1
        return f"{call.path.removesuffix('/')}:{number}"

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Follow the calls of modules and of checkpointed functions inside."""
        enter = register_module_forward_pre_hook(self._enter)
        leave = register_module_forward_hook(self._leave, always_call=True)
        with_reentry, without = checkpoint.CheckpointFunction, checkpoint._checkpoint_without_reentrant_generator
        checkpoint.CheckpointFunction = _Reentrant(self, with_reentry)  # type: ignore[misc,assignment]

        def generator(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            # Torch calls the function itself first, and this one only when gradients are computed.
            return without(self._repeating(function, first_is_apart=True), *args, **kwargs)

        checkpoint._checkpoint_without_reentrant_generator = generator  # type: ignore[assignment]
        try:
            yield
        finally:
            enter.remove()
            leave.remove()
            checkpoint.CheckpointFunction = with_reentry  # type: ignore[misc]
            checkpoint._checkpoint_without_reentrant_generator = without

    def _enter(self, module: torch.nn.Module, inputs: Any) -> None:
        name = self._names.get(module, type(module).__name__)
        parent = self._calls[-1].path
        self._calls.append(self._calls[-1].enter(_relative(name, parent)))

    def _leave(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if len(self._calls) > 1:
            self._calls.pop()

    def _repeating(self, function: Callable[..., Any], *, first_is_apart: bool = False) -> Callable[..., Any]:
        """Return a function whose calls have the sites that a call right now has; the first one takes them up."""
        started = [one.copy() for one in self._calls]
        taken = first_is_apart

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal taken
            if not taken:
                taken = True
                return function(*args, **kwargs)
            current, self._calls = self._calls, [one.copy() for one in started]
            try:
                return function(*args, **kwargs)
            finally:
                self._calls = current

        return call


class _Reentrant:
    """Stands for torch's CheckpointFunction."""

    def __init__(self, sites: Sites, original: Any) -> None:
        self._sites, self._original = sites, original

    def apply(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._original.apply(self._sites._repeating(function), *args)


def _relative(name: str, parent: str) -> str:
    """Return the part of a module's name that the path of its caller doesn't say already."""
    called = (part.partition("#")[0] for part in parent.split("/"))
    own = ".".join(part for part in called if part and part != "model")
    return name.removeprefix(own + ".") if own else name
