"""The init graph: the part of a job's initial state that follows from its seed, or is made up of one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from samebits.exec.capture.lowering import lower, type_of
from samebits.exec.capture.subject import MODEL, Tensors
from samebits.exec.capture.trace import functional, new_key, trace
from samebits.exec.errors import CaptureError
from samebits.exec.graph import Graph
from samebits.exec.job import KEY, STATE

Init = Callable[[], torch.nn.Module]


def capture_init(init: Init | None, state: Tensors, made: Mapping[str, float]) -> Graph | None:
    """Return the graph of what is made up, and with `init` of the model's tensors; None if that is nothing.

    `init` returns a new model, with the parameters and buffers of the one that is trained. Its random calls draw from
    the job's seed, in the order of the calls. Raises CaptureError.
    """
    if init is None and not made:
        return None
    if isinstance(init, torch.nn.Module):
        raise CaptureError("init is a model; want a function that returns a new one")
    if init is not None and not any(name.startswith(MODEL) for name in state):
        raise CaptureError("init gives the weights of a model; a functional step has none")

    def body(tensors: Tensors) -> Tensors:
        result = {} if init is None else {STATE + MODEL + name: x for name, x in _own_tensors(init(), state).items()}
        for name, value in made.items():
            result[STATE + name] = torch.full(state[name].shape, value, dtype=state[name].dtype)
        return result

    return lower(functional(trace(body, {KEY: new_key()})), "highest")


def _own_tensors(model: Any, state: Tensors) -> Tensors:
    if not isinstance(model, torch.nn.Module):
        raise CaptureError(f"init returns a {type(model).__name__}; want a function that returns a new model")
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    wanted = {name.removeprefix(MODEL): x for name, x in state.items() if name.startswith(MODEL)}
    different = sorted(set(own) ^ set(wanted))
    if different:
        raise CaptureError(f"init returns a model that differs from the one trained in {different[0]}")
    for name, tensor in own.items():
        if not isinstance(tensor, FakeTensor):
            raise CaptureError(f"init returns {name} as it was before; it has to make a new model each time")
        if type_of(tensor) != type_of(wanted[name]):
            raise CaptureError(
                f"init gives {name} as {type_of(tensor)}, the model that is trained has {type_of(wanted[name])}"
            )
    return own
