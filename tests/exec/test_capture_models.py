"""Capture of what people train: a convolutional net, a GPT, their usual parts; numpy and opencl give the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import samebits  # noqa: E402
from samebits.exec.canonical import parse_graph  # noqa: E402
from samebits.exec.graph import CALL  # noqa: E402
from samebits.exec.job_file import packed_size_bytes  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"
VOCABULARY, CONTEXT, WIDTH, HEADS = 31, 12, 16, 2


def run_everywhere(job: samebits.Job, store: samebits.Store) -> samebits.Run:
    """Run a job on numpy, verify it on opencl, run it there and compare."""
    pytest.importorskip("pyopencl")
    first = samebits.run(job, store, device="numpy")
    second = samebits.run(job, store, device="opencl")
    assert first.final_state == second.final_state
    assert samebits.verify(first.address, store, device="opencl").verdict == "same"
    return first


def digits() -> tuple[Any, Any]:
    with np.load(EXAMPLES / "digits.npz") as file:
        return torch.from_numpy(file["images"]).reshape(-1, 1, 8, 8), torch.from_numpy(file["labels"]).long()


def cnn() -> Any:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4), nn.GroupNorm(2, 8), nn.GELU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(12, 10)),
    )


def test_convolutional_net_trains_alike_everywhere(store: samebits.Store) -> None:
    torch.manual_seed(0)
    images, labels = digits()
    model = cnn()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x / 16), y)
        loss.backward()
        optimizer.step()
        return {"loss": loss}

    def evaluate(x: Any, y: Any) -> Any:
        model.eval()
        return {"accuracy": (model(x / 16).argmax(1) == y).float().mean()}

    job = samebits.training_job(
        step,
        model=model,
        optimizer=optimizer,
        init=cnn,
        data={"x": images[:512], "y": labels[:512]},
        batch_size=32,
        steps=12,
        evaluate=evaluate,
        evaluation_data={"x": images[512:640], "y": labels[512:640]},
    )
    run = run_everywhere(job, store)
    state = samebits.cas.read_tree(store.get_node(run.final_state))
    counted = samebits.cas.get_tensor(store, state["model/1.num_batches_tracked"])
    assert int(counted) == 12, "running statistics advance in replay"
    mean = np.asarray(samebits.cas.get_tensor(store, state["model/1.running_mean"]))
    assert np.abs(mean).max() > 1e-3


class Block(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Any) -> Any:
        rows, length, _ = x.shape
        q, k, v = (p.view(rows, length, HEADS, -1).transpose(1, 2) for p in self.qkv(self.norm1(x)).split(WIDTH, 2))
        rate = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(rows, length, WIDTH)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


class GPT(nn.Module):
    def __init__(self, layers: int = 2, dropout: float = 0.1, recompute: bool = False) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight
        self.recompute = recompute

    def forward(self, x: Any) -> Any:
        h = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = checkpoint(block, h, use_reentrant=False) if self.recompute else block(h)
        return self.head(self.norm(h))


def gpt_job(
    model: Any, *, steps: int = 4, parts: int = 1, autocast: bool = False, init: Callable[[], Any] | None = None
) -> samebits.Job:
    """Return a job with weight-decay groups, ignored targets, clipping, warm-up, and `parts` accumulated gradients."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95))

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        losses = []
        for part in x.long().chunk(parts):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                scores = model(part[:, :-1])
            targets = torch.where(part[:, 1:] == 0, -100, part[:, 1:])
            loss = F.cross_entropy(scores.float().flatten(0, 1), targets.flatten(), ignore_index=-100) / parts
            loss.backward()
            losses.append(loss.detach())
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return {"loss": torch.stack(losses).sum(), "norm": norm}

    def rate(t: Any) -> Any:
        return torch.where(t < 2, 1e-2 * (t + 1) / 2, 5e-3 * (1 + torch.cos(t / 4)))

    data = {"x": np.random.default_rng(0).integers(0, VOCABULARY, (32, CONTEXT + 1)).astype(np.uint8)}
    return samebits.training_job(
        step,
        model=model,
        optimizer=optimizer,
        init=init,
        schedule=rate,
        data=data,
        batch_size=4,
        steps=steps,
        seed=5,
    )


def test_gpt_trains_alike_everywhere(store: samebits.Store) -> None:
    run = run_everywhere(gpt_job(GPT(), init=GPT), store)
    assert 0 < run.metrics["loss"] < 40


@pytest.mark.parametrize("options", [{"parts": 2}, {"autocast": True}], ids=["accumulated", "autocast"])
def test_gpt_variants_are_captured(store: samebits.Store, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    run_everywhere(gpt_job(GPT(1), steps=2, **options), store)


def test_recomputed_activations_change_no_bit(store: samebits.Store) -> None:
    torch.manual_seed(0)
    plain = samebits.run(gpt_job(GPT(), steps=2), store)
    torch.manual_seed(0)
    assert samebits.run(gpt_job(GPT(recompute=True), steps=2), store).final_state == plain.final_state


def test_job_grows_with_kinds_of_layers_not_with_their_number() -> None:
    sizes = {}
    for layers in (2, 4, 8):
        torch.manual_seed(0)
        job = gpt_job(GPT(layers), init=partial(GPT, layers))
        sizes[layers] = packed_size_bytes(job)
        step = parse_graph(job.nodes[job.spec.step])
        assert any(node.op == CALL for node in step.nodes)
    assert sizes[8] - sizes[4] <= 4 * 450
    assert sizes[4] <= 10_000


SCRIPT = """
import torch, sys
sys.path.insert(0, {folder!r})
from tests.exec.test_capture_models import GPT, gpt_job
print(gpt_job(GPT(), init=GPT).address, torch.__version__)
"""


def address_from(python: str, seed: str) -> str:
    """Return the address of the GPT's job as another process computes it."""
    folder = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(folder) / "src")}
    command = [python, "-W", "ignore", "-c", SCRIPT.format(folder=folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


def test_job_has_one_address_in_every_process() -> None:
    assert address_from(sys.executable, "1") == str(gpt_job(GPT(), init=GPT).address)


def test_job_has_one_address_in_every_version_of_torch() -> None:
    """SAMEBITS_OTHER_TORCH names the Python of an environment with another version of torch (2.12)."""
    other = os.environ.get("SAMEBITS_OTHER_TORCH")
    if not other:
        pytest.skip("SAMEBITS_OTHER_TORCH is not set: no environment with another version of torch")
    assert address_from(other, "0") == str(gpt_job(GPT(), init=GPT).address)
