"""ATen calls that are traced as others, because their schema hides what they write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch


def _declare_mutation(
    x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float
) -> Any:
    """Trace a training batch norm as the op whose schema says that it writes the running statistics."""
    if not training or mean is None:
        return NotImplemented
    return torch.ops.aten._native_batch_norm_legit(x, weight, bias, mean, var, True, momentum, eps)


# A decomposition table for make_fx.
REWRITTEN: Final[Mapping[Any, Callable[..., Any]]] = {torch.ops.aten.native_batch_norm.default: _declare_mutation}
