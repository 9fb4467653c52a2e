"""Capture a training step or an evaluation as a graph, and refuse one that is not the same from step to step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from samebits.exec.capture.lowering import lower
from samebits.exec.capture.program import ObjectProgram, Program, check_metrics
from samebits.exec.capture.python_state import first_change, snapshot
from samebits.exec.capture.subject import GRADIENT, Subject, Tensors, everything_kept
from samebits.exec.capture.swap import swapped
from samebits.exec.capture.trace import functional, new_key, trace
from samebits.exec.capture.traced import Trace
from samebits.exec.errors import CaptureError
from samebits.exec.graph import Graph
from samebits.exec.job import DATA, KEY, METRICS, STATE, under


def capture_step(program: Program, batch: Tensors, precision: str) -> Graph:
    """Return the graph of a training step.

    It is traced twice, the second time from whatever Python state the first left behind. What would be frozen in the
    graph shows: a counter, Python's random numbers. Raises CaptureError.
    """
    given = {STATE + name: tensor for name, tensor in program.initial.items()} | batch
    given |= {name: torch.zeros((), dtype=torch.float64) for name in program.rates()} | {KEY: new_key()}

    def traced(inputs: Tensors) -> Trace:
        return trace(program.run, inputs, read_only=list(batch), model=program.model)

    if not isinstance(program, ObjectProgram):
        first = traced(given)
        return _lower_same("step", first, functional(first), traced(given), precision)
    with program.kept():
        inputs = given | program.gradients_before()
        first = traced(inputs)
        found = functional(first)
        if found.depends_on(GRADIENT):
            inputs = given
            first = traced(inputs)
            found = functional(first)
            _check_no_gradients(program)
        return _lower_same("step", first, found, traced(inputs), precision)


def capture_evaluation(subject: Subject, evaluate: Callable[..., Any], data: Tensors, precision: str) -> Graph:
    """Return the graph of an evaluation, traced twice as a step is; raises CaptureError."""

    def body(tensors: Tensors) -> Tensors:
        with swapped(subject, tensors):
            metrics = check_metrics(evaluate(**under(DATA, tensors)))
        return {METRICS + name: tensor for name, tensor in metrics.items()}

    given = {STATE + name: tensor for name, tensor in subject.state.items()} | data | {KEY: new_key()}

    def traced() -> Trace:
        return trace(body, given, read_only=list(data), model=subject.model)

    with everything_kept(subject):
        first = traced()
        graph = _lower_same("evaluation", first, functional(first), traced(), precision)
    if any(name == KEY for name, _ in graph.inputs):
        raise CaptureError("the evaluation draws random numbers; call model.eval() in it")
    return graph


def _check_no_gradients(program: ObjectProgram) -> None:
    """Raise CaptureError if the step leaves gradients, or was given some, although it adds to those it finds."""
    old = program.leftover or program.has_gradients()
    if old:
        raise CaptureError(
            f"the step adds to gradients that were there before it ({old[0]}, ...); "
            "call optimizer.zero_grad() before loss.backward()"
        )


def check_python_state(what: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Raise CaptureError if Python values that the function can see have changed."""
    changed = first_change(before, after)
    if changed is not None:
        raise CaptureError(
            f"the {what} changes Python state ({changed}), which the graph would hold fixed; "
            "keep what changes in a buffer of the model, or outside the step"
        )


def seen_by(function: Callable[..., Any], model: torch.nn.Module | None) -> dict[str, Any]:
    """Return the Python values that a function can see."""
    return snapshot(function, model if model is not None else torch.nn.Module())


def _lower_same(what: str, first: Trace, found: Trace, second: Trace, precision: str) -> Graph:
    """Return the graph of the first trace, `found` in functional form; raises CaptureError if the second differs."""
    graph = lower(found, precision)
    if first.same_calls(second):
        return graph
    other = lower(functional(second), precision)
    if graph != other:
        raise CaptureError(
            f"traced a second time, the {what} gives another graph{_difference(graph, other)}: it depends on Python "
            "state that changes from step to step (a counter, a schedule, a random number), which the graph would fix"
        )
    return graph


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
