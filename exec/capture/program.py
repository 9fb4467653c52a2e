"""What is captured: a step that maps a state and a batch to a new state and metrics, in either of two forms."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import torch
from torch.utils import _pytree as pytree

from samebits.exec.capture.schedule import schedules_kept
from samebits.exec.capture.subject import GRADIENT, MODEL, Subject, Tensors, everything_kept
from samebits.exec.capture.swap import left_gradients, swapped
from samebits.exec.errors import CaptureError
from samebits.exec.job import BATCH, METRICS, RATE, STATE, under

Arguments = Mapping[str, torch.Tensor]
RATE_ARGUMENT: Final = "rate"


class EagerRun(Protocol):
    """The program as its author runs it, step after step."""

    def step(self, arguments: Tensors, rates: Mapping[str, float]) -> Tensors:
        """Run one step; returns the metrics."""

    def state(self) -> Tensors:
        """Return copies of the state by name, as far as the program holds it itself."""


class Program(Protocol):
    """A step that can be traced, and run in eager PyTorch."""

    @property
    def initial(self) -> Tensors:
        """Return the initial state by name; on the meta device where it has no values."""

    @property
    def made(self) -> Mapping[str, float]:
        """Return what is made up in the initial state: names, and the one value of each tensor."""

    @property
    def model(self) -> torch.nn.Module | None:
        """Return the model whose modules name the sites of random draws."""

    @property
    def function(self) -> Callable[..., Any]:
        """Return the user's function."""

    def rates(self) -> tuple[str, ...]:
        """Return the names of the learning rates that it takes."""

    def run(self, tensors: Tensors) -> Tensors:
        """Run a traced step: from state/*, batch/* and rate/* to state/* and metrics/*."""

    def eager(self) -> contextlib.AbstractContextManager[EagerRun]:
        """Return a run in eager PyTorch; everything is put back at its end."""


class ObjectProgram:
    """An ordinary training step, which changes a model and an optimizer that it closes over."""

    def __init__(self, subject: Subject, step: Callable[..., Any]) -> None:
        self._subject, self.function = subject, step
        self.initial, self.made, self.model = subject.state, subject.made, subject.model
        self.trained = [name for name, p in subject.model.named_parameters() if p.requires_grad]
        self.leftover: list[str] = []  # gradients that the last traced step left behind

    def rates(self) -> tuple[str, ...]:
        """Name one rate for each parameter group."""
        optimizer = self._subject.optimizer
        return () if optimizer is None else tuple(f"{RATE}{i}" for i in range(len(optimizer.param_groups)))

    def run(self, tensors: Tensors) -> Tensors:
        """Run a traced step on swapped objects."""
        with swapped(self._subject, tensors) as after:
            metrics = check_metrics(self.function(**under(BATCH, tensors)))
            result = {STATE + name: tensor for name, tensor in after().items()}
            self.leftover = left_gradients(self._subject.model, self.trained)
        return result | {METRICS + name: tensor for name, tensor in metrics.items()}

    def kept(self) -> contextlib.AbstractContextManager[None]:
        """Put the user's objects back at the end."""
        return everything_kept(self._subject)

    @contextlib.contextmanager
    def eager(self) -> Iterator[EagerRun]:
        """Run on the user's own objects, from the job's initial state."""
        with self.kept(), schedules_kept(self._subject.schedules):
            self._subject.write_own_model(self.initial)
            yield _ObjectRun(self._subject, self.function)

    def gradients_before(self) -> Tensors:
        """Return stand-ins for gradients that were there before the step."""
        return {GRADIENT + name: torch.zeros_like(self.initial[MODEL + name]) for name in self.trained}

    def has_gradients(self) -> list[str]:
        """Return the parameters whose gradient is not zero now."""
        own = self._subject.model.named_parameters()
        return [name for name, p in own if p.grad is not None and not p.is_meta and bool((p.grad != 0).any())]


class _ObjectRun:
    def __init__(self, subject: Subject, step: Callable[..., Any]) -> None:
        self._subject, self._step = subject, step

    def step(self, arguments: Tensors, rates: Mapping[str, float]) -> Tensors:
        if self._subject.optimizer is not None:
            for index, group in enumerate(self._subject.optimizer.param_groups):
                group["lr"] = rates[f"{RATE}{index}"]
        return check_metrics(self._step(**arguments))

    def state(self) -> Tensors:
        return self._subject.read_own_state()


