"""Optimizers as pure state: which tensors they carry from step to step, and the op that updates a parameter.

Torch's own code computes learning rates and bias corrections from host numbers, which no graph can see, and takes
dozens of calls for each parameter. Here an update is one op, `samebits::optimize`, whose mathematics stands in
`rules_optimizer.py`. The learning rate is an input of the graph (f64, one per parameter group), so a schedule changes
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch

from samebits.exec.capture.source import current_line
from samebits.exec.errors import CaptureError

Tensors = dict[str, torch.Tensor]
Group = dict[str, Any]
_BETA_POWERS: Final = ("beta1_power", "beta2_power")
_STEP: Final = "step"
SETS_RATE: Final = (
    "the step sets the optimizer's lr, which is an input of the graph; pass a function of the step's number, or a "
    "scheduler of torch, as schedule="
)


def initial_state(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> tuple[Tensors, dict[str, float]]:
    """Return the optimizer's state by logical name, and the value of what is made up because it hasn't stepped yet.

    `names` gives the parameter's name by its id(). Raises CaptureError for an optimizer that isn't supported.
    """
    _check_optimizer(optimizer, names)
    state: Tensors = {}
    made: dict[str, float] = {}
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            name, own = names[id(parameter)], optimizer.state.get(parameter, {})
            for key in state_keys(optimizer, group):
                found = own.get(key)
                if found is None:
                    made[f"{name}/{key}"] = 0.0
                state[f"{name}/{key}"] = torch.zeros_like(parameter) if found is None else found
        done = _steps_done(optimizer, group)
        for key, value in _shared_state(optimizer, group, done).items():
            state[f"group{index}/{key}"] = torch.tensor(value, dtype=torch.float64)
            if done == 0:
                made[f"group{index}/{key}"] = value
    return {name: tensor.detach().clone() for name, tensor in state.items()}, made


def _steps_done(optimizer: torch.optim.Optimizer, group: Group) -> int:
    steps = {int(optimizer.state.get(p, {}).get(_STEP, 0)) for p in group["params"]}
    if len(steps) > 1:
        raise CaptureError("parameters of one optimizer group have made different numbers of steps")
    return max(steps, default=0)


def _shared_state(optimizer: torch.optim.Optimizer, group: Group, done: int) -> dict[str, float]:
    """Return what a group carries once for all its parameters, after so many steps."""
    if isinstance(optimizer, torch.optim.Adagrad):
        return {_STEP: float(done)}
    if not isinstance(optimizer, torch.optim.Adam):
        return {}
    powers = {}
    for beta, key in zip(group["betas"], _BETA_POWERS, strict=True):
        powers[key] = 1.0
        for _ in range(done):
            powers[key] *= float(beta)
    return powers


def bind_state(
    optimizer: torch.optim.Optimizer,
    state: Tensors,
    parameters: Tensors,
    names: Mapping[int, str],
    rates: Sequence[torch.Tensor],
) -> None:
    """Make the optimizer work on traced `parameters`, `state` and `rates` (one per group) instead of its own."""
    new_names = {id(parameter): name for name, parameter in parameters.items()}
    groups = []
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        groups.append({**group, "lr": rate, "params": [parameters[names[id(p)]] for p in group["params"]]})
    for group in groups:
        for parameter in group["params"]:
            keys = state_keys(optimizer, group)
            optimizer.state[parameter] = {key: state[f"{new_names[id(parameter)]}/{key}"] for key in keys}
    optimizer.param_groups = groups
    optimizer.step = _step_of(optimizer, state, rates)  # type: ignore[method-assign,assignment]


def read_state(optimizer: torch.optim.Optimizer, state: Tensors, parameters: Tensors) -> Tensors:
    """Return the state after the traced step, under the names of `state`."""
    result = dict(state)
    names = {id(parameter): name for name, parameter in parameters.items()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for key in state_keys(optimizer, group):
                result[f"{names[id(parameter)]}/{key}"] = optimizer.state[parameter][key]
    return result


def _check_optimizer(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> None:
    kind = type(optimizer)
    if kind not in _OPTIONS:
        known = ", ".join(sorted(one.__name__ for one in _OPTIONS))
        raise CaptureError(f"optimizer {kind.__module__}.{kind.__qualname__} has no rule ({known} have)")
    own_step = optimizer.__dict__.get("step")
    if own_step is not None and not getattr(own_step, "_wrapped_by_lr_sched", False):
        raise CaptureError("optimizer.step was replaced by another function, which the graph would not call")
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise CaptureError("the optimizer has step hooks")
    for group in optimizer.param_groups:
        if group.get("dampening"):
            raise CaptureError("SGD with dampening treats its first step apart; use dampening=0")
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise CaptureError(f"the optimizer updates a tensor {tuple(parameter.shape)} that is not in the model")


def state_keys(optimizer: torch.optim.Optimizer, group: Group) -> list[str]:
    """Return the tensors that an optimizer keeps for each parameter of a group, by torch's names."""
    if isinstance(optimizer, torch.optim.SGD):
        return ["momentum_buffer"] if group["momentum"] else []
    if isinstance(optimizer, torch.optim.RMSprop):
        wanted = {"square_avg": True, "momentum_buffer": group["momentum"], "grad_avg": group["centered"]}
        return [key for key, kept in wanted.items() if kept]
    if isinstance(optimizer, torch.optim.Adagrad):
        return ["sum"]
    return ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else [])]


