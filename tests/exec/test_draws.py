"""Draws: keys and streams against definitions written here in Python's integers, and the same bits on each device."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from tests.exec.kernel_devices import LAYOUTS, check_same

from samebits.exec import draws
from samebits.exec.builder import GraphBuilder, ValueRef
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.errors import GraphError, JobError
from samebits.exec.graph import Graph
from samebits.exec.keys import INITIAL, check_seed, step_key
from samebits.exec.planner import plan_graph
from samebits.kernels.codegen.program import Layout
from samebits.kernels.types import TensorType

VECTORS = Path(__file__).parent.parent / "vectors" / "random123" / "kat_vectors"
MASK = 0xFFFFFFFF
SIZES = (0, 1, 3, 4, 5)
KEY = step_key(11, 3)
DRAWS: dict[str, Callable[[GraphBuilder, ValueRef, str, tuple[int, ...]], ValueRef]] = {
    "bits": draws.bits,
    "uniform": draws.uniform,
    "normal": draws.normal,
    "integers": lambda build, key, site, shape: draws.integers(build, key, site, 10, shape),
}


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 (Salmon et al., SC 2011)."""
    (a, b, c, d), (k0, k1) = counter, key
    for _ in range(10):
        one, two = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = two >> 32 ^ b ^ k0, two & MASK, one >> 32 ^ d ^ k1, one & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [a, b, c, d]


def threefry(counter: list[int], key: list[int]) -> list[int]:
    """Threefry2x32-20 (Salmon et al., SC 2011)."""
    keys = [*key, 0x1BD11BDA ^ key[0] ^ key[1]]
    x, y = ((c + k) & MASK for c, k in zip(counter, key, strict=True))
    for i in range(20):
        turn = (13, 15, 26, 6, 17, 29, 16, 24)[i % 8]
        x = (x + y) & MASK
        y = ((y << turn | y >> 32 - turn) & MASK) ^ x
        if i % 4 == 3:
            n = i // 4 + 1
            x, y = (x + keys[n % 3]) & MASK, (y + keys[(n + 1) % 3] + n) & MASK
    return [x, y]


def words(key: Any, site: str, count: int) -> list[int]:
    """The first words of a site's stream."""
    digest = blake3(site.encode()).digest()
    own = threefry([int.from_bytes(digest[i : i + 4], "little") for i in (0, 4)], [int(k) for k in key])
    return [word for i in range(-(-count // 4)) for word in philox([i, 0, 0, 0], own)][:count]


def normals(stream: list[int], count: int) -> Any:
    """Box and Muller, with f64 functions rounded to f32 after each operation."""
    found = []
    for one, two in zip(stream[::2], stream[1::2], strict=True):
        u1, u2 = (np.float32((word >> 8) * 2.0**-24) for word in (one, two))
        log = np.float32(math.log(float(np.float32(1) - u1)))
        radius = np.float32(math.sqrt(float(np.float32(-2) * log)))
        angle = np.float32(2 * math.pi) * u2
        found += [radius * np.float32(turn(float(angle))) for turn in (math.cos, math.sin)]
    return np.array(found[:count], np.float32)


def graph_of(kind: str, shape: tuple[int, ...], site: str = "a/b:0") -> Graph:
    build = GraphBuilder()
    build.output("drawn", DRAWS[kind](build, build.input("key", TensorType("u32", (2,))), site, shape))
    return build.build()


def draw(kind: str, shape: tuple[int, ...], site: str = "a/b:0", key: Any = KEY) -> Any:
    return np.asarray(NumpyDevice().compile(plan_graph(graph_of(kind, shape, site)))({"key": key})["drawn"])


def test_the_definitions_here_give_the_known_answers() -> None:
    seen = 0
    for line in VECTORS.read_text().splitlines():
        name, *rest = line.split() or [""]
        for known, rounds, width, function in (("philox4x32", "10", 4, philox), ("threefry2x32", "20", 2, threefry)):
            if name == known and rest[0] == rounds:
                numbers = [int(word, 16) for word in rest[1:]]
                assert function(numbers[:width], numbers[width : width + 2]) == numbers[width + 2 :]
                seen += 1
    assert seen == 6


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 2**64 - 1])
@pytest.mark.parametrize("t", [0, 1, 2**32 - 1, 2**32, 2**53 - 1, INITIAL])
def test_step_key_is_threefry_of_step_and_seed(seed: int, t: int) -> None:
    key = step_key(seed, t)
    assert key.dtype == np.uint32
    assert key.tolist() == threefry([t & MASK, t >> 32], [seed & MASK, seed >> 32])


def test_keys_of_steps_and_seeds_differ() -> None:
    assert INITIAL == 2**64 - 1
    assert len({step_key(seed, t).tobytes() for seed in range(50) for t in (*range(50), INITIAL)}) == 50 * 51


@pytest.mark.parametrize("seed", [-1, 2**64, True, 1.0, None, "1", np.int64(3)])
def test_check_seed_refuses(seed: Any) -> None:
    with pytest.raises(JobError, match="is not an integer in 0"):
        check_seed(seed)


@pytest.mark.parametrize("size", SIZES)
def test_draws_follow_their_definition_to_the_bit(size: int) -> None:
    stream = words(KEY, "a/b:0", 2 * max(size, 1) + 4)
    whole = (size + 1) // 2 * 2
    wanted = {
        "bits": np.array(stream[:size], np.uint32),
        "uniform": np.array([(word >> 8) / 2**24 for word in stream[:size]], np.float32),
        "normal": normals(stream[:whole], size),
        "integers": np.array(
            [(a + (b << 32)) % 10 for a, b in zip(stream[::2], stream[1::2], strict=True)][:size], "i8"
        ),
    }
    for kind, right in wanted.items():
        found = draw(kind, (size,))
        assert (found.dtype, found.shape) == (right.dtype, right.shape), kind
        assert found.tobytes() == right.tobytes(), kind


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 0), (2, 3), (5, 1, 3)])
def test_a_shape_only_arranges_the_numbers_of_a_site(kind: str, shape: tuple[int, ...]) -> None:
    found = draw(kind, shape)
    assert found.shape == shape
    assert found.tobytes() == draw(kind, (math.prod(shape),)).tobytes() == draw(kind, (40,))[: found.size].tobytes()


