"""Make a job of a captured training step, its initial state and its data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

from samebits.exec.capture.collection import Collection, rows_of
from samebits.exec.capture.eager import check_against_eager, check_evaluation, default_tolerance
from samebits.exec.capture.initial import Init, capture_init
from samebits.exec.capture.program import FunctionalProgram, ObjectProgram, Program
from samebits.exec.capture.schedule import Schedule, capture_schedule
from samebits.exec.capture.step import capture_evaluation, capture_step, check_python_state, seen_by
from samebits.exec.capture.subject import MODEL, Subject, Tensors, has_values
from samebits.exec.capture.tensors import to_numpy, to_torch
from samebits.exec.capture.trace import guarded
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.errors import CaptureError, JobError
from samebits.exec.graph import Graph, check_graph
from samebits.exec.job import BATCH, CHECKED, DATA, KEY, MAX_STEPS, STATE, Check, Evaluation, Job, JobSpec, under
from samebits.exec.keys import INITIAL, step_key
from samebits.exec.planner import plan_graph
from samebits.exec.stream import Stream
from samebits.kernels.version import ARITHMETIC

CHECKED_STEPS: Final = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What a job is made of besides the program and its data."""

    stream: Stream
    steps: int
    seed: int
    precision: str
    schedule: Schedule = None
    tolerance: float | None = None
    checked_steps: int = CHECKED_STEPS  # that are run in eager PyTorch too


def make_program(step: Callable[..., Any], model: Any, optimizer: Any, state: Any, schedule: Schedule) -> Program:
    """Return what is captured: a step over model and optimizer, or over a state of its own; raises JobError."""
    if state is not None:
        if model is not None or optimizer is not None:
            raise JobError("give either model and optimizer, or state")
        return FunctionalProgram(step, state, takes_rate=schedule is not None)
    if not isinstance(model, torch.nn.Module):
        raise JobError(f"model is a {type(model).__name__}, not a torch.nn.Module")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise JobError(f"optimizer is a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    schedules = [schedule] if isinstance(schedule, LRScheduler) else []
    return ObjectProgram(Subject.of(model, optimizer, schedules), step)


def make_job(
    program: Program,
    data: Mapping[str, Any],
    options: Options,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    init: Init | None = None,
    evaluation: tuple[Callable[..., Any], Mapping[str, Any]] | None = None,
) -> Job:
    """Return the job of a program; `samebits.exec.training.training_job` states the arguments and errors."""
    _check_options(options)
    collection = Collection()
    arrays = rows_of("data", data)
    rows = next(iter(arrays.values())).shape[0]
    options.stream.check_rows(rows)
    batches = [
        {BATCH + name: to_torch(array[options.stream.batch(t, rows)]) for name, array in arrays.items()}
        for t in range(min(options.steps, options.checked_steps))
    ]
    schedule = capture_schedule(options.schedule, optimizer, program.rates(), options.steps)
    init_graph = _capture_init(program, init, options.seed)
    seen = seen_by(program.function, program.model)
    graph = capture_step(program, batches[0], options.precision)
    _check_state(graph)
    check = _check_capture(program, batches, graph, schedule, options)
    check_python_state("step", seen, seen_by(program.function, program.model))
    made = {name.removeprefix(STATE) for name, _ in init_graph.outputs} if init_graph is not None else set()
    stored = {name: tensor for name, tensor in program.initial.items() if name not in made}
    evaluated, agreed = (
        (None, CHECKED) if evaluation is None else _evaluation(program, *evaluation, options, collection)
    )
    spec = JobSpec(
        step=collection.add_graph(graph),
        state=collection.add_tree({name: to_numpy(_real(name, tensor)) for name, tensor in stored.items()}),
        data=collection.add_tree(arrays),
        stream=options.stream,
        steps=options.steps,
        arithmetic=ARITHMETIC,
        evaluation=evaluated,
        seed=options.seed,
        init=None if init_graph is None else collection.add_graph(init_graph),
        schedule=None if schedule is None else collection.add_graph(schedule),
        check=agreed if check == CHECKED else check,
    )
    return Job(spec, collection.nodes, collection.blobs)


def _capture_init(program: Program, init: Init | None, seed: int) -> Graph | None:
    """Return the init graph, and let the program start from what it gives."""
    graph = guarded(lambda: capture_init(init, program.initial, program.made))
    if init is None or graph is None or not has_values(program.initial):
        return graph
    found = NumpyDevice().compile(plan_graph(graph))({KEY: step_key(seed, INITIAL)})
    for name, value in under(STATE, found).items():
        program.initial[name].copy_(to_torch(np.asarray(value)))
    return graph


def _check_capture(
    program: Program, batches: Sequence[Tensors], graph: Graph, schedule: Graph | None, options: Options
) -> Check:
    """Compare the capture with eager PyTorch; returns what the job says of it."""
    if not has_values(program.initial):
        return Check(done=False)
    usual = default_tolerance(program.initial, options.precision, graph)
    check_against_eager(program, batches, graph, schedule, options.seed, options.tolerance or usual)
    return _recorded(options.tolerance, usual)


def _recorded(tolerance: float | None, usual: float) -> Check:
    """Return what a job says of a check that passed within a tolerance: only one looser than the usual is named."""
    return CHECKED if tolerance is None or tolerance <= usual else Check(tolerance=tolerance)


def _evaluation(
    program: Program,
    evaluate: Callable[..., Any],
    data: Mapping[str, Any],
    options: Options,
    collection: Collection,
) -> tuple[Evaluation, Check]:
    """Return the evaluation and what the job says of its check against eager PyTorch."""
    if program.model is None:
        raise JobError("evaluate needs a model; a functional step has none")
    held_out = rows_of("evaluation_data", data)
    inputs = {DATA + name: to_torch(array) for name, array in held_out.items()}
    weights = {name: tensor for name, tensor in program.initial.items() if name.startswith(MODEL)}
    subject = Subject(program.model, None, weights)
    seen = seen_by(evaluate, subject.model)
    graph = capture_evaluation(subject, evaluate, inputs, options.precision)
    usual = default_tolerance(weights, options.precision, graph)
    if has_values(weights):
        check_evaluation(subject, evaluate, inputs, graph, options.tolerance or usual)
    check_python_state("evaluation", seen, seen_by(evaluate, subject.model))
    found = Evaluation(collection.add_graph(graph), collection.add_tree(held_out))
    return found, _recorded(options.tolerance, usual) if has_values(weights) else CHECKED


def _real(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_meta:
        raise JobError(f"{name} is on the meta device and has no values; pass init=, a function that returns the model")
    return tensor


def _check_options(options: Options) -> None:
    steps, tolerance = options.steps, options.tolerance
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps < MAX_STEPS:
        raise JobError(f"steps {steps!r} is not an integer in 1 .. 2^53 - 1")
    if options.precision not in ("highest", "high"):
        raise JobError(f'precision {options.precision!r} is neither "highest" nor "high"')
    if tolerance is not None and not (type(tolerance) in (float, int) and 0 < tolerance < math.inf):
        raise JobError(f"tolerance {tolerance!r} is not a positive number")


def _check_state(graph: Graph) -> None:
    """Raise CaptureError if a step leaves a state tensor with another type than it found."""
    inputs, outputs = dict(graph.inputs), check_graph(graph).outputs
    for name, tensor in inputs.items():
        if name.startswith(STATE) and outputs[name] != tensor:
            raise CaptureError(f"{name} is {tensor} before the step and {outputs[name]} after it")
