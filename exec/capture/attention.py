"""`scaled_dot_product_attention`, as one definition whose products have the grids of the arithmetic contract.

    scores = q k^T scale (grid columns: each key its own exponent), masked by -inf; p = softmax(scores), then dropout;
    result = p v (grid rows: each value its own exponent)

A key that is masked, padded or still to come has the probability 0 and changes no bit: the result of a query doesn't
depend on the batch it sits in, on padding, or on whether keys come from a cache. Half-precision operands are widened to
f32 and the result is rounded once. A query that may look at no key gives 0. Torch's own kernels are not traced: which
one is chosen depends on the machine, and one of them gives wrong gradients when it is decomposed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from samebits.exec.errors import CaptureError

_KEYS: Final = ("AutogradCPU", "AutogradMeta")
_HALVES: Final = (torch.float16, torch.bfloat16)


@torch.library.custom_op("samebits::weigh_values", mutates_args=())
def _weigh_values_op(p: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """p v for p (B, L, S) and v (B, S, E); a traced call is lowered with grid rows."""
    return torch.bmm(p, v)


@_weigh_values_op.register_fake
def _(p: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return p.new_empty((p.shape[0], p.shape[1], v.shape[2]))


class _WeighValues(torch.autograd.Function):
    """The op with its gradients, which are batched products."""

    @staticmethod
    def forward(p: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.samebits.weigh_values(p, v)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        p, v = ctx.saved_tensors
        return torch.bmm(gradients[0], v.transpose(1, 2)), torch.bmm(p.transpose(1, 2), gradients[0])


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Return the attention of query (..., L, E) over key (..., S, E) and value (..., S, V): (..., L, V).

    Arguments as of torch's `scaled_dot_product_attention`: `attn_mask` is True where a key may be looked at, or is
    added to the scores; `is_causal` lets query i look at the keys 0 .. i.
    """
    if is_causal and attn_mask is not None:
        raise CaptureError("scaled_dot_product_attention takes attn_mask or is_causal, not both")
    dtype, (length, size), keys = query.dtype, query.shape[-2:], key.shape[-2]
    q, k, v = (x.float() if x.dtype in _HALVES else x for x in (query, key, value))
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    batch = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:]) for x in (q, k, v))
    scores = torch.bmm(q, k.transpose(1, 2)) * (1 / math.sqrt(size) if scale is None else scale)
    if attn_mask is not None:
        wide = (*batch, length, keys)
        attn_mask = attn_mask.expand(wide).reshape(-1, length, keys)
    if is_causal:
        attn_mask = torch.ones(length, keys, dtype=torch.bool, device=q.device).tril()
    p = _probabilities(scores, attn_mask, every_query_sees=is_causal)
    if dropout_p > 0.0:
        p = functional.dropout(p.reshape(*batch, length, keys), dropout_p).reshape(p.shape)
    result: torch.Tensor = _WeighValues.apply(p, v)  # type: ignore[no-untyped-call]
    return result.reshape(*batch, length, v.shape[-1]).to(dtype)


def _probabilities(scores: torch.Tensor, mask: torch.Tensor | None, *, every_query_sees: bool) -> torch.Tensor:
    if mask is None:
        return torch.softmax(scores, -1)
    added = mask.dtype != torch.bool
    masked = scores + mask.to(scores.dtype) if added else scores.masked_fill(~mask, -math.inf)
    if every_query_sees:
        return torch.softmax(masked, -1)
    seen = mask.detach() != -math.inf if added else mask
    sees = seen.any(-1, keepdim=True)  # without this, a query that sees no key would be NaN, and its gradient too
    return torch.softmax(masked.masked_fill(~sees, 0.0), -1).masked_fill(~sees, 0.0)


@contextlib.contextmanager
def own_attention() -> Iterator[None]:
    """Let `scaled_dot_product_attention` be `attention`, wherever it is called from."""
    library = torch.library.Library("aten", "IMPL")
    for key in _KEYS:  # calls from within torch, as in nn.MultiheadAttention
        library.impl("scaled_dot_product_attention", attention, key)
    try:
        with _Intercept():
            yield
    finally:
        library._destroy()


class _Intercept(TorchFunctionMode):
    """Calls from the user's code, which may be under torch.func transforms or autocast."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return _without_autocast(attention, args, kwargs or {})


def _without_autocast(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a function as autocast would: with operands of its type, and switched off inside."""
    device = args[0].device.type if args else kwargs["query"].device.type
    if not torch.is_autocast_enabled(device):
        return function(*args, **kwargs)
    dtype = torch.get_autocast_dtype(device)

    def cast(x: Any) -> Any:
        return x.to(dtype) if isinstance(x, torch.Tensor) and x.dtype == torch.float32 else x

    with torch.autocast(device, enabled=False):
        return function(*map(cast, args), **{name: cast(x) for name, x in kwargs.items()})
