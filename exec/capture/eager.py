"""Check a captured step against eager PyTorch: one step on real data, on copies.

What is compared is the change of each state tensor, against the largest change of the tensor (or 1e-5 of the largest
of all, since a change that is rounding noise agrees with nothing), and each metric, against its size. The parameters
that Adam updates are left out: it divides rounding noise by its own size. Its moments, which hold the gradients, are
compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

from samebits.exec.capture.tensors import to_numpy
from samebits.exec.capture.trace import MODEL, Subject, Tensors, run_eagerly
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.errors import CaptureError
from samebits.exec.graph import Graph
from samebits.exec.job import METRICS, STATE
from samebits.exec.planner import plan_graph

_TOLERANCE: Final[Mapping[str, float]] = {"highest": 1e-2, "high": 1e-1}  # by precision
_HALF_TOLERANCE: Final = 1e-1
_NOISE: Final = 1e-5

Array = NDArray[Any]


def default_tolerance(subject: Subject, precision: str) -> float:
    """Return the tolerance for a precision and the types of the model's tensors."""
    halves = any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in subject.state.values())
    return _HALF_TOLERANCE if halves else _TOLERANCE[precision]


def check_against_eager(
    subject: Subject, step: Callable[..., Any], batch: Tensors, graph: Graph, tolerance: float
) -> None:
    """Raise CaptureError naming the worst tensor if the graph and eager PyTorch differ by more than `tolerance`."""
    expected = {name: to_numpy(tensor) for name, tensor in run_eagerly(subject, step, batch).items()}
    inputs = {STATE + name: to_numpy(tensor) for name, tensor in subject.state.items()}
    inputs |= {name: to_numpy(tensor) for name, tensor in batch.items()}
    actual = NumpyDevice().compile(plan_graph(graph))(inputs)
    compared = [name for name in expected if not _is_adam_parameter(subject, name)]
    wanted = {name: _change(expected[name], inputs.get(name)) for name in compared}
    found = {name: _change(actual[name], inputs.get(name)) for name in compared}
    largest = max((_size(wanted[name]) for name in compared if name.startswith(STATE)), default=0.0)
    errors = {}
    for name in compared:
        scale = _size(wanted[name]) if name.startswith(METRICS) else max(_size(wanted[name]), _NOISE * largest)
        errors[name] = _error(wanted[name], found[name], scale, _rounding(expected[name]))
    worst = max(errors, key=lambda name: errors[name], default=None)
    if worst is not None and errors[worst] > tolerance:
        raise CaptureError(
            f"after one step {worst} differs from eager PyTorch by {errors[worst]:.2g} of its change "
            f"(tolerance {tolerance:g}); the capture is not faithful, or the step is numerically unstable"
        )


def _is_adam_parameter(subject: Subject, name: str) -> bool:
    return isinstance(subject.optimizer, torch.optim.Adam) and name.startswith(STATE + MODEL)


def _change(after: Array, before: Array | None) -> Array:
    wide = np.asarray(after, np.float64)
    return wide if before is None else wide - np.asarray(before, np.float64)


def _size(x: Array) -> float:
    finite = x[np.isfinite(x)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def _rounding(x: Array) -> float:
    """Return four units in the last place of the largest element: a small change of a large weight is lost in them."""
    return 4 * float(ml_dtypes.finfo(x.dtype).eps) * _size(np.asarray(x, np.float64)) if x.dtype.kind in "fV" else 0.0


def _error(wanted: Array, found: Array, scale: float, rounding: float) -> float:
    """Return the largest difference in units of `scale`; NaN and infinities must stand in the same places."""
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)):
        return float("inf")
    difference = max(0.0, _size(np.where(finite, wanted, 0.0) - np.where(finite, found, 0.0)) - rounding)
    return difference / scale if scale else (0.0 if difference == 0 else float("inf"))
