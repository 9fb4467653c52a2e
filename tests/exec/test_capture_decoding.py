"""A small transformer: neither the batch, nor the length, nor the use of a cache of keys and values changes a bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tests.exec.captured import check_same_bits, graph_of, normal, out, run_graph  # noqa: E402
from tests.exec.kernel_devices import open_opencl  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from samebits.exec.devices.numpy_device import NumpyDevice  # noqa: E402
from samebits.exec.devices.protocol import Device  # noqa: E402

WIDTH, HEADS, LENGTH = 16, 2, 8


def weights(count: int = 2) -> dict[str, Any]:
    """Return the weights of a transformer of so many layers."""
    shapes = {"qkv": (3 * WIDTH, WIDTH), "out": (WIDTH, WIDTH), "up": (4 * WIDTH, WIDTH), "down": (WIDTH, 4 * WIDTH)}
    made = {f"{n}{layer}": normal(*s, seed=layer) * 0.4 for layer in range(count) for n, s in shapes.items()}
    return made | {"scale": normal(WIDTH, seed=4)}


def layer(x: Any, w: dict[str, Any], i: int, mix: Callable[..., Any]) -> Any:
    """A transformer layer of x (rows, length, 16)."""
    h = F.layer_norm(x, (WIDTH,), w["scale"])
    parts = F.linear(h, w[f"qkv{i}"]).unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
    mixed = mix(i, *parts).transpose(1, 2).reshape(-1, WIDTH)
    x = x + F.linear(mixed, w[f"out{i}"]).reshape(x.shape)
    return x + F.linear(F.gelu(F.linear(F.layer_norm(x, (WIDTH,)), w[f"up{i}"])), w[f"down{i}"])


def layers(x: Any, w: dict[str, Any], mix: Callable[..., Any]) -> Any:
    for i in range(sum(name.startswith("qkv") for name in w)):
        x = layer(x, w, i, mix)
    return x


def whole_sequence(x: Any, **w: Any) -> dict[str, Any]:
    def mix(i: int, q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    return {"out": layers(x, w, mix)}


def one_token(x: Any, at: Any, keys: Any, values: Any, **w: Any) -> dict[str, Any]:
    """Take the token at position `at`, x (rows, 1, 16); keys and values (2, rows, heads, length, 8) are the cache."""
    positions = torch.arange(keys.shape[3])
    caches = {"keys": keys.clone(), "values": values.clone()}

    def mix(i: int, q: Any, k: Any, v: Any) -> Any:
        here = (positions == at)[:, None]
        for name, new in (("keys", k), ("values", v)):
            caches[name][i] = torch.where(here, new, caches[name][i])
        mask = (positions <= at)[None]
        return F.scaled_dot_product_attention(q, caches["keys"][i], caches["values"][i], attn_mask=mask)

    return {"out": layers(x, w, mix), **caches}


def decode(x: Any, w: dict[str, Any], device: Device) -> Any:
    shape = (2, x.shape[0], HEADS, LENGTH + 3, WIDTH // HEADS)
    cache = {"keys": torch.zeros(shape), "values": torch.full(shape, 1e9)}  # what the cache held before is garbage
    graph = graph_of(one_token, {"x": x[:, :1], "at": torch.tensor(0), **cache, **w})
    found = []
    for t in range(x.shape[1]):
        results = run_graph(graph, {"x": x[:, t : t + 1], "at": torch.tensor(t), **cache, **w}, device)
        found.append(results.pop("out"))
        cache = {name: torch.from_numpy(value.copy()) for name, value in results.items()}
    return np.concatenate(found, 1)


@pytest.mark.parametrize("name", ["numpy", "opencl"])
def test_decoding_with_a_cache_gives_the_bits_of_the_whole_sequence(name: str) -> None:
    device: Device = NumpyDevice() if name == "numpy" else open_opencl("cpu")
    x, w = normal(3, LENGTH, WIDTH), weights(2 if name == "numpy" else 1)
    check_same_bits({"out": decode(x, w, device)}, {"out": out(whole_sequence, x=x, **w)})


def test_batch_and_length_change_no_bit_of_a_transformer() -> None:
    x, w = normal(3, LENGTH, WIDTH), weights()
    whole = out(whole_sequence, x=x, **w)
    check_same_bits({"out": out(whole_sequence, x=x[1:2, :5], **w)}, {"out": whole[1:2, :5]})
