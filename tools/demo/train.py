"""Trains the demo's network on a set drawn by draw.py and writes its weights.

  train.py --data train.npz --out weights.pt

The pictures grow during training, as SCHEDULE says: the network has no fixed input size, learns the same shapes
from smaller pictures, and does so in a fraction of the time. The last --validation pictures of the set are kept
aside and judged, at full size, after every epoch; the committed held-out pictures are never looked at here.
"""

import argparse
import pathlib
import time

import numpy as np
import torch
from torch import nn

from draw import CLASSES
from network import DemoNet, preprocess

SHIFT = 6                                   # pixels of random translation
SCHEDULE = 9 * [48] + 3 * [72] + 2 * [96]   # pixels per side in each epoch


def augment(images, rng):
    """Mirrors, moves and recolours (permuted channels) a batch (N,H,W,3) u8: no class depends on any of them."""
    side = images.shape[1]
    padded = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
    result = np.empty_like(images)
    for i, picture in enumerate(padded):
        top, left = rng.integers(0, 2 * SHIFT + 1, 2)
        picture = picture[top:top + side, left:left + side, rng.permutation(3)]
        result[i] = picture[:, ::-1] if rng.random() < 0.5 else picture
    return result


def accuracy(network, images, labels, batch=128):
    """Share of pictures whose largest logit is the label's."""
    network.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(images), batch):
            x = preprocess(images[start:start + batch]).contiguous(memory_format=torch.channels_last)
            right += (network(x).argmax(1).numpy() == labels[start:start + batch]).sum()
    return right / len(images)


def parameter_groups(network, weight_decay):
    """Weight decay for the weights of convolutions and of the classifier, none for norms, biases and depthwise."""
    decayed, free = [], []
    for parameter in network.parameters():
        shrinks = parameter.ndim > 1 and parameter.shape[1] > 1
        (decayed if shrinks else free).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def train(network, images, labels, held, options):
    """One-cycle AdamW with label smoothing; prints a line per epoch. `held` is the (images, labels) to judge by."""
    rng = np.random.default_rng(options.seed)
    optimizer = torch.optim.AdamW(parameter_groups(network, 0.05), lr=options.rate)
    batches = len(images) // options.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, total_steps=batches * len(SCHEDULE),
                                                   pct_start=0.15)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    started = time.time()
    for epoch, side in enumerate(SCHEDULE, 1):
        network.train()
        order = rng.permutation(len(images))[:batches * options.batch].reshape(batches, options.batch)
        total = 0.0
        for rows in order:
            x = preprocess(augment(images[rows], rng)).contiguous(memory_format=torch.channels_last)
            if side != x.shape[-1]:
                x = nn.functional.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
            loss = loss_of(network(x), torch.from_numpy(labels[rows]))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch:2d}/{len(SCHEDULE)}  {side} pixels  loss {total / batches:.4f}  "
              f"validation top-1 {accuracy(network, *held):.4f}  {time.time() - started:.0f} s", flush=True)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help=".npz of draw.py train")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="weights, a torch state dictionary")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate of the cycle")
    parser.add_argument("--validation", type=int, default=1000)
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
    torch.save(network.state_dict(), options.out)


if __name__ == "__main__":
    main()
