"""Capture a model's forward pass as a step of a job.

Results are part of the state, as `output/NAME`: what a run leaves behind and commits to. Weights are passed through.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch.utils import _pytree as pytree

from samebits.exec.capture.program import EagerRun
from samebits.exec.capture.subject import MODEL, Subject, Tensors, everything_kept
from samebits.exec.capture.swap import swapped
from samebits.exec.errors import CaptureError
from samebits.exec.job import BATCH, STATE
from samebits.exec.outputs import OUTPUT

POSITION: Final = "position"


class InferenceProgram:
    """Forward passes over batches of rows: the outputs of batch t go to its rows of `output/NAME`."""

    def __init__(
        self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], rows: int, outputs: Sequence[str] | None
    ) -> None:
        """`inputs` are those of one batch, by the names of the model's arguments; raises CaptureError."""
        self._subject = Subject.of(model, None)
        self.function: Callable[..., Any] = model.forward
        self.model: torch.nn.Module = model
        self._wanted = outputs
        self._batch_size = next(iter(inputs.values())).shape[0]
        self._whole = self._batch_size == rows
        with everything_kept(self._subject), torch.no_grad():
            found = self._call(dict(inputs)) if not self._is_meta() else {}
        self.initial = dict(self._subject.state)
        self.made: dict[str, float] = {}
        for name, tensor in found.items():
            shape = tensor.shape if self._whole else self._rows_shape(name, tensor, rows)
            self._make(OUTPUT + name, torch.zeros(shape, dtype=tensor.dtype))
        if not self._whole:
            self._make(POSITION, torch.zeros((), dtype=torch.int64))

    def _is_meta(self) -> bool:
        return any(tensor.is_meta for tensor in self._subject.state.values())

    def _make(self, name: str, tensor: torch.Tensor) -> None:
        self.initial[name] = tensor
        self.made[name] = 0.0

    def _rows_shape(self, name: str, tensor: torch.Tensor, rows: int) -> tuple[int, ...]:
        if tensor.dim() == 0 or tensor.shape[0] != self._batch_size:
            raise CaptureError(
                f"output {name} is {tuple(tensor.shape)}, not one row for each of the {self._batch_size} of a batch; "
                "give outputs= without it, or run all rows as one batch"
            )
        return (rows, *tensor.shape[1:])

    def rates(self) -> tuple[str, ...]:
        """Name no rates."""
        return ()

    def run(self, tensors: Tensors) -> Tensors:
        """Run a traced forward pass."""
        arguments = {name.removeprefix(BATCH): x for name, x in tensors.items() if name.startswith(BATCH)}
        with swapped(self._subject, tensors) as after, torch.no_grad():
            found = self._call(arguments)
            result = {STATE + name: tensor for name, tensor in after().items()}
        state = {name: tensors[STATE + name] for name in self.made}
        return result | {STATE + name: tensor for name, tensor in self._placed(state, found).items()}

    def _placed(self, state: Tensors, found: Tensors) -> Tensors:
        """Return the new state besides the weights: a batch's outputs among those of the other rows."""
        if self._whole:
            return {OUTPUT + name: tensor for name, tensor in found.items()}
        rows = state[POSITION] + torch.arange(self._batch_size)
        new = {OUTPUT + name: state[OUTPUT + name].index_copy(0, rows, tensor) for name, tensor in found.items()}
        return new | {POSITION: state[POSITION] + self._batch_size}

    def _call(self, arguments: Tensors) -> Tensors:
        """Return the model's output tensors by name."""
        paths, _ = pytree.tree_flatten_with_path(self.model(**arguments))
        found: Tensors = {}
        for path, leaf in paths:
            name = "/".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path) or "result"
            if self._wanted is not None and name.partition("/")[0] not in self._wanted:
                continue
            if leaf is None:
                continue
            if not isinstance(leaf, torch.Tensor):
                raise CaptureError(f"output {name} is a {type(leaf).__name__}, not a tensor; say which with outputs=")
            found[name] = leaf
        if not found:
            raise CaptureError("the model returns no tensor" if self._wanted is None else f"no output {self._wanted}")
        return found

    @contextlib.contextmanager
    def eager(self) -> Iterator[EagerRun]:
        """Run the user's own model."""
        with everything_kept(self._subject), torch.no_grad():
            yield _InferenceRun(self)


class _InferenceRun:
    def __init__(self, program: InferenceProgram) -> None:
        self._program = program
        self._state = {name: program.initial[name].clone() for name in program.made}

    def step(self, arguments: Tensors, rates: Mapping[str, float]) -> Tensors:
        self._state = self._program._placed(self._state, self._program._call(arguments))
        return {}

    def state(self) -> Tensors:
        own = {MODEL + name: tensor for name, tensor in self._program.model.named_buffers()}
        return {name: tensor.detach().clone() for name, tensor in (own | self._state).items()}
