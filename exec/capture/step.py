"""Capture a training step or an evaluation as a graph, and refuse one that is not the same from step to step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from samebits.exec.capture.eager import check_against_eager, default_tolerance
from samebits.exec.capture.lowering import lower
from samebits.exec.capture.rules import SUPPORTED
from samebits.exec.capture.trace import Subject, Tensors, trace_evaluation, trace_step
from samebits.exec.errors import CaptureError
from samebits.exec.graph import Graph


def capture_step(
    subject: Subject, step: Callable[..., Any], batch: Tensors, precision: str, tolerance: float | None = None
) -> Graph:
    """Return the graph of a training step, checked once against eager PyTorch within `tolerance` (eager.py).

    It is traced twice, the second time from whatever Python state the first left behind: a counter, a schedule or
    Python's random numbers would be frozen in the graph, and show up as a difference. Raises CaptureError.
    """
    with _modes_kept(subject.model):
        first = lower(trace_step(subject, step, batch, SUPPORTED), precision)
        second = lower(trace_step(subject, step, batch, SUPPORTED), precision)
    if first != second:
        raise CaptureError(
            "traced a second time, the step gives another graph"
            f"{_difference(first, second)}: it depends on Python state that changes from step to step "
            "(a counter, a schedule, a random number), which the graph would hold fixed"
        )
    with _modes_kept(subject.model):
        check_against_eager(
            subject, step, batch, first, default_tolerance(subject, precision) if tolerance is None else tolerance
        )
    return first


def capture_evaluation(subject: Subject, evaluate: Callable[..., Any], data: Tensors, precision: str) -> Graph:
    """Return the graph of an evaluation; raises CaptureError."""
    with _modes_kept(subject.model):
        return lower(trace_evaluation(subject, evaluate, data, SUPPORTED), precision)


def _difference(first: Graph, second: Graph) -> str:
    """Return where two graphs part, for people."""
    for position, (one, other) in enumerate(zip(first.nodes, second.nodes, strict=False)):
        if one != other:
            return (
                f" (node {position} is {one.op}, then {other.op})"
                if one.op != other.op
                else f" (node {position}: {one.op})"
            )
    return ""


@contextlib.contextmanager
def _modes_kept(model: torch.nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
