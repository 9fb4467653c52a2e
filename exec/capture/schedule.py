"""Learning rates as a function of the step's number t: a graph from `step` (i64[]) to `rate/0`, `rate/1`, ... (f64[]).

A function written in torch operations on the 0-d tensor t is traced. One written in plain Python, and a scheduler of
torch, which keeps its own Python state, is evaluated for every step: the graph then holds the table.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from samebits.exec.builder import GraphBuilder
from samebits.exec.capture.lowering import lower
from samebits.exec.capture.source import line_of
from samebits.exec.capture.trace import functional, guarded, new_key, trace
from samebits.exec.errors import CaptureError
from samebits.exec.graph import Graph
from samebits.exec.job import KEY, STEP
from samebits.kernels.types import TensorType

MAX_TABLE_STEPS: Final = 1_000_000
Schedule = Callable[[Any], Any] | LRScheduler | None


def capture_schedule(
    schedule: Schedule, optimizer: torch.optim.Optimizer | None, rates: Sequence[str], steps: int
) -> Graph | None:
    """Return the graph of the rates by name, None where there are none; raises CaptureError."""
    if not rates:
        if schedule is not None:
            raise CaptureError("schedule is given, but there is no optimizer whose rates it could set")
        return None
    if isinstance(schedule, LRScheduler):
        if optimizer is None:
            raise CaptureError("a functional step has no optimizer; give a function of the step's number as schedule=")
        if schedule.optimizer is not optimizer:
            raise CaptureError("the schedule belongs to another optimizer than the one given")
        return _table(rates, _follow(schedule, steps))
    if schedule is None:
        groups = [] if optimizer is None else optimizer.param_groups
        return _table(rates, [[float(group["lr"]) for group in groups]])
    try:
        graph = _traced(schedule, rates)
    except CaptureError as error:
        _check_table_steps(steps)
        try:
            table = [_floats(schedule(t), len(rates)) for t in range(steps)]
        except (TypeError, AttributeError, ValueError):
            raise error from None
        except Exception as other:
            text = f"the schedule fails with {type(other).__name__}: {other}"
            raise CaptureError(text, line_of(other.__traceback__)) from other
        return _table(rates, table)
    if any(name == KEY for name, _ in graph.inputs):
        raise CaptureError("the schedule draws random numbers")
    return graph


def _traced(schedule: Callable[[Any], Any], rates: Sequence[str]) -> Graph:
    def body(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = schedule(tensors[STEP])
        each = list(found) if isinstance(found, list | tuple) else [found] * len(rates)
        if len(each) != len(rates) or not all(isinstance(x, torch.Tensor) and x.dim() == 0 for x in each):
            raise CaptureError(f"the schedule gives no scalar tensor, nor a list of {len(rates)}, one per group")
        return {name: x.double() for name, x in zip(rates, each, strict=True)}

    return lower(functional(trace(body, {STEP: torch.tensor(0), KEY: new_key()})), "highest")


def _floats(found: Any, count: int) -> list[float]:
    each = list(found) if isinstance(found, list | tuple) else [found] * count
    if len(each) != count:
        raise ValueError("not one rate per group")
    return [float(x) for x in each]


def _follow(schedule: LRScheduler, steps: int) -> list[list[float]]:
    """Return the rates of every step, found by letting a copy of the scheduler run."""
    _check_table_steps(steps)
    if isinstance(schedule, ReduceLROnPlateau):
        raise CaptureError("ReduceLROnPlateau follows a metric; a schedule is a function of the step's number alone")
    optimizer = schedule.optimizer
    shared = [p for group in optimizer.param_groups for p in group["params"]]
    memo: dict[int, Any] = {id(value): value for value in (*shared, optimizer.state)}
    own = copy.deepcopy(schedule, memo)
    others = [_other_options(group) for group in own.optimizer.param_groups]
    table = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for optimizer.step() in between
        for t in range(steps):
            if t:
                guarded(own.step)
            table.append([float(group["lr"]) for group in own.optimizer.param_groups])
            if [_other_options(group) for group in own.optimizer.param_groups] != others:
                raise CaptureError("the schedule changes more than the learning rate; pass cycle_momentum=False")
    return table


@contextlib.contextmanager
def schedules_kept(schedules: Sequence[LRScheduler]) -> Iterator[None]:
    """Put schedulers back at the end, with those that they are made of."""
    saved = [(one, {name: _unshared(value) for name, value in vars(one).items()}) for one in _with_parts(schedules)]
    try:
        yield
    finally:
        for one, values in saved:
            vars(one).clear()
            vars(one).update(values)


def _unshared(value: Any) -> Any:
    return copy.copy(value) if isinstance(value, list | dict) else value


def _with_parts(schedules: Sequence[LRScheduler]) -> list[LRScheduler]:
    parts = [part for one in schedules for part in _with_parts(getattr(one, "_schedulers", ()))]
    return [*schedules, *parts]


def _other_options(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in ("params", "lr", "initial_lr")}


def _check_table_steps(steps: int) -> None:
    if steps > MAX_TABLE_STEPS:
        raise CaptureError(
            f"a table of the rates of {steps} steps is too long; write the schedule in torch operations on the "
            "step's number"
        )


def _table(rates: Sequence[str], table: list[list[float]]) -> Graph:
    build = GraphBuilder()
    step = build.input(STEP, TensorType("i64", ()))
    for index, name in enumerate(rates):
        column = np.array([row[index] for row in table])
        if not np.isfinite(column).all():
            raise CaptureError(f"the schedule gives {column[~np.isfinite(column)][0]} as a learning rate")
        if (column == column[0]).all():
            build.output(name, build.constant(column[0]))
        else:
            build.output(name, build.op("gather", build.constant(column), step))
    return build.build()
