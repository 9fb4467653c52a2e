"""What is captured: a model, perhaps an optimizer, and their state by logical name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from samebits.exec.capture.optimizers import initial_state, state_keys
from samebits.exec.errors import CaptureError

Tensors = dict[str, torch.Tensor]
MODEL, OPTIMIZER, GRADIENT = "model/", "optimizer/", "gradient/"


@dataclass(frozen=True, slots=True)
class Subject:
    """The user's own model and optimizer, and copies of their tensors at the time of capture."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer | None
    state: Tensors  # "model/0.weight", "optimizer/0.weight/momentum_buffer", ...
    made: Mapping[str, float] = field(default_factory=dict)  # of the state: what is made up, of one value each
    schedules: tuple[LRScheduler, ...] = ()

    @classmethod
    def of(
        cls, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None, schedules: Sequence[LRScheduler] = ()
    ) -> Subject:
        """Collect the state; raises CaptureError for what can't be carried from step to step faithfully."""
        own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        _check_tensors(own)
        state = {MODEL + name: tensor.detach().clone() for name, tensor in own.items()}
        if optimizer is None:
            return cls(model, None, state)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        own_state, made = initial_state(optimizer, names)
        state |= {OPTIMIZER + name: tensor for name, tensor in own_state.items()}
        return cls(model, optimizer, state, {OPTIMIZER + name: value for name, value in made.items()}, tuple(schedules))

    def write_own_model(self, state: Tensors) -> None:
        """Give the user's model the parameters and buffers of a state."""
        with torch.no_grad():
            for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
                tensor.copy_(state[MODEL + name])

    def read_own_state(self) -> Tensors:
        """Return copies of the tensors that the user's objects hold now, as far as PyTorch holds them itself."""
        own: Tensors = {MODEL + name: tensor for name, tensor in self.model.named_parameters()}
        own |= {MODEL + name: tensor for name, tensor in self.model.named_buffers()}
        if self.optimizer is not None:
            names = {id(parameter): name for name, parameter in self.model.named_parameters()}
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    found = self.optimizer.state.get(parameter, {})
                    for key in state_keys(self.optimizer, group):
                        if isinstance(found.get(key), torch.Tensor):
                            own[f"{OPTIMIZER}{names[id(parameter)]}/{key}"] = found[key]
        return {name: tensor.detach().clone() for name, tensor in own.items()}


def has_values(state: Tensors) -> bool:
    """Say whether tensors hold values; those on the meta device have only their types."""
    return not any(tensor.is_meta for tensor in state.values())


@contextlib.contextmanager
def everything_kept(subject: Subject) -> Iterator[None]:
    """Put the user's model and optimizer back at the end, whatever a step did to them."""
    with contextlib.ExitStack() as stack:
        for undo in _undo_model(subject.model):
            stack.callback(undo)
        if subject.optimizer is not None:
            stack.callback(_undo_optimizer(subject.optimizer))
        yield


def _undo_model(model: torch.nn.Module) -> list[Callable[[], None]]:
    undo: list[Callable[[], None]] = []
    for module in model.modules():
        undo.append(_undo_module(module))
    for tensor in (*model.parameters(), *model.buffers()):
        undo.append(_undo_tensor(tensor))
    return undo


def _undo_module(module: torch.nn.Module) -> Callable[[], None]:
    training = module.training
    slots: list[tuple[Any, dict[str, Any]]] = [(own, dict(own)) for own in (module._parameters, module._buffers)]

    def undo() -> None:
        module.training = training
        for own, saved in slots:
            own.clear()
            own.update(saved)

    return undo


def _undo_tensor(tensor: torch.Tensor) -> Callable[[], None]:
    value, requires_grad, gradient = tensor.detach().clone(), tensor.requires_grad, tensor.grad
    gradient_value = None if gradient is None else gradient.detach().clone()

    def undo() -> None:
        with torch.no_grad():
            tensor.requires_grad_(requires_grad)
            tensor.copy_(value)
            if gradient is not None and gradient_value is not None:
                gradient.copy_(gradient_value)
            tensor.grad = gradient

    return undo


def _undo_optimizer(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    groups, state = optimizer.param_groups, optimizer.state
    options = [(group, dict(group), list(group["params"])) for group in groups]
    slots = {
        p: {k: (v, v.clone() if isinstance(v, torch.Tensor) else v) for k, v in s.items()} for p, s in state.items()
    }
    own_step = optimizer.__dict__.get("step")

    def undo() -> None:
        optimizer.param_groups, optimizer.state = groups, state
        for group, values, parameters in options:
            group.clear()
            group.update(values, params=parameters)
        state.clear()
        for parameter, saved in slots.items():
            for value, copy in saved.values():
                if isinstance(value, torch.Tensor):
                    value.copy_(copy)
            state[parameter] = {key: value for key, (value, _) in saved.items()}
        optimizer.__dict__.pop("step", None)
        if own_step is not None:
            optimizer.__dict__["step"] = own_step

    return undo


def _check_tensors(own: Tensors) -> None:
    owners: dict[int, str] = {}
    for name, tensor in own.items():
        hooks: list[Any] = [
            getattr(tensor, "_backward_hooks", None),
            getattr(tensor, "_post_accumulate_grad_hooks", None),
        ]
        if any(hooks):
            raise CaptureError(f"the parameter {name} has a gradient hook, which the graph would not call")
        if tensor.numel() == 0 or tensor.is_meta:
            continue
        storage = tensor.untyped_storage().data_ptr()
        if storage in owners:
            raise CaptureError(
                f"{owners[storage]} and {name} share memory but are two tensors; make them one parameter, or copy one"
            )
        owners[storage] = name
