"""Trace a training step or an evaluation once, with fake tensors, into a flat graph of functional ATen ops.

The step is the user's ordinary code: it closes over `model` and `optimizer`, whose parameters, buffers and state are
swapped for traced tensors while it runs.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.func import functionalize
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import stateless
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import register_optimizer_step_pre_hook

from samebits.exec.capture.optimizers import bind_state, read_state
from samebits.exec.capture.source import current_line, line_of
from samebits.exec.capture.subject import MODEL, OPTIMIZER, Subject, Tensors
from samebits.exec.capture.watch import CaptureWatch, functional_name_of
from samebits.exec.errors import CaptureError
from samebits.exec.job import METRICS, STATE

T = TypeVar("T")
# Ops whose result has the type of their first argument but not its value.
VALUE_FREE = frozenset(
    f"aten.{name}" for name in ("zero", "zeros_like", "ones_like", "full_like", "fill", "empty_like")
)
# Options that choose an implementation, not a result.
_IMPLEMENTATION = ("foreach", "fused", "capturable", "differentiable")

GRADIENT = "gradient/"


@dataclass(frozen=True, slots=True)
class Trace:
    """A traced function: placeholders follow `inputs`, the results follow `outputs`."""

    module: GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lines: Mapping[str, Collection[str]]  # ATen op -> the user's lines that called it


def trace_step(subject: Subject, step: Callable[..., Any], batch: Tensors, supported: Collection[str]) -> Trace:
    """Trace one training step; outputs are the new state and the metrics."""
    trial, _ = _trace(subject, step, batch, supported, with_gradients=True)
    adds_to_old = _depends_on(trial, GRADIENT)
    trace, leftover = _trace(subject, step, batch, supported, with_gradients=False)
    if adds_to_old:
        old = [name for name, p in subject.model.named_parameters() if p.grad is not None and bool((p.grad != 0).any())]
        if leftover or old:
            raise CaptureError(
                f"the step adds to gradients that were there before it ({(leftover or old)[0]}, ...); "
                "call optimizer.zero_grad() before loss.backward()"
            )
    return trace


def trace_evaluation(
    subject: Subject, evaluate: Callable[..., Any], data: Tensors, supported: Collection[str]
) -> Trace:
    """Trace an evaluation: the model's parameters and buffers and the data in, the metrics out."""
    trace, _ = _trace(subject, evaluate, data, supported, with_gradients=False)
    outputs = [name for name in trace.outputs if name.startswith(METRICS)]
    output = next(node for node in trace.module.graph.nodes if node.op == "output")
    kept = tuple(v for name, v in zip(trace.outputs, output.args[0], strict=True) if name.startswith(METRICS))
    output.args = (kept,)
    return Trace(trace.module, trace.inputs, tuple(outputs), trace.lines)


