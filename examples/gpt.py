"""Train a GPT on the characters of the King James Bible's first seven books: ordinary PyTorch, captured as a job.

samebits run examples/gpt.py --device opencl
"""

import lzma
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import samebits

CONTEXT, WIDTH, HEADS, LAYERS = 128, 128, 4, 4
BATCH_SIZE, STEPS, WARM_UP, RATE = 16, 500, 50, 2e-3
HELD_OUT = 10  # every tenth window is for validation


class Block(nn.Module):
    """A transformer layer: causal attention, then a perceptron, each on normalized input and added to it."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)

    def attend(self, x):
        rows, length, _ = x.shape
        q, k, v = (part.view(rows, length, HEADS, -1).transpose(1, 2) for part in self.qkv(x).split(WIDTH, dim=2))
        p = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=p)
        return self.out(mixed.transpose(1, 2).reshape(rows, length, WIDTH))

    def forward(self, x):
        x = x + self.dropout(self.attend(self.norm1(x)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


class GPT(nn.Module):
    """A language model of characters; the output layer shares its weights with the embedding."""

    def __init__(self, characters: int, dropout: float) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(characters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(dropout) for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, characters, bias=False)
        self.head.weight = self.tokens.weight
        for name, p in self.named_parameters():
            if name.endswith("weight") and p.dim() == 2:
                depth = 2 * LAYERS if name.endswith(("out.weight", "down.weight")) else 1
                nn.init.normal_(p, std=0.02 / math.sqrt(depth))
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, x):
        x = self.dropout(self.tokens(x) + self.places(torch.arange(x.shape[1])))
        return self.head(self.norm(self.blocks(x)))


def windows() -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return windows of CONTEXT + 1 characters, for training and validation (n, CONTEXT + 1) u8; and the vocabulary."""
    text = lzma.decompress((Path(__file__).parent / "kjv.txt.xz").read_bytes()).decode()
    number = {character: i for i, character in enumerate(sorted(set(text)))}
    data = torch.tensor([number[character] for character in text], dtype=torch.uint8)
    count = (len(data) - 1) // CONTEXT
    rows = torch.stack([data[i * CONTEXT : (i + 1) * CONTEXT + 1] for i in range(count)])
    held_out = torch.arange(count) % HELD_OUT == 0
    return rows[~held_out], rows[held_out][:256], len(number)


def rate(t):
    """Return the learning rate of step t: warm-up, then half a cosine."""
    after = (t - WARM_UP) / (STEPS - WARM_UP)
    return torch.where(t < WARM_UP, RATE * (t + 1) / WARM_UP, RATE * (0.55 + 0.45 * torch.cos(math.pi * after)))


def parts(dropout: float = 0.1):
    """Return model, optimizer, step and evaluation."""
    _, _, characters = windows()
    model = GPT(characters, dropout)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95))

    def loss_of(x):
        x = x.long()
        return F.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())

    def step(x):
        model.train()
        optimizer.zero_grad()
        loss = loss_of(x)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return {"loss": loss, "norm": norm}

    def evaluate(x):
        model.eval()
        return {"loss": loss_of(x)}

    return model, optimizer, step, evaluate


def job(dropout: float = 0.1, seed: int = 0) -> samebits.Job:
    """Return the training job: 0.8 M parameters, 500 steps of 16 windows."""
    train, held_out, characters = windows()
    model, optimizer, step, evaluate = parts(dropout)
    return samebits.training_job(
        step,
        model=model,
        optimizer=optimizer,
        init=lambda: GPT(characters, dropout),
        schedule=rate,
        data={"x": train},
        batch_size=BATCH_SIZE,
        steps=STEPS,
        seed=seed,
        evaluate=evaluate,
        evaluation_data={"x": held_out},
    )
