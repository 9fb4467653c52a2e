"""Tensors between PyTorch and NumPy, bf16 among them, which PyTorch does not hand over itself."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

_BF16 = np.dtype(ml_dtypes.bfloat16)


def to_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor's values as a contiguous array."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if plain.dtype == torch.bfloat16:
        return plain.view(torch.int16).numpy().view(_BF16)
    return plain.numpy()


def to_torch(array: NDArray[Any]) -> torch.Tensor:
    """Return a copy of an array as a tensor; raises TypeError for a type that PyTorch does not have."""
    if array.dtype == _BF16:
        return torch.from_numpy(np.array(array.view(np.int16), order="C")).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C"))
