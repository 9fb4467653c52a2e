"""Functions of PyTorch lowered by our rules and run on a device, beside the same functions in eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tests.exec.captured import graph_of, run_graph

from samebits.exec.capture.tensors import to_numpy
from samebits.exec.devices.protocol import Device
from samebits.exec.graph import Graph

Function = Callable[..., Any]


def tensor(
    shape: Sequence[int], dtype: torch.dtype = torch.float32, seed: int = 0, low: int = -4, high: int = 5
) -> Any:
    """Return a seeded tensor: normal floats, integers in low..high-1, or fair booleans."""
    generator = torch.Generator().manual_seed(seed + 1000 * len(shape))
    if dtype.is_floating_point:
        return torch.randn(tuple(shape), generator=generator).to(dtype)
    if dtype == torch.bool:
        return torch.randint(0, 2, tuple(shape), generator=generator).bool()
    return torch.randint(low, high, tuple(shape), generator=generator).to(dtype)


def with_gradients(function: Function, inputs: Sequence[Any]) -> Function:
    """Return a function that gives the results of `function` and the gradients of a fixed weighted sum of them."""

    def both(*flat: Any) -> tuple[Any, ...]:
        leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in flat]
        results = _tensors(function(*leaves))
        total = sum((_weights(y) * y).sum() for y in results if y.requires_grad)
        wanted = [x for x in leaves if x.requires_grad]
        found = torch.autograd.grad(total, wanted, allow_unused=True) if isinstance(total, torch.Tensor) else ()
        return (*(y.detach() for y in results), *(g for g in found if g is not None))

    return both


def _weights(y: Any) -> Any:
    """Return fixed weights in 0.5..1.5 of the shape of `y`, made by ops that have rules."""
    positions = torch.arange(y.numel(), dtype=torch.int64) * 7919 % 101
    return (positions.to(torch.float32) / 101 + 0.5).to(y.dtype).reshape(y.shape)


def _tensors(results: Any) -> list[Any]:
    if isinstance(results, torch.Tensor):
        return [results]
    if results is None:
        return []
    values = results.values() if isinstance(results, dict) else results
    return [one for part in values for one in _tensors(part)]


def lowered(function: Function, inputs: Sequence[Any]) -> tuple[Graph, dict[str, Any]]:
    """Return the graph of a function, with results y0, y1, ..., and its inputs x0, x1, ..., as far as it has them."""

    def by_name(**tensors: Any) -> dict[str, Any]:
        return {f"y{i}": y.detach() for i, y in enumerate(_tensors(function(*tensors.values())))}

    named = {f"x{i}": x for i, x in enumerate(inputs)}
    graph = graph_of(by_name, named)
    used = {name for name, _ in graph.inputs}
    return graph, {name: to_numpy(x) for name, x in named.items() if name in used}


def run(graph: Graph, inputs: dict[str, Any], device: Device | None = None) -> list[Any]:
    """Return the results of a lowered function in order."""
    outputs = run_graph(graph, inputs, device)
    return [outputs[f"y{i}"] for i in range(len(outputs))]


def check_like_eager(
    function: Function, inputs: Sequence[Any], *, gradients: bool = True, tolerance: float = 1e-5, noise: float = 1e-30
) -> None:
    """Assert that a function, and the gradients of its floats, lowered, agree with eager PyTorch.

    A float result may differ by `tolerance` of its largest element, or of `noise` if that is larger (a gradient that
    is zero in theory is noise); integers and bools may not differ. `tolerance=0` asks for equal values, NaN for NaN.
    """
    whole = with_gradients(function, inputs) if gradients else function
    expected = [to_numpy(y) for y in _tensors(whole(*inputs))]
    graph, arrays = lowered(whole, inputs)
    actual = run(graph, arrays)
    assert len(actual) == len(expected)
    for i, (found, right) in enumerate(zip(actual, expected, strict=True)):
        assert (found.dtype, found.shape) == (right.dtype, right.shape), i
        if right.dtype.kind in "biu" or tolerance == 0:
            same = (found == right) | ((found != found) & (right != right))
            assert same.all(), f"result {i} is {found[~same][:3]}, want {right[~same][:3]} ({(~same).sum()} wrong)"
            continue
        a, b = (np.asarray(x, np.float64) for x in (found, right))
        special = ~np.isfinite(b)
        assert np.array_equal(a[special], b[special], equal_nan=True), f"result {i} has other infinities or NaN"
        size = max(float(np.abs(b[~special]).max(initial=0.0)), noise)
        worst = float(np.abs(a[~special] - b[~special]).max(initial=0.0)) / size
        assert worst <= tolerance, f"result {i} differs by {worst:.3g} of its largest element"
