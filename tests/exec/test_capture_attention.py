"""Attention in a captured step: torch's values and gradients, the grids of its products, and what changes no bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tests.exec.captured import (  # noqa: E402
    capture,
    check_same_bits,
    graph_of,
    normal,
    ordinary_step,
    out,
    run_graph,
    run_job,
)
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

from samebits.exec.errors import CaptureError  # noqa: E402
from samebits.exec.graph import Graph  # noqa: E402

Function = Callable[..., dict[str, Any]]


def qkv(length: int = 5, keys: int = 7, heads: int = 4, own: int = 4, dtype: Any = torch.float32) -> dict[str, Any]:
    """Return q (2, heads, length, 8), k (2, own, keys, 8), v (2, own, keys, 6)."""
    shapes = {"q": (2, heads, length, 8), "k": (2, own, keys, 8), "v": (2, own, keys, 6)}
    return {name: normal(*shape, seed=i, dtype=dtype) for i, (name, shape) in enumerate(shapes.items())}


def with_gradients(call: Callable[..., Any]) -> Function:
    """Return a function that gives the attention and the gradients of a weighted sum of it."""

    def both(**given: Any) -> dict[str, Any]:
        leaves = {n: x.detach().clone().requires_grad_(x.is_floating_point()) for n, x in given.items()}
        found = call(**leaves)
        weights = torch.arange(found.numel()).reshape(found.shape) % 13 / 13.0
        wanted = [name for name, x in leaves.items() if x.requires_grad]
        gradients = torch.autograd.grad((found.float() * weights).sum(), [leaves[name] for name in wanted])
        return {"out": found.detach(), **{f"d{n}": g for n, g in zip(wanted, gradients, strict=True)}}

    return both


def check_close(found: dict[str, Any], wanted: dict[str, Any], tolerance: float = 2e-6) -> None:
    """Assert that results differ by at most `tolerance` of the largest element, and in no special value."""
    assert sorted(found) == sorted(wanted)
    for name, right in wanted.items():
        one, other = np.asarray(found[name], np.float64), right.detach().double().numpy()
        assert one.shape == other.shape
        assert np.array_equal(np.isfinite(one), np.isfinite(other)), name
        assert np.abs(one - other).max() <= tolerance * max(np.abs(other).max(), 1e-3), name


BOOL = torch.rand(2, 4, 5, 7, generator=torch.Generator().manual_seed(3)) > 0.4
NO_KEYS = BOOL.clone()
NO_KEYS[:, :, 2] = False
HIDES = torch.zeros(5, 7).masked_fill(NO_KEYS[0, 0], -math.inf)
HIDES[2] = -math.inf
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {  # sizes, masks, options
    "plain": ({}, {}, {}),
    "one query": ({"length": 1}, {}, {}),
    "one key": ({"keys": 1}, {}, {}),
    "bool mask": ({}, {"attn_mask": BOOL}, {}),
    "bool mask of keys": ({}, {"attn_mask": BOOL[:, :1, :1]}, {}),
    "queries without keys": ({}, {"attn_mask": NO_KEYS}, {}),
    "float mask": ({}, {"attn_mask": normal(5, 7, seed=9)}, {}),
    "causal": ({"keys": 5}, {}, {"is_causal": True}),
    "causal, more keys": ({}, {}, {"is_causal": True}),
    "causal, fewer keys": ({"length": 9}, {}, {"is_causal": True}),
    "scale": ({}, {}, {"scale": 0.7}),
    "scale 0": ({}, {}, {"scale": 0.0}),
    "grouped queries": ({"own": 2}, {}, {"enable_gqa": True}),
    "grouped queries, masked": ({"own": 1}, {"attn_mask": BOOL}, {"enable_gqa": True}),
}


@pytest.mark.parametrize("name", CASES)
def test_attention_and_its_gradients_match_torch(name: str) -> None:
    sizes, masks, options = CASES[name]
    inputs = qkv(**sizes) | masks

    own: Any = F.scaled_dot_product_attention

    def call(q: Any, k: Any, v: Any, attn_mask: Any = None) -> Any:
        return own(q, k, v, attn_mask=attn_mask, **options)

    with sdpa_kernel(SDPBackend.MATH):
        wanted = with_gradients(call)(**inputs)
    check_close(run_graph(graph_of(with_gradients(call), inputs), inputs), wanted)


def test_a_float_mask_that_hides_every_key_gives_zero() -> None:
    """As torch's safe softmax; nn.MultiheadAttention makes such masks of padding."""
    inputs = {**qkv(), "mask": HIDES}

    def call(q: Any, k: Any, v: Any, mask: Any) -> dict[str, Any]:
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        found = F.scaled_dot_product_attention(leaves[0], leaves[1], leaves[2], attn_mask=mask)
        gradients = torch.autograd.grad(found.sin().sum(), leaves)
        return {"out": found.detach(), **{str(i): g for i, g in enumerate(gradients)}}

    with sdpa_kernel(SDPBackend.MATH):
        wanted = call(**inputs)
    assert (wanted["out"][:, :, 2] == 0).all()
    check_close(run_graph(graph_of(call, inputs), inputs), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype: Any) -> None:
    inputs = qkv(dtype=dtype)

    def call(q: Any, k: Any, v: Any) -> dict[str, Any]:
        return {"out": F.scaled_dot_product_attention(q, k, v)}

    def wide(q: Any, k: Any, v: Any) -> dict[str, Any]:
        return {"out": F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(dtype)}

    found = run_graph(graph_of(call, inputs), inputs)
    check_same_bits(found, run_graph(graph_of(wide, inputs), inputs))
    check_close(found, call(**inputs), tolerance=2**-7)


