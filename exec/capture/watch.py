"""Watch a trace as it happens and refuse, at the user's line, what a static graph can't hold."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from samebits.exec.capture.draw_calls import Draws
from samebits.exec.capture.source import current_line
from samebits.exec.errors import CaptureError

_VALUE_OF_TENSOR = ("aten._local_scalar_dense", "aten.item", "aten.is_nonzero", "aten.equal")
# Ops without a rule, by how their names start, and what to do instead.
_WAYS_AROUND = {
    "aten._foreach_": "pass foreach=False",
    "aten._amp_": "bf16 autocast needs no GradScaler; leave it out",
    **dict.fromkeys(
        ("aten.nonzero", "aten.masked_select", "aten.unique", "aten._unique"),
        "its shape depends on values; use torch.where, or multiply by the mask",
    ),
    **dict.fromkeys(
        ("aten.lstm", "aten.gru", "aten.rnn", "aten._thnn_fused", "aten.mkldnn_rnn"),
        "write the cell in linear layers, sigmoid and tanh",
    ),
    "aten._embedding_bag": "use an embedding and a sum or mean over it",
    "aten.linalg_": "decompositions of matrices have no rules",
}
# Bookkeeping that leaves no trace in the lowered graph.
_PASSED = ("profiler.", "prim.")


class CaptureWatch(TorchDispatchMode):
    """Refuses ops without a lowering rule, Python values of tensors, tensors from outside, and writes to inputs.

    `lines` collects the user's lines at which each op was called. Random calls become draws from the job's key.
    """

    def __init__(
        self, supported: Collection[str], inputs: Collection[torch.Tensor], lines: dict[str, set[str]], draws: Draws
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._supported = supported
        self._inputs = {_storage(tensor) for tensor in inputs}
        self._lines = lines
        self._refused: CaptureError | None = None
        self._draws = draws

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Check one ATen call, then let it go on."""
        kwargs = dict(kwargs or {})
        name, drawn = functional_name(func), self._draws.handles(func)
        if func.namespace == "aten" and name not in self._supported and not drawn:
            with self:
                found = func.decompose(*args, **kwargs)  # what torch defines by other ops
            if found is not NotImplemented:
                return found
        try:
            self._check_call(func, name, args, kwargs, drawn=drawn)
            if drawn:
                return self._draws.call(func, args, kwargs)
        except CaptureError as error:
            self._refused = self._refused or CaptureError(error.reason, error.where or current_line())
            raise self._refused from None
        return func(*args, **kwargs)

    def check(self) -> None:
        """Raise the first refusal again, which the user's code may have caught."""
        if self._refused is not None:
            raise self._refused

    def _check_call(self, func: Any, name: str, args: Any, kwargs: Any, *, drawn: bool) -> None:
        if name in _VALUE_OF_TENSOR:
            raise CaptureError(
                f"{name} takes the Python value of a tensor (.item(), float(), a branch on a tensor)"
                ", which a static graph can't follow; keep it a tensor, or use torch.where",
                current_line(),
            )
        if name.startswith(_PASSED):
            return
        line = current_line()
        if line is not None:
            self._lines.setdefault(name, set()).add(line)
        if torch.Tag.nondeterministic_seeded in func.tags and not drawn:
            raise CaptureError(f"{name} draws from torch's hidden random generator and has no rule", line)
        if name not in self._supported and not drawn:
            hint = next((f"; {way}" for start, way in _WAYS_AROUND.items() if name.startswith(start)), "")
            raise CaptureError(f"{name} has no lowering rule{hint}", line)
        if name in ("aten.lift_fresh", "aten.lift_fresh_copy"):
            return
        for tensor in _tensors((args, kwargs)):
            if not isinstance(tensor, FakeTensor):
                raise CaptureError(
                    f"{name} reads a tensor {tuple(tensor.shape)} from outside the step; "
                    "make it a parameter or buffer of the model, or pass it as data",
                    line,
                )
        if func._schema.is_mutable and args and _storage(args[0]) in self._inputs:
            raise CaptureError(f"{name} writes into an input of the step; write into a clone of it", line)


def functional_name(func: Any) -> str:
    """Return the name of an ATen op without overload and without the mark of its in-place form: ``aten.add``."""
    namespace, _, name = func._schema.name.partition("::")
    if func._schema.is_mutable and name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    return f"{namespace}.{name}"


def functional_name_of(node: torch.fx.Node) -> str:
    """Return the functional name of what an FX node calls."""
    return functional_name(node.target) if isinstance(node.target, torch._ops.OpOverload) else str(node.target)


def _storage(value: Any) -> int:
    """Return what a tensor shares with its views."""
    return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) else 0


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    return []