def _trace(
    subject: Subject, step: Callable[..., Any], batch: Tensors, supported: Collection[str], *, with_gradients: bool
) -> tuple[Trace, list[str]]:
    given = {STATE + name: tensor for name, tensor in subject.state.items()} | batch
    trained = [name for name, p in subject.model.named_parameters() if p.requires_grad]
    if with_gradients:
        given |= {GRADIENT + name: torch.zeros_like(subject.state[MODEL + name]) for name in trained}
    outputs: list[str] = []
    leftover: list[str] = []
    lines: dict[str, set[str]] = {}

    def run(*flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tensors = dict(zip(given, flat, strict=True))
        arguments = {name.partition("/")[2]: tensors[name] for name in batch}
        watch = CaptureWatch(supported, list(arguments.values()), lines)
        with _only_optimizer(subject.optimizer), _swapped(subject, tensors) as after, watch:
            metrics = check_metrics(step(**arguments))
            watch.check()
            result = {STATE + name: tensor for name, tensor in after().items()}
            parameters = dict(subject.model.named_parameters())
            leftover[:] = [name for name in trained if parameters[name].grad is not None]
        result |= {METRICS + name: tensor for name, tensor in metrics.items()}
        outputs[:] = list(result)
        return tuple(tensor.detach() for tensor in result.values())

    flat = tuple(given.values())
    module = _functional(guarded(lambda: make_fx(run, tracing_mode="fake")(*flat)), flat)
    return Trace(module, tuple(given), tuple(outputs), lines), leftover


def _functional(module: GraphModule, flat: tuple[torch.Tensor, ...]) -> GraphModule:
    """Return `module` without in-place ops and without dead nodes."""
    functional = make_fx(functionalize(module, remove="mutations"), tracing_mode="fake")(*flat)
    for node in reversed(list(functional.graph.nodes)):
        if node.op == "call_function" and not node.users and "copy_" not in str(node.target):
            functional.graph.erase_node(node)
    return functional


def guarded(trace: Callable[[], T]) -> T:
    """Call a function that runs the user's step; whatever it raises becomes a CaptureError with the user's line."""
    noisy = logging.getLogger("torch._subclasses.fake_tensor")  # prints the traceback of an error that we report
    level = noisy.level
    noisy.setLevel(logging.CRITICAL)
    try:
        return trace()
    except CaptureError:
        raise
    except Exception as error:
        where = line_of(error.__traceback__)
        text = " ".join(str(error).split()) or type(error).__name__
        if "Mixing fake modes" in text:
            text = "the step keeps a tensor from one call to the next; make it a buffer of the model"
        raise CaptureError(f"{type(error).__name__}: {text[:300]}", where) from error
    finally:
        noisy.setLevel(level)


@contextlib.contextmanager
def _swapped(subject: Subject, tensors: Mapping[str, torch.Tensor]) -> Iterator[Callable[[], Tensors]]:
    """Let the model and the optimizer work on traced tensors; yields a function that reads the state afterwards."""
    model, optimizer = subject.model, subject.optimizer
    originals = dict(model.named_parameters())
    names = {id(parameter): name for name, parameter in originals.items()}
    state = {name: tensors[STATE + name].clone() for name in subject.state}
    parameters = {name: state[MODEL + name].requires_grad_(p.requires_grad) for name, p in originals.items()}
    for name in parameters:
        if GRADIENT + name in tensors:
            parameters[name].grad = tensors[GRADIENT + name].clone()
    buffers = {name: state[MODEL + name] for name, _ in model.named_buffers()}
    optimizer_state = {n.removeprefix(OPTIMIZER): t for n, t in state.items() if n.startswith(OPTIMIZER)}
    with (
        _kept(optimizer) as check_options,
        stateless._reparametrize_module(model, {**parameters, **buffers}, tie_weights=True),
    ):
        if optimizer is not None:
            bind_state(optimizer, optimizer_state, parameters, names)

        def after() -> Tensors:
            check_options()
            _check_same_parameters(model, parameters, {name: p.requires_grad for name, p in originals.items()})
            own = {MODEL + name: parameter for name, parameter in parameters.items()}
            own |= {MODEL + name: buffer for name, buffer in model.named_buffers()}
            if optimizer is not None:
                new = read_state(optimizer, optimizer_state, parameters)
                own |= {OPTIMIZER + name: tensor for name, tensor in new.items()}
            missing = sorted(set(subject.state) - set(own)) or sorted(set(own) - set(subject.state))
            if missing:
                raise CaptureError(
                    f"the step adds or removes {missing[0]}; the state must have the same tensors always"
                )
            return {name: own[name] for name in subject.state}

        yield after


@contextlib.contextmanager
def _only_optimizer(optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
    """Refuse steps of any other optimizer, and of learning-rate schedules, while a step is traced."""

    def refuse_other(stepped: torch.optim.Optimizer, *arguments: Any) -> None:
        if stepped is not optimizer:
            raise CaptureError(
                f"the step uses another optimizer ({type(stepped).__name__}) than the one given; give one optimizer "
                "with several parameter groups"
            )

    def refuse_schedule(self: Any, *arguments: Any, **options: Any) -> None:
        raise CaptureError(
            f"the step advances a learning-rate schedule ({type(self).__name__}), which is not supported yet",
            current_line(),
        )

    handle = register_optimizer_step_pre_hook(refuse_other)
    schedules = [LRScheduler, *_subclasses(LRScheduler)]
    own = {cls: cls.__dict__["step"] for cls in schedules if "step" in cls.__dict__}
    for cls in own:
        cls.step = refuse_schedule
    try:
        yield
    finally:
        handle.remove()
        for cls, method in own.items():
            cls.step = method


def _subclasses(cls: Any) -> list[Any]:
    derived: list[Any] = cls.__subclasses__()
    return [found for one in derived for found in (one, *_subclasses(one))]


@contextlib.contextmanager
def _kept(optimizer: torch.optim.Optimizer | None) -> Iterator[Callable[[], None]]:
    """Give the optimizer its own groups, state and step back at the end; yields a check that no option changed."""
    if optimizer is None:
        yield lambda: None
        return
    groups, state = optimizer.param_groups, optimizer.state
    own_step = optimizer.__dict__.get("step")
    options = [{k: v for k, v in group.items() if k not in ("params", *_IMPLEMENTATION)} for group in groups]
    optimizer.state = defaultdict(dict)

    def check_options() -> None:
        for before, group in zip(options, optimizer.param_groups, strict=True):
            for key, value in before.items():
                if group[key] is not value and group[key] != value:
                    raise CaptureError(
                        f"the step changes the optimizer's {key} (from {value} to {group[key]}), "
                        "which the graph would hold fixed"
                    )

    try:
        yield check_options
    finally:
        optimizer.param_groups, optimizer.state = groups, state
        optimizer.__dict__.pop("step", None)
        if own_step is not None:
            optimizer.__dict__["step"] = own_step


def _check_same_parameters(model: torch.nn.Module, parameters: Tensors, flags: Mapping[str, bool]) -> None:
    now = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if now.get(name) is not parameter:
            raise CaptureError(
                f"the step puts another tensor in the place of the parameter {name}; write into it instead"
            )
        if parameter.requires_grad != flags[name]:
            raise CaptureError(f"the step changes requires_grad of the parameter {name}, which the next step would see")


def check_metrics(metrics: Any) -> Tensors:
    if not isinstance(metrics, dict) or not metrics:
        raise CaptureError('the step must return its metrics as a dictionary of scalar tensors, as in {"loss": loss}')
    for name, value in metrics.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise CaptureError(f"metric name {name!r} is not a word")
        if not isinstance(value, torch.Tensor) or value.dim():
            raise CaptureError(f"metric {name!r} is not a scalar tensor")
    return metrics


def _depends_on(trace: Trace, prefix: str) -> bool:
    """Tell whether any result depends on an input whose name starts with `prefix`."""
    placeholders = [node for node in trace.module.graph.nodes if node.op == "placeholder"]
    reached = {node for node, name in zip(placeholders, trace.inputs, strict=True) if name.startswith(prefix)}
    for node in trace.module.graph.nodes:
        if reached.intersection(node.all_input_nodes) and functional_name_of(node) not in VALUE_FREE:
            reached.add(node)
    return any(node.op == "output" for node in reached)