@pytest.mark.parametrize("span", [1, 2, 3, 2**31, 2**32, 2**32 + 1, 2**62, 2**63 - 1])
def test_integers_of_any_span_stay_in_range_and_follow_their_definition(span: int) -> None:
    build = GraphBuilder()
    key = build.input("key", TensorType("u32", (2,)))
    build.output("drawn", draws.integers(build, key, "s:0", span, (9,)))
    found = np.asarray(NumpyDevice().compile(plan_graph(build.build()))({"key": KEY})["drawn"])
    stream = words(KEY, "s:0", 18)
    assert found.tolist() == [(stream[2 * i] + (stream[2 * i + 1] << 32)) % span for i in range(9)]
    assert found.dtype == np.int64
    assert ((found >= 0) & (found < span)).all()


def test_moments_and_ranges_of_many_numbers() -> None:
    """Six standard errors around the mean and the variance of each distribution."""
    n = 100_000
    u, z, k = (draw(kind, (n,)).astype(np.float64) for kind in ("uniform", "normal", "integers"))
    for x, mean, variance, fourth in ((u, 0.5, 1 / 12, 1 / 80), (z, 0.0, 1.0, 3.0), (k, 4.5, 8.25, 120.8625)):
        assert abs(x.mean() - mean) < 6 * math.sqrt(variance / n)
        assert abs(((x - mean) ** 2).mean() - variance) < 6 * math.sqrt((fourth - variance**2) / n)
        assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 6 / math.sqrt(n)
    assert u.min() >= 0
    assert u.max() < 1
    assert np.array_equal(u, np.floor(u * 2**24) / 2**24)
    assert abs(np.corrcoef(z[::2], z[1::2])[0, 1]) < 6 / math.sqrt(n / 2)
    assert 0.6802 < (np.abs(z) < 1).mean() < 0.6852
    assert np.bincount(k.astype(int), minlength=10).shape == (10,)
    assert np.isfinite(z).all()


def test_two_sites_and_two_keys_share_no_words() -> None:
    streams = [draw("bits", (1000,), site, key) for site in ("a:0", "a:1", "b:0") for key in (KEY, step_key(11, 4))]
    assert len(set(np.concatenate(streams).tolist())) > 6000 - 40  # 6000 of 2^32 meet by chance once in 240 tries
    assert len({stream.tobytes() for stream in streams}) == 6


@pytest.mark.parametrize("layout", LAYOUTS)
def test_devices_draw_the_same_bits(layout: Layout) -> None:
    build = GraphBuilder()
    key = build.input("key", TensorType("u32", (2,)))
    for kind, make in DRAWS.items():
        for size in (*SIZES, 1000):
            build.output(f"{kind}/{size}", make(build, key, f"{kind}:{size}", (size,)))
    check_same(build.build(), {"key": KEY}, layout)


@pytest.mark.parametrize("kind", ["uniform", "normal", "integers"])
def test_the_eager_op_gives_the_bits_of_the_graph(kind: str) -> None:
    torch = pytest.importorskip("torch")
    from samebits.exec.capture import draw_calls

    key = torch.from_numpy(KEY)
    for shape in ((0,), (1,), (3,), (4,), (5,), (2, 3), ()):
        ops = {
            "uniform": lambda size: draw_calls.uniform_op(key, "a/b:0", size),
            "normal": lambda size: draw_calls.normal_op(key, "a/b:0", size),
            "integers": lambda size: draw_calls.integers_op(key, "a/b:0", 10, size),
        }
        found = ops[kind](list(shape)).numpy()
        right = draw(kind, shape)
        assert (found.dtype, found.shape, found.tobytes()) == (right.dtype, right.shape, right.tobytes())


def test_more_numbers_than_the_counter_has_are_refused() -> None:
    with pytest.raises(GraphError, match=r"the site 'a/b:0' draws \d+ numbers at once"):
        graph_of("uniform", (2**34 + 1,))
