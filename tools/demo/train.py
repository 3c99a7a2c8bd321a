"""Trains the demo's network on a set drawn by draw.py and writes its weights.

  train.py --data train.npz --out weights.pt

The pictures grow during training, as SCHEDULE says: the network has no fixed input size, learns
the same shapes from smaller pictures, and does so in a fraction of the time. What is judged and
written, after every epoch, is the running average of the weights, which is steadier than the
weights themselves. It is judged on the last --validation pictures of the set, which are not
learned from; the committed held-out pictures are never looked at.
"""

import argparse
import pathlib
import time

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from draw import CLASSES
from network import DemoNet, preprocess

SHIFT = 6  # pixels of random translation
SCHEDULE = 4 * [(48, 3e-3)] + [
    (72, 2e-3),
    (96, 1e-3),
    (96, 3e-4),
]  # of each epoch: pixels per side, learning rate
WARM_UP = 300  # steps until the learning rate is reached
AVERAGE = 0.998  # share of the running average that a step keeps
STATISTICS = 2048  # pictures that the averaged network's norms are measured on


def augment(images, rng):
    """Mirrors, moves and recolours a batch (N,H,W,3) u8: no class depends on any of these."""
    side = images.shape[1]
    padded = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
    result = np.empty_like(images)
    for i, picture in enumerate(padded):
        top, left = rng.integers(0, 2 * SHIFT + 1, 2)
        picture = picture[top : top + side, left : left + side, rng.permutation(3)]
        result[i] = picture[:, ::-1] if rng.random() < 0.5 else picture
    return result


def to_input(images, side):
    """The network's input for pictures (N,H,W,3) u8, scaled to side x side pixels."""
    x = preprocess(images).contiguous(memory_format=torch.channels_last)
    return (
        x
        if side == x.shape[-1]
        else nn.functional.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
    )


def accuracy(network, images, labels, side, batch=128):
    """Share of pictures, at side x side pixels, whose largest logit is the label's."""
    network.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(images), batch):
            guesses = network(to_input(images[start : start + batch], side)).argmax(1).numpy()
            right += (guesses == labels[start : start + batch]).sum()
    return right / len(images)


def parameter_groups(network, weight_decay):
    """Weight decay for dense convolutions and the classifier; none for depthwise, norms, biases."""
    decayed, free = [], []
    for parameter in network.parameters():
        shrinks = parameter.ndim > 1 and parameter.shape[1] > 1
        (decayed if shrinks else free).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def measure_norms(network, images, side, batch=128):
    """Measures mean and variance of every norm on these pictures: averages need their own."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean over the batches below
    network.train()
    with torch.no_grad():
        for start in range(0, len(images), batch):
            network(to_input(images[start : start + batch], side))


def train(network, images, labels, held, options):
    """AdamW with label smoothing; prints a line and writes the averaged weights after every epoch.

    `held` is the (images, labels) to judge by.
    """
    rng = np.random.default_rng(options.seed)
    optimizer = torch.optim.AdamW(parameter_groups(network, 0.05))
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE))
    batches = len(images) // options.batch
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    started, step = time.time(), 0
    for epoch, (side, rate) in enumerate(SCHEDULE, 1):
        network.train()
        order = rng.permutation(len(images))[: batches * options.batch].reshape(
            batches, options.batch
        )
        total = 0.0
        for rows in order:
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, step / WARM_UP)
            loss = loss_of(
                network(to_input(augment(images[rows], rng), side)), torch.from_numpy(labels[rows])
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            averaged.update_parameters(network)
            total += loss.item()
        measure_norms(averaged.module, images[:STATISTICS], side)
        torch.save(averaged.module.state_dict(), options.out)
        print(
            f"epoch {epoch}/{len(SCHEDULE)}  {side} pixels  loss {total / batches:.4f}  "
            f"validation top-1 {accuracy(averaged.module, *held, side):.4f}  "
            f"{time.time() - started:.0f} s",
            flush=True,
        )


def main():
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True, help=".npz of draw.py train")
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="weights, a torch state dictionary"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--validation", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    data = np.load(options.data)
    images, labels, kept = data["images"], data["labels"], options.validation
    network = DemoNet(len(CLASSES)).to(memory_format=torch.channels_last)
    train(network, images[:-kept], labels[:-kept], (images[-kept:], labels[-kept:]), options)


if __name__ == "__main__":
    main()
