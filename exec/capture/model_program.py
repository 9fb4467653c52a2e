"""What a job of a model without training is: weights that pass through, and a state that every step advances."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from samebits.exec.capture.program import EagerRun
from samebits.exec.capture.subject import MODEL, Subject, Tensors, everything_kept
from samebits.exec.capture.swap import swapped
from samebits.exec.job import BATCH, STATE, under


class ModelProgram(ABC):
    """A program over a model that is not trained; a subclass makes its state and says how a step advances it."""

    def __init__(self, model: torch.nn.Module) -> None:
        """Collect the weights; raises CaptureError for what can't be carried from step to step faithfully."""
        self._subject = Subject.of(model, None)
        self.function: Callable[..., Any] = model.forward
        self.model: torch.nn.Module = model
        self.initial: Tensors = dict(self._subject.state)
        self.made: dict[str, float] = {}

    def make(self, name: str, like: torch.Tensor) -> None:
        """Add zeros of a tensor's type to the state."""
        self.initial[name] = torch.zeros_like(like)
        self.made[name] = 0.0

    @abstractmethod
    def advance(self, state: Tensors, arguments: Tensors) -> Tensors:
        """Return the state besides the weights after one more step."""

    def rates(self) -> tuple[str, ...]:
        """Name no rates."""
        return ()

    def run(self, tensors: Tensors) -> Tensors:
        """Run a traced step."""
        with swapped(self._subject, tensors) as after, torch.no_grad():
            new = self.advance({name: tensors[STATE + name] for name in self.made}, under(BATCH, tensors))
            return {STATE + name: tensor for name, tensor in (after() | new).items()}

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Compute without gradients, and put the user's model back at the end."""
        with everything_kept(self._subject), torch.no_grad():
            yield

    @contextlib.contextmanager
    def eager(self) -> Iterator[EagerRun]:
        """Run the user's own model."""
        with self.kept():
            yield _ModelRun(self)


class _ModelRun:
    def __init__(self, program: ModelProgram) -> None:
        self._program = program
        self._state = {name: program.initial[name].clone() for name in program.made}

    def step(self, arguments: Tensors, rates: Mapping[str, float]) -> Tensors:
        self._state = self._program.advance(self._state, arguments)
        return {}

    def state(self) -> Tensors:
        own = {MODEL + name: tensor for name, tensor in self._program.model.named_buffers()}
        return {name: tensor.detach().clone() for name, tensor in (own | self._state).items()}
