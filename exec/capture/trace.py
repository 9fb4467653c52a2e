"""Trace a function once, with fake tensors, into a flat graph of functional ATen ops."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, Final, TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from samebits.exec.capture.attention import own_attention
from samebits.exec.capture.draw_calls import Draws
from samebits.exec.capture.rewritten import REWRITTEN
from samebits.exec.capture.rules import SUPPORTED
from samebits.exec.capture.sites import Sites
from samebits.exec.capture.source import current_line, line_of
from samebits.exec.capture.subject import Tensors
from samebits.exec.capture.traced import Trace
from samebits.exec.capture.watch import CaptureWatch
from samebits.exec.errors import CaptureError
from samebits.exec.job import KEY

T = TypeVar("T")


# What a message or a type of torch's errors stands for, and what to do.
_KNOWN: Final = {
    "Mixing fake modes": "the step keeps a tensor from one call to the next; make it a buffer of the model",
    "DynamicOutputShapeException": "a shape depends on values (a boolean index, nonzero, unique, masked_select), which "
    "a static graph can't follow; use torch.where, or multiply by the mask",
    "dynamo-optimized": "the model or the step is compiled; pass it as it was before torch.compile",
}


def trace(
    body: Callable[[Tensors], Tensors],
    given: Tensors,
    *,
    read_only: Collection[str] = (),
    model: torch.nn.Module | None = None,
) -> Trace:
    """Trace `body`, which maps the tensors of `given` by name to results by name. In-place ops stay: see `functional`.

    `given` are real tensors or ones of the meta device; no values are computed. Inputs named in `read_only` may not be
    written. Random calls draw with the input `key`, at sites named by the modules of `model`. Raises CaptureError.
    """
    outputs: list[str] = []
    lines: dict[str, set[str]] = {}

    def run(*flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tensors = dict(zip(given, flat, strict=True))
        sites = Sites(model)
        watch = CaptureWatch(SUPPORTED, [tensors[name] for name in read_only], lines, Draws(tensors[KEY], sites))
        with own_attention(), sites.followed(), watch:
            result = body(tensors)
            watch.check()
        outputs[:] = list(result)
        return tuple(result.values())

    flat = _fake(tuple(given.values()))
    with _seeds_refused():
        module = guarded(lambda: make_fx(run, decomposition_table=dict(REWRITTEN), tracing_mode="fake")(*flat))
    return Trace(module, tuple(given), tuple(outputs), lines)


@contextlib.contextmanager
def _seeds_refused() -> Iterator[None]:
    """Refuse code that seeds torch's generator."""

    def refuse(*arguments: Any) -> Any:
        raise CaptureError("it seeds torch's random generator; random calls draw from the job's seed", current_line())

    own = torch.manual_seed, torch.seed
    torch.manual_seed = torch.seed = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.manual_seed, torch.seed = own


def new_key() -> torch.Tensor:
    """Return a tensor of the type of the input `key`."""
    return torch.zeros(2, dtype=torch.uint32)


def _fake(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Return tensors of the same types without values, all on the CPU."""
    mode = FakeTensorMode()

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta:
            with mode:
                return torch.empty(tensor.shape, dtype=tensor.dtype)
        return mode.from_tensor(tensor.detach())

    return tuple(fake(tensor) for tensor in tensors)


def functional(traced: Trace) -> Trace:
    """Return a trace without in-place ops and without dead nodes."""
    flat = tuple(node.meta["val"] for node in traced.module.graph.nodes if node.op == "placeholder")
    module = make_fx(functionalize(traced.module, remove="mutations"), tracing_mode="fake")(*flat)
    for node in reversed(list(module.graph.nodes)):
        if node.op == "call_function" and not node.users:
            module.graph.erase_node(node)
    return replace(traced, module=module)


def guarded(function: Callable[[], T]) -> T:
    """Call a function that runs the user's code; whatever it raises becomes a CaptureError with the user's line."""
    noisy = logging.getLogger("torch._subclasses.fake_tensor")  # prints the traceback of an error that we report
    level = noisy.level
    noisy.setLevel(logging.CRITICAL)
    try:
        return function()
    except CaptureError:
        raise
    except Exception as error:
        where = line_of(error.__traceback__)
        text = " ".join(str(error).split()) or type(error).__name__
        known = next((reason for sign, reason in _KNOWN.items() if sign in text or sign == type(error).__name__), None)
        raise CaptureError(known or f"{type(error).__name__}: {text[:300]}", where) from error
    finally:
        noisy.setLevel(level)
