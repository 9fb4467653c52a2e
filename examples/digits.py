"""Train a digit classifier on the 8x8 images of the UCI optdigits data set: ordinary PyTorch, captured as a job.

samebits run examples/digits.py
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import samebits

HELD_OUT = 5  # every fifth image is for testing


def job() -> samebits.Job:
    """Return the training job: a perceptron 64-128-10, SGD with momentum, 500 steps of 64 images."""
    with np.load(Path(__file__).parent / "digits.npz") as file:
        images = torch.from_numpy(file["images"])  # (1797, 64) u8, grey levels 0..16
        labels = torch.from_numpy(file["labels"]).long()  # (1797,)

    test = torch.arange(len(labels)) % HELD_OUT == 0  # 360 images; the other 1437 are for training

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x / 16), y)
        loss.backward()
        optimizer.step()
        return {"loss": loss}

    def evaluate(x, y):
        return {"accuracy": (model(x / 16).argmax(1) == y).float().mean()}

    return samebits.training_job(
        step,
        model=model,
        optimizer=optimizer,
        data={"x": images[~test], "y": labels[~test]},
        batch_size=64,
        steps=500,
        seed=0,
        evaluate=evaluate,
        evaluation_data={"x": images[test], "y": labels[test]},
    )