def test_autocast_gives_half_precision() -> None:
    inputs = qkv()

    def call(q: Any, k: Any, v: Any) -> dict[str, Any]:
        with torch.autocast("cpu", torch.bfloat16):
            return {"out": F.scaled_dot_product_attention(q, k, v)}

    def halves(q: Any, k: Any, v: Any) -> dict[str, Any]:
        return {"out": F.scaled_dot_product_attention(q.bfloat16(), k.bfloat16(), v.bfloat16())}

    assert call(**inputs)["out"].dtype == torch.bfloat16
    assert graph_of(call, inputs) == graph_of(halves, inputs)


def attend(is_causal: bool = True) -> Function:
    def call(q: Any, k: Any, v: Any, mask: Any = None) -> dict[str, Any]:
        return {"out": F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)}

    return call


# However it is called


def grids(graph: Graph) -> list[str]:
    return sorted(str(dict(node.attributes)["grid"]) for node in graph.nodes if node.op == "dot_general")


def imported(q: Any, k: Any, v: Any) -> Any:
    return scaled_dot_product_attention(q, k, v, is_causal=True)


def from_module(q: Any, k: Any, v: Any) -> Any:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def by_name(q: Any, k: Any, v: Any) -> Any:
    return F.scaled_dot_product_attention(query=q, key=k, value=v, dropout_p=0.0, is_causal=True)


def from_torch(q: Any, k: Any, v: Any) -> Any:
    return torch._C._nn.scaled_dot_product_attention(q, k, v, is_causal=True)


def from_aten(q: Any, k: Any, v: Any) -> Any:
    return torch.ops.aten.scaled_dot_product_attention(q, k, v, None, 0.0, True)


def without_gradients(q: Any, k: Any, v: Any) -> Any:
    with torch.no_grad():
        return from_module(q, k, v)


CALLS = (imported, from_module, from_torch, from_aten, without_gradients, by_name)


@pytest.mark.parametrize("call", CALLS)
def test_every_way_to_call_it_gives_the_same_graph(call: Callable[..., Any]) -> None:
    inputs = qkv(keys=5)
    graph = graph_of(lambda **given: {"out": call(**given)}, inputs)
    assert grids(graph) == ["columns", "rows"]
    assert graph == graph_of(lambda **given: {"out": from_module(**given)}, inputs)


@pytest.mark.parametrize("call", [from_module, from_torch])
def test_torch_func_grad_gives_the_gradient_of_autograd(call: Callable[..., Any]) -> None:
    inputs = qkv(keys=5)

    def by_func(q: Any, k: Any, v: Any) -> dict[str, Any]:
        return {"dq": torch.func.grad(lambda q: call(q, k, v).sin().sum())(q)}

    def by_autograd(q: Any, k: Any, v: Any) -> dict[str, Any]:
        leaf = q.detach().requires_grad_()
        return {"dq": torch.autograd.grad(call(leaf, k, v).sin().sum(), leaf)[0]}

    found = run_graph(graph_of(by_func, inputs), inputs)
    check_same_bits(found, run_graph(graph_of(by_autograd, inputs), inputs))
    check_close(found, by_autograd(**inputs))


