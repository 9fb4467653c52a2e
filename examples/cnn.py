"""Train a convolutional net on the 8x8 digits: ordinary PyTorch with batch norm and dropout, captured as a job.

samebits run examples/cnn.py
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import samebits

HELD_OUT = 5  # every fifth image is for testing


def network() -> nn.Module:
    """Return a net for images (n, 1, 8, 8)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=4),
        nn.GroupNorm(4, 16),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32, 10),
    )


def job() -> samebits.Job:
    """Return the training job: 300 steps of 64 images with AdamW."""
    with np.load(Path(__file__).parent / "digits.npz") as file:
        images = torch.from_numpy(file["images"]).reshape(-1, 1, 8, 8)  # u8, grey levels 0..16
        labels = torch.from_numpy(file["labels"]).long()
    test = torch.arange(len(labels)) % HELD_OUT == 0

    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def step(x, y):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x / 16), y)
        loss.backward()
        optimizer.step()
        return {"loss": loss}

    def evaluate(x, y):
        model.eval()
        return {"accuracy": (model(x / 16).argmax(1) == y).float().mean()}

    return samebits.training_job(
        step,
        model=model,
        optimizer=optimizer,
        init=network,
        data={"x": images[~test], "y": labels[~test]},
        batch_size=64,
        steps=300,
        seed=0,
        evaluate=evaluate,
        evaluation_data={"x": images[test], "y": labels[test]},
    )
