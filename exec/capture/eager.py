"""Check a capture against eager PyTorch: a few steps of the user's own code on their own objects, put back afterwards.

Nothing is swapped here, so whatever the trace did not see (a hook, a second optimizer, a closed-over list) shows.
What is compared is the change of each state tensor over the steps, against the tensor's largest change, and each
metric, against its size. A change below 1e-5 of the largest of all is rounding noise and agrees with nothing. Adam
divides such noise by its own size: of its parameters only the elements whose moment is well above it are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

from samebits.exec.capture.draw_calls import Draws, EagerDraws
from samebits.exec.capture.program import EagerRun, Program, check_metrics
from samebits.exec.capture.sites import Sites
from samebits.exec.capture.subject import MODEL, OPTIMIZER, Subject, Tensors, everything_kept
from samebits.exec.capture.tensors import to_numpy, to_torch
from samebits.exec.capture.trace import guarded
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.errors import CaptureError
from samebits.exec.graph import Graph
from samebits.exec.job import BATCH, DATA, KEY, METRICS, STATE, STEP, under
from samebits.exec.keys import step_key
from samebits.exec.planner import plan_graph

_TOLERANCE: Final[Mapping[str, float]] = {"highest": 1e-2, "high": 1e-1}  # by precision
_HALF_TOLERANCE: Final = 1e-1
_NOISE: Final = 1e-5  # of the largest change
_MOMENT: Final = "/exp_avg"

Array = NDArray[Any]


def default_tolerance(state: Tensors, precision: str, graph: Graph) -> float:
    """Return the tolerance for a precision and the types of a state's tensors and of what is computed between."""
    halves = any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in state.values())
    halves = halves or any(("new_dtype", half) in node.attributes for node in graph.nodes for half in ("f16", "bf16"))
    return _HALF_TOLERANCE if halves else _TOLERANCE[precision]


def check_against_eager(
    program: Program, batches: Sequence[Tensors], graph: Graph, schedule: Graph | None, seed: int, tolerance: float
) -> None:
    """Run the steps both ways, with the same random draws; raises CaptureError naming the worst tensor."""
    execute = NumpyDevice().compile(plan_graph(graph))
    rates_of = None if schedule is None else NumpyDevice().compile(plan_graph(schedule))
    before = {STATE + name: to_numpy(tensor) for name, tensor in program.initial.items()}
    state = dict(before)
    with program.eager() as run:
        for t, batch in enumerate(batches):
            key = step_key(seed, t)
            rates = {} if rates_of is None else rates_of({STEP: np.asarray(t, np.int64)})
            metrics = _call(program, run, batch, key, {name: float(rate) for name, rate in rates.items()})
            given = {name: to_numpy(tensor) for name, tensor in batch.items()}
            outputs = execute({**state, **given, **rates, KEY: key})
            state |= {name: value for name, value in outputs.items() if name.startswith(STATE)}
            _check_metrics_agree(metrics, outputs, tolerance)
        after = {STATE + name: to_numpy(tensor) for name, tensor in run.state().items()}
    _check_state_agrees(before, after, state, tolerance)


def check_evaluation(
    subject: Subject, evaluate: Callable[..., Any], data: Tensors, graph: Graph, tolerance: float
) -> None:
    """Evaluate both ways on the initial state; raises CaptureError naming the metric beyond `tolerance`."""
    inputs = {STATE + name: to_numpy(tensor) for name, tensor in subject.state.items()}
    inputs |= {name: to_numpy(tensor) for name, tensor in data.items()}
    arguments = {name: tensor.clone() for name, tensor in under(DATA, data).items()}
    with everything_kept(subject):
        subject.write_own_model(subject.state)
        metrics = guarded(lambda: check_metrics(evaluate(**arguments)))
    _check_metrics_agree(metrics, NumpyDevice().compile(plan_graph(graph))(inputs), tolerance)


def _call(program: Program, run: EagerRun, batch: Tensors, key: Array, rates: Mapping[str, float]) -> Tensors:
    arguments = {name: tensor.clone() for name, tensor in under(BATCH, batch).items()}
    sites = Sites(program.model)
    with sites.followed(), EagerDraws(Draws(to_torch(key), sites)):
        return guarded(lambda: run.step(arguments, rates))


def _check_metrics_agree(metrics: Tensors, outputs: Mapping[str, Array], tolerance: float) -> None:
    for name, tensor in metrics.items():
        wanted, found = (_wide(x) for x in (to_numpy(tensor), outputs[METRICS + name]))
        error = _error(wanted, found, _size(wanted), _NOISE * tolerance)
        if error > tolerance:
            raise CaptureError(f"metric {name} is {found:g} in the graph and {wanted:g} in eager PyTorch")


def _check_state_agrees(
    before: Mapping[str, Array], after: Mapping[str, Array], found: Mapping[str, Array], tolerance: float
) -> None:
    changes = {name: _wide(value) - _wide(before[name]) for name, value in after.items()}
    noise = _NOISE * max(map(_size, changes.values()), default=0.0)
    errors = {}
    for name, wanted in changes.items():
        actual, kept = _wide(found[name]) - _wide(before[name]), _above_noise(name, changes, tolerance)
        allowed = noise + _rounding(after[name])
        errors[name] = _error(wanted[kept], actual[kept], max(_size(wanted), noise), allowed)
    worst = max(errors, key=lambda name: errors[name], default=None)
    if worst is not None and errors[worst] > tolerance:
        raise CaptureError(
            f"{worst} differs from eager PyTorch by {errors[worst]:.2g} of its change (tolerance {tolerance:g}); "
            "the capture is not faithful, or the step is numerically unstable"
        )


def _above_noise(name: str, changes: Mapping[str, Array], tolerance: float) -> Any:
    """Return which elements to compare: of a parameter with a moment, those whose moment is above rounding noise.

    Noise is a hundredth of the moment's largest element, or what a loose tolerance grants every moment, a few times.
    """
    moment = changes.get(STATE + OPTIMIZER + name.removeprefix(STATE + MODEL) + _MOMENT)
    if not name.startswith(STATE + MODEL) or moment is None:
        return ...
    largest = max(_size(change) for other, change in changes.items() if other.endswith(_MOMENT))
    noise = 1e-2 if tolerance <= 1e-2 else min(3 * tolerance, 0.5)
    return np.abs(moment) > max(noise * _size(moment), 1e-2 * noise * largest)


def _wide(x: Array) -> Array:
    return np.asarray(x, np.float64)


def _size(x: Array) -> float:
    finite = x[np.isfinite(x)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def _rounding(x: Array) -> float:
    """Return four units in the last place of the largest element: a small change of a large weight is lost in them."""
    return 4 * float(ml_dtypes.finfo(x.dtype).eps) * _size(_wide(x)) if x.dtype.kind in "fV" else 0.0


def _error(wanted: Array, found: Array, scale: float, allowed: float) -> float:
    """Return the largest difference beyond `allowed`, in units of `scale`; NaN and infinities must stand alike."""
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)):
        return float("inf")
    difference = max(0.0, _size(np.where(finite, wanted, 0.0) - np.where(finite, found, 0.0)) - allowed)
    return difference / scale if scale else (0.0 if difference == 0 else float("inf"))
