"""Capture a training step or an evaluation as a graph, and refuse one that is not the same from step to step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from samebits.exec.capture.eager import check_against_eager, check_evaluation, default_tolerance
from samebits.exec.capture.lowering import lower
from samebits.exec.capture.python_state import first_change, snapshot
from samebits.exec.capture.rules import SUPPORTED
from samebits.exec.capture.subject import Subject, Tensors, everything_kept
from samebits.exec.capture.trace import trace_evaluation, trace_step
from samebits.exec.errors import CaptureError
from samebits.exec.graph import Graph


def capture_step(
    subject: Subject, step: Callable[..., Any], batches: Sequence[Tensors], precision: str, tolerance: float | None
) -> Graph:
    """Return the graph of a training step.

    It is traced twice, the second time from whatever Python state the first left behind, and checked against eager
    PyTorch on `batches`. What would be frozen in the graph shows: a counter, a schedule, Python's random numbers.
    Raises CaptureError.
    """
    seen = snapshot(step, subject.model)
    with everything_kept(subject):
        graph = _same_twice("step", lambda: lower(trace_step(subject, step, batches[0], SUPPORTED), precision))
    limit = default_tolerance(subject, precision) if tolerance is None else tolerance
    check_against_eager(subject, step, batches, graph, limit)
    _check_python_state("step", seen, snapshot(step, subject.model))
    return graph


def capture_evaluation(
    subject: Subject, evaluate: Callable[..., Any], data: Tensors, precision: str, tolerance: float | None
) -> Graph:
    """Return the graph of an evaluation, traced twice and checked as a step is; raises CaptureError."""
    seen = snapshot(evaluate, subject.model)
    with everything_kept(subject):
        graph = _same_twice(
            "evaluation", lambda: lower(trace_evaluation(subject, evaluate, data, SUPPORTED), precision)
        )
    limit = default_tolerance(subject, precision) if tolerance is None else tolerance
    check_evaluation(subject, evaluate, data, graph, limit)
    _check_python_state("evaluation", seen, snapshot(evaluate, subject.model))
    return graph


def _same_twice(what: str, capture: Callable[[], Graph]) -> Graph:
    first, second = capture(), capture()
    if first != second:
        raise CaptureError(
            f"traced a second time, the {what} gives another graph{_difference(first, second)}: it depends on Python "
            "state that changes from step to step (a counter, a schedule, a random number), which the graph would fix"
        )
    return first


def _check_python_state(what: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    changed = first_change(before, after)
    if changed is not None:
        raise CaptureError(
            f"the {what} changes Python state ({changed}), which the graph would hold fixed; "
            "keep what changes in a buffer of the model, or outside the step"
        )


def _difference(first: Graph, second: Graph) -> str:
    """Return where two graphs part, for people."""
    for position, (one, other) in enumerate(zip(first.nodes, second.nodes, strict=False)):
        if one != other:
            return (
                f" (node {position}: {one.op})"
                if one.op == other.op
                else f" (node {position}: {one.op}, then {other.op})"
            )
    return ""
