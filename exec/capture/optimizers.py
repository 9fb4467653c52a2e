"""Optimizers as pure state: which tensors they carry from step to step, and how they update.

SGD is traced as it is. Adam and AdamW compute their bias correction from a host integer in float64, which no graph
can see; here the same mathematics is written with tensors: each group carries beta1^t and beta2^t as float64 products.
    m = m + (1 - beta1) (g - m)        v = beta2 v + (1 - beta2) g g        b1 = beta1 b1        b2 = beta2 b2
    p = p - f32(lr / (1 - b1)) m / (sqrt(v) / f32(sqrt(1 - b2)) + eps)
(Kingma and Ba, arXiv 1412.6980; Loshchilov and Hutter, arXiv 1711.05101; decay before the update, as in torch.optim.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from samebits.exec.errors import CaptureError

Tensors = dict[str, torch.Tensor]
_MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq", "max": "max_exp_avg_sq"}


def initial_state(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> Tensors:
    """Return the optimizer's state by logical name, made up as zeros where it hasn't stepped yet.

    `names` gives the parameter's name by its id(). Raises CaptureError for an optimizer that isn't supported.
    """
    _check_optimizer(optimizer, names)
    state: Tensors = {}
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            name, own = names[id(parameter)], optimizer.state.get(parameter, {})
            for key in state_keys(optimizer, group):
                found = own.get(key)
                state[f"{name}/{key}"] = torch.zeros_like(parameter) if found is None else found
        if isinstance(optimizer, torch.optim.Adam):
            steps = {int(optimizer.state.get(p, {}).get("step", 0)) for p in group["params"]}
            if len(steps) > 1:
                raise CaptureError("parameters of one optimizer group have made different numbers of steps")
            for beta, key in zip(group["betas"], ("beta1_power", "beta2_power"), strict=True):
                power = 1.0
                for _ in range(max(steps, default=0)):
                    power *= float(beta)
                state[f"group{index}/{key}"] = torch.tensor(power, dtype=torch.float64)
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def bind_state(optimizer: torch.optim.Optimizer, state: Tensors, parameters: Tensors, names: Mapping[int, str]) -> None:
    """Make the optimizer work on traced `parameters` and `state` instead of its own."""
    new_names = {id(parameter): name for name, parameter in parameters.items()}
    groups = []
    for group in optimizer.param_groups:
        plain = {"foreach": False, "fused": False} if "foreach" in group else {}
        groups.append({**group, **plain, "params": [parameters[names[id(p)]] for p in group["params"]]})
    for group in groups:
        for parameter in group["params"]:
            keys = state_keys(optimizer, group)
            optimizer.state[parameter] = {key: state[f"{new_names[id(parameter)]}/{key}"] for key in keys}
    optimizer.param_groups = groups
    if isinstance(optimizer, torch.optim.Adam):
        optimizer.step = _adam_step(optimizer, state)  # type: ignore[method-assign]


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
    if kind not in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        raise CaptureError(f"optimizer {kind.__module__}.{kind.__qualname__} has no rule (SGD, Adam and AdamW have)")
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


def state_keys(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> list[str]:
    """Return the tensors that an optimizer keeps for each parameter of a group, by torch's names."""
    if isinstance(optimizer, torch.optim.SGD):
        return ["momentum_buffer"] if group["momentum"] else []
    return [_MOMENTS["m"], _MOMENTS["v"], *([_MOMENTS["max"]] if group["amsgrad"] else [])]


def _adam_step(optimizer: torch.optim.Optimizer, state: Tensors) -> Callable[..., None]:
    stepped: list[set[int]] = []

    @torch.no_grad()
    def step(closure: Any = None) -> None:
        if closure is not None:
            raise CaptureError("optimizer.step(closure) is not supported; call loss.backward() before it")
        stepped.append({id(p) for group in optimizer.param_groups for p in group["params"] if p.grad is not None})
        if stepped[-1] != stepped[0]:
            raise CaptureError("the step calls optimizer.step() twice, with gradients of different parameters")
        for index, group in enumerate(optimizer.param_groups):
            powers = [f"group{index}/beta1_power", f"group{index}/beta2_power"]
            for key, beta in zip(powers, group["betas"], strict=True):
                state[key] = state[key] * float(beta)
            first, second = (1.0 - state[key] for key in powers)
            step_size = (torch.full_like(first, float(group["lr"])) / first).to(torch.float32)
            root = torch.sqrt(second).to(torch.float32)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _adam_update(parameter, optimizer.state[parameter], group, step_size, root)

    return step


def _adam_update(
    parameter: torch.Tensor, own: dict[str, Any], group: dict[str, Any], step_size: torch.Tensor, root: torch.Tensor
) -> None:
    assert parameter.grad is not None
    gradient = -parameter.grad if group["maximize"] else parameter.grad
    lr, decay, (beta1, beta2) = float(group["lr"]), group["weight_decay"], group["betas"]
    if decay and group.get("decoupled_weight_decay"):
        parameter.mul_(1.0 - lr * decay)
    elif decay:
        gradient = gradient + parameter * decay
    moment = own[_MOMENTS["m"]]
    moment = moment + (gradient - moment) * (1.0 - float(beta1))
    variance = own[_MOMENTS["v"]] * float(beta2) + gradient * gradient * (1.0 - float(beta2))
    own[_MOMENTS["m"]], own[_MOMENTS["v"]] = moment, variance
    if group["amsgrad"]:
        own[_MOMENTS["max"]] = variance = torch.maximum(own[_MOMENTS["max"]], variance)
    denominator = torch.sqrt(variance) / root.to(variance.dtype) + group["eps"]
    parameter.sub_(moment / denominator * step_size.to(moment.dtype))