class FunctionalProgram:
    """A pure step, as torch.func wants it: state, metrics = step(state, **batch); a state is a tree of tensors."""

    def __init__(self, step: Callable[..., Any], state: Any, *, takes_rate: bool) -> None:
        self._spec = pytree.tree_structure(state)
        self.function, self._takes_rate = step, takes_rate
        self.initial: Tensors = {name: leaf.detach().clone() for name, leaf in _named_tensors(state).items()}
        self.made: Mapping[str, float] = {}
        self.model: torch.nn.Module | None = None

    def rates(self) -> tuple[str, ...]:
        """Name the one rate, if a schedule gives it."""
        return (f"{RATE}0",) if self._takes_rate else ()

    def run(self, tensors: Tensors) -> Tensors:
        """Run a traced step."""
        state = {name: tensors[STATE + name] for name in self.initial}
        arguments = under(BATCH, tensors)
        if self._takes_rate:
            if RATE_ARGUMENT in arguments:
                raise CaptureError("the schedule gives the argument rate; give the data of that name another one")
            arguments[RATE_ARGUMENT] = tensors[f"{RATE}0"]
        new, metrics = self.call(state, arguments)
        return {STATE + name: x for name, x in new.items()} | {METRICS + name: x for name, x in metrics.items()}

    def call(self, state: Tensors, arguments: Arguments) -> tuple[Tensors, Tensors]:
        """Call the user's function; raises CaptureError if it doesn't give back a state of the same form."""
        found = self.function(pytree.tree_unflatten(list(state.values()), self._spec), **arguments)
        if not isinstance(found, tuple) or len(found) != 2:
            raise CaptureError("a functional step returns (state, metrics)")
        new = _named_tensors(found[0])
        different = sorted(set(new) ^ set(state))
        if different:
            raise CaptureError(f"the step returns a state of another form than it takes: they differ in {different[0]}")
        return {name: new[name] for name in state}, check_metrics(found[1])

    @contextlib.contextmanager
    def eager(self) -> Iterator[EagerRun]:
        """Run with real tensors."""
        yield _FunctionalRun(self)


class _FunctionalRun:
    def __init__(self, program: FunctionalProgram) -> None:
        self._program = program
        self._state = {name: tensor.clone() for name, tensor in program.initial.items()}

    def step(self, arguments: Tensors, rates: Mapping[str, float]) -> Tensors:
        given = dict(arguments)
        for rate in rates.values():
            given[RATE_ARGUMENT] = torch.tensor(rate, dtype=torch.float64)
        self._state, metrics = self._program.call(self._state, given)
        return metrics

    def state(self) -> Tensors:
        return {name: tensor.detach().clone() for name, tensor in self._state.items()}


def named_leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a tree of dictionaries and lists, each with its path as a name: ``layers/0/weight``."""
    for path, leaf in pytree.tree_flatten_with_path(tree)[0]:
        yield "/".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path), leaf


def _named_tensors(state: Any) -> Tensors:
    """Return the tensors of a tree by their paths; raises CaptureError for other leaves, or two of one path."""
    found: Tensors = {}
    for name, leaf in named_leaves(state):
        if not isinstance(leaf, torch.Tensor) or name in found or not name:
            raise CaptureError(f"state {name!r} is a {type(leaf).__name__} or occurs twice; want named tensors")
        found[name] = leaf
    return found


def check_metrics(metrics: Any) -> Tensors:
    """Return a step's metrics; raises CaptureError if they are not scalar tensors by name."""
    if not isinstance(metrics, dict) or not metrics:
        raise CaptureError('the step must return its metrics as a dictionary of scalar tensors, as in {"loss": loss}')
    for name, value in metrics.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise CaptureError(f"metric name {name!r} is not a word")
        if not isinstance(value, torch.Tensor) or value.dim():
            raise CaptureError(f"metric {name!r} is not a scalar tensor")
    return metrics