@torch.library.custom_op("samebits::optimize", mutates_args=())
def optimize_op(
    kind: str,
    p: torch.Tensor,
    gradient: torch.Tensor,
    own: Sequence[torch.Tensor],
    scalars: Sequence[torch.Tensor],
    options: str,
    values: Sequence[float],
) -> list[torch.Tensor]:
    """Return the parameter and the optimizer's tensors for it after an update; traced only.

    `options` are names with commas between, `values` theirs.
    """
    raise NotImplementedError("an update is traced, not computed")


@optimize_op.register_fake
def _(kind: str, p: Any, gradient: Any, own: Any, scalars: Any, options: Any, values: Any) -> list[torch.Tensor]:
    return [torch.empty_like(tensor) for tensor in (p, *own)]


def _step_of(optimizer: torch.optim.Optimizer, state: Tensors, rates: Sequence[torch.Tensor]) -> Callable[..., None]:
    stepped: list[set[int]] = []

    @torch.no_grad()
    def step(closure: Any = None) -> None:
        if closure is not None:
            raise CaptureError("optimizer.step(closure) is not supported; call loss.backward() before it")
        stepped.append({id(p) for group in optimizer.param_groups for p in group["params"] if p.grad is not None})
        if stepped[-1] != stepped[0]:
            raise CaptureError("the step calls optimizer.step() twice, with gradients of different parameters")
        for index, group in enumerate(optimizer.param_groups):
            if group["lr"] is not rates[index]:
                raise CaptureError(SETS_RATE, current_line())
            scalars = _advance_shared(optimizer, group, state, f"group{index}/")
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _update(optimizer, parameter, group, scalars)

    return step


def _update(
    optimizer: torch.optim.Optimizer, parameter: torch.Tensor, group: Group, scalars: Sequence[torch.Tensor]
) -> None:
    keys, own = state_keys(optimizer, group), optimizer.state[parameter]
    options = {name: group[name] for name in _OPTIONS[type(optimizer)]}
    if "betas" in options:
        options["beta1"], options["beta2"] = options.pop("betas")
    new = torch.ops.samebits.optimize(
        type(optimizer).__name__,
        parameter,
        parameter.grad,
        [own[key] for key in keys],
        list(scalars),
        ",".join(options),
        [float(value) for value in options.values()],
    )
    parameter.copy_(new[0])
    own.update(zip(keys, new[1:], strict=True))


def _advance_shared(
    optimizer: torch.optim.Optimizer, group: Group, state: Tensors, prefix: str
) -> tuple[torch.Tensor, ...]:
    """Advance what a group shares; returns the f64 scalars of its updates, in the order that the rules want."""
    rate = group["lr"]
    if isinstance(optimizer, torch.optim.Adagrad):
        done = state[prefix + _STEP]
        state[prefix + _STEP] = done + 1.0
        return (rate / (1.0 + done * float(group["lr_decay"])),)
    if not isinstance(optimizer, torch.optim.Adam):
        return (rate,)
    for key, beta in zip(_BETA_POWERS, group["betas"], strict=True):
        state[prefix + key] = state[prefix + key] * float(beta)
    first, second = (1.0 - state[prefix + key] for key in _BETA_POWERS)
    return rate / first, torch.sqrt(second), 1.0 - rate * float(group["weight_decay"])


# The options of a parameter group that an update depends on.
_ADAM: Final = ("betas", "eps", "weight_decay", "decoupled_weight_decay", "amsgrad", "maximize")
_OPTIONS: Final[dict[type, tuple[str, ...]]] = {
    torch.optim.SGD: ("momentum", "nesterov", "weight_decay", "maximize"),
    torch.optim.Adam: _ADAM,
    torch.optim.AdamW: _ADAM,
    torch.optim.RMSprop: ("alpha", "eps", "momentum", "centered", "weight_decay", "maximize"),
    torch.optim.Adagrad: ("eps", "weight_decay", "maximize"),
}
