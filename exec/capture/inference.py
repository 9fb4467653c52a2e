"""Capture a model's forward pass as a step of a job.

Results are part of the state, as `output/NAME`: what a run leaves behind and commits to. Weights are passed through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch

from samebits.exec.capture.model_program import ModelProgram
from samebits.exec.capture.program import named_leaves
from samebits.exec.capture.subject import Tensors, has_values
from samebits.exec.errors import CaptureError
from samebits.exec.outputs import OUTPUT

POSITION: Final = "position"


class InferenceProgram(ModelProgram):
    """Forward passes over batches of rows: the outputs of batch t go to its rows of `output/NAME`."""

    def __init__(
        self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], rows: int, outputs: Sequence[str] | None
    ) -> None:
        """`inputs` are those of one batch, by the names of the model's arguments; raises CaptureError."""
        super().__init__(model)
        self._wanted = outputs
        self._batch_size = next(iter(inputs.values())).shape[0]
        self._whole = self._batch_size == rows
        if not has_values(self.initial):
            raise CaptureError("the model is on the meta device and has no values; load its weights first")
        with self.kept():
            found = self._call(dict(inputs))
        for name, tensor in found.items():
            shape = tensor.shape if self._whole else self._rows_shape(name, tensor, rows)
            self.make(OUTPUT + name, tensor.new_empty(shape))
        if not self._whole:
            self.make(POSITION, torch.tensor(0))

    def _rows_shape(self, name: str, tensor: torch.Tensor, rows: int) -> tuple[int, ...]:
        if tensor.dim() == 0 or tensor.shape[0] != self._batch_size:
            raise CaptureError(
                f"output {name} is {tuple(tensor.shape)}, not one row for each of the {self._batch_size} of a batch; "
                "give outputs= without it, or run all rows as one batch"
            )
        return (rows, *tensor.shape[1:])

    def advance(self, state: Tensors, arguments: Tensors) -> Tensors:
        """Return the state with a batch's outputs among those of the other rows."""
        found = self._call(arguments)
        if self._whole:
            return {OUTPUT + name: tensor for name, tensor in found.items()}
        rows = state[POSITION] + torch.arange(self._batch_size)
        new = {OUTPUT + name: state[OUTPUT + name].index_copy(0, rows, tensor) for name, tensor in found.items()}
        return new | {POSITION: state[POSITION] + self._batch_size}

    def _call(self, arguments: Tensors) -> Tensors:
        """Return the model's output tensors by name."""
        found: Tensors = {}
        for path, leaf in named_leaves(self.model(**arguments)):
            name = path or "result"
            if leaf is None or (self._wanted is not None and name.partition("/")[0] not in self._wanted):
                continue
            if not isinstance(leaf, torch.Tensor):
                raise CaptureError(f"output {name} is a {type(leaf).__name__}, not a tensor; say which with outputs=")
            found[name] = leaf
        if not found:
            raise CaptureError("the model returns no tensor" if self._wanted is None else f"no output {self._wanted}")
        return found
