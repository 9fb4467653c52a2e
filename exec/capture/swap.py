"""Run the user's step on traced tensors: model and optimizer, which it closes over, get them while it runs."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch.nn.utils import stateless
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import register_optimizer_step_pre_hook

from samebits.exec.capture.optimizers import SETS_RATE, bind_state, read_state
from samebits.exec.capture.source import current_line
from samebits.exec.capture.subject import GRADIENT, MODEL, OPTIMIZER, Subject, Tensors
from samebits.exec.errors import CaptureError
from samebits.exec.job import RATE, STATE

# Options that choose an implementation, not a result.
_IMPLEMENTATION: Final = ("foreach", "fused", "capturable", "differentiable")


@contextlib.contextmanager
def swapped(subject: Subject, tensors: Mapping[str, torch.Tensor]) -> Iterator[Callable[[], Tensors]]:
    """Let the model and the optimizer work on traced tensors; yields a function that reads the state afterwards."""
    model, optimizer = subject.model, subject.optimizer
    originals = dict(model.named_parameters())
    names = {id(parameter): name for name, parameter in originals.items()}
    state = {name: tensors[STATE + name] for name in subject.state}
    parameters = {name: state[MODEL + name].requires_grad_(p.requires_grad) for name, p in originals.items()}
    for name in parameters:
        if GRADIENT + name in tensors:
            parameters[name].grad = tensors[GRADIENT + name]
    buffers = {name: state[MODEL + name] for name, _ in model.named_buffers()}
    optimizer_state = {n.removeprefix(OPTIMIZER): t for n, t in state.items() if n.startswith(OPTIMIZER)}
    rates = [] if optimizer is None else [tensors[f"{RATE}{i}"] for i in range(len(optimizer.param_groups))]
    with (
        only_optimizer(optimizer, subject.schedules),
        _kept(optimizer, rates) as check_options,
        stateless._reparametrize_module(model, {**parameters, **buffers}, tie_weights=True),
    ):
        if optimizer is not None:
            bind_state(optimizer, optimizer_state, parameters, names, rates)

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
def only_optimizer(optimizer: torch.optim.Optimizer | None, given: Sequence[LRScheduler]) -> Iterator[None]:
    """Refuse steps of any other optimizer, and of learning-rate schedules that were not given; those do nothing."""

    def refuse_other(stepped: torch.optim.Optimizer, *arguments: Any) -> None:
        if stepped is not optimizer:
            raise CaptureError(
                f"the step uses another optimizer ({type(stepped).__name__}) than the one given; give one optimizer "
                "with several parameter groups"
            )

    def step_schedule(self: Any, *arguments: Any, **options: Any) -> None:
        if all(self is not one for one in given):
            raise CaptureError(
                f"the step advances a learning-rate schedule ({type(self).__name__}) that was not given; "
                "pass it as schedule=",
                current_line(),
            )

    handle = register_optimizer_step_pre_hook(refuse_other)
    schedules = [LRScheduler, *_subclasses(LRScheduler)]
    own = {cls: cls.__dict__["step"] for cls in schedules if "step" in cls.__dict__}
    for cls in own:
        cls.step = step_schedule
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
def _kept(optimizer: torch.optim.Optimizer | None, rates: Sequence[torch.Tensor]) -> Iterator[Callable[[], None]]:
    """Give the optimizer its own groups, state and step back at the end; yields a check that no option changed."""
    if optimizer is None:
        yield lambda: None
        return
    groups, state = optimizer.param_groups, optimizer.state
    own_step = optimizer.__dict__.get("step")
    options = [_options(group) | {"lr": rate} for group, rate in zip(groups, rates, strict=True)]
    versions = [rate._version for rate in rates]  # counts writes in place
    optimizer.state = defaultdict(dict)

    def check_options() -> None:
        for before, group in zip(options, optimizer.param_groups, strict=True):
            _check_options(before, group)
        if versions != [rate._version for rate in rates]:
            raise CaptureError(SETS_RATE)

    try:
        yield check_options
    finally:
        optimizer.param_groups, optimizer.state = groups, state
        optimizer.__dict__.pop("step", None)
        if own_step is not None:
            optimizer.__dict__["step"] = own_step


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in ("params", *_IMPLEMENTATION)}


def _check_options(before: Mapping[str, Any], group: Mapping[str, Any]) -> None:
    for key, value in before.items():
        if group[key] is value:
            continue
        if key == "lr":
            raise CaptureError(SETS_RATE)
        if group[key] != value:
            raise CaptureError(
                f"the step changes the optimizer's {key} (from {value} to {group[key]}), "
                "which the graph would hold fixed"
            )


def _check_same_parameters(model: torch.nn.Module, parameters: Tensors, flags: Mapping[str, bool]) -> None:
    now = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if now.get(name) is not parameter:
            raise CaptureError(
                f"the step puts another tensor in the place of the parameter {name}; write into it instead"
            )
        if parameter.requires_grad != flags[name]:
            raise CaptureError(f"the step changes requires_grad of the parameter {name}, which the next step would see")


def left_gradients(model: torch.nn.Module, names: Collection[str]) -> list[str]:
    """Return which parameters have a gradient now."""
    parameters = dict(model.named_parameters())
    return [name for name in names if parameters[name].grad is not None]