def test_products_of_the_gradient_have_grid_columns() -> None:
    assert grids(graph_of(with_gradients(from_module), qkv(keys=5))) == ["columns"] * 5 + ["rows"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"need_weights": False},
        {"key_padding_mask": torch.arange(4).expand(3, 4) >= torch.tensor([[4], [2], [3]])},
        {"key_padding_mask": torch.arange(4).expand(3, 4) >= torch.tensor([[4], [2], [3]]), "need_weights": False},
        {"attn_mask": torch.ones(4, 4, dtype=torch.bool).triu(1), "is_causal": True, "need_weights": False},
    ],
)
def test_multihead_attention_matches_torch(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    tensors = {name: x for name, x in options.items() if isinstance(x, torch.Tensor)}
    others = {name: x for name, x in options.items() if name not in tensors}
    inputs = {"x": normal(3, 4, 8), **{n: p.detach() for n, p in model.named_parameters()}, **tensors}

    def call(x: Any, **given: Any) -> dict[str, Any]:
        masks = {name: given.pop(name) for name in tensors}
        weights = {name: w.detach().clone().requires_grad_() for name, w in given.items()}
        found = torch.func.functional_call(model, weights, (x, x, x), masks | others)[0]
        gradients = torch.autograd.grad(found.sin().sum(), list(weights.values()))
        return {"out": found.detach(), **{f"d{n}": g for n, g in zip(weights, gradients, strict=True)}}

    graph = graph_of(call, inputs)
    check_close(run_graph(graph, inputs), call(**inputs), tolerance=1e-5)
    assert ("rows" in grids(graph)) == (others.get("need_weights") is False)


def test_dropout_drops_probabilities() -> None:
    inputs = {"q": torch.zeros(3, 2, 40, 4), "k": normal(3, 2, 50, 4), "v": torch.eye(50).expand(3, 2, 50, 50)}
    p = run_graph(
        graph_of(lambda q, k, v: {"p": F.scaled_dot_product_attention(q, k, v, dropout_p=0.25)}, inputs), inputs
    )["p"]
    assert set(np.unique(p)) == {np.float32(0), p.max()}
    assert abs(p.max() - 1 / 50 / 0.75) < 1e-7
    assert abs((p == 0).mean() - 0.25) < 6 * np.sqrt(0.25 * 0.75 / p.size)


@pytest.mark.parametrize(
    ("mask", "is_causal", "message"),
    [(BOOL, True, "attn_mask or is_causal, not both"), (BOOL[..., :3], False, "expand")],
)
def test_masks_that_torch_refuses_are_refused(mask: Any, is_causal: bool, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        graph_of(attend(is_causal), {**qkv(), "mask": mask})


# What changes no bit


def test_later_tokens_change_no_bit() -> None:
    inputs = qkv(9, 9)
    whole = out(attend(), **inputs)
    other = {name: x.clone() for name, x in inputs.items()}
    for x in other.values():
        x[:, :, 4:] *= 1e12
    changed = out(attend(), **other)
    check_same_bits({"out": changed[:, :, :4]}, {"out": whole[:, :, :4]})
    assert not np.array_equal(changed[:, :, 4:], whole[:, :, 4:])
    for length in (1, 4, 5):
        prefix = out(attend(), **{name: x[:, :, :length] for name, x in inputs.items()})
        check_same_bits({"out": prefix}, {"out": whole[:, :, :length]})


def test_padded_keys_change_no_bit() -> None:
    inputs = qkv(5, 7)
    padded = {"q": inputs["q"]} | {name: F.pad(inputs[name], (0, 0, 0, 6), value=3e20) for name in "kv"}
    mask = (torch.arange(13) < 7).expand(5, 13)
    wanted = {"out": out(attend(False), **inputs)}
    check_same_bits({"out": out(attend(False), **padded, mask=mask)}, wanted)
    added = torch.zeros(5, 13).masked_fill(~mask, -math.inf)
    check_same_bits({"out": out(attend(False), **padded, mask=added)}, wanted)
    huge = torch.zeros(5, 13).masked_fill(~mask, torch.finfo(torch.float32).min)
    padded = {"q": inputs["q"]} | {name: F.pad(inputs[name], (0, 0, 0, 6), value=50.0) for name in "kv"}
    check_same_bits({"out": out(attend(False), **padded, mask=huge)}, wanted)


def test_the_batch_changes_no_bit() -> None:
    inputs = qkv(5, 7)
    whole = out(attend(False), **inputs)
    loud = {name: torch.cat([x * 1e6, x, x[:1] * 0]) for name, x in inputs.items()}
    check_same_bits({"out": out(attend(False), **loud)[2:4]}, {"out": whole})
    alone = out(attend(False), **{name: x[1:, 2:3] for name, x in inputs.items()})
    check_same_bits({"out": alone}, {"out": whole[1:, 2:3]})


def test_a_linear_layer_of_transposed_input_has_grid_both() -> None:
    """As after attention without gradients: `F.linear(mixed.transpose(1, 2).flatten(2), w)` while decoding."""
    inputs = {"x": normal(4, 3, 16), "w": normal(8, 16)}
    assert grids(graph_of(lambda x, w: {"out": F.linear(x.transpose(0, 1), w)}, inputs)) == ["both"]


def test_a_captured_model_sees_its_own_attention_in_training() -> None:
    """The job's loss of the first step is that of the graph's definition, whatever kernel torch would choose."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Unflatten(0, (3, 1, 4)), _Attend(), nn.Flatten(0, 2), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = ordinary_step(model, optimizer)

    jobs = []
    for backend in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
        with sdpa_kernel(backend):
            jobs.append(capture(step, model, optimizer))
    assert jobs[0].address == jobs[1].address
    assert np.isfinite(run_job(jobs[0])[1][-1]["loss"])


class _Attend(nn.Module):
    def forward(self, x: Any) -> Any:
        return F.scaled_dot_product_attention(x, x, x, is_causal=True)
