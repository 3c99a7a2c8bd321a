"""Folders of images with labels.csv, read as Octet's presets read them: the reference for its
loader."""

import csv
import pathlib

import numpy as np
from PIL import Image

# name -> what is done to RGB pixels 0...255, (H, W, 3) f32
PRESETS = {
    "imagenet-tf": lambda pixels: pixels / np.float32(127.5) - np.float32(1),
    "imagenet-torch": lambda pixels: (
        pixels / np.float32(255) - np.array([0.485, 0.456, 0.406], np.float32)
    )
    / np.array([0.229, 0.224, 0.225], np.float32),
    "face-rfb": lambda pixels: (pixels - np.float32(127)) / np.float32(128),
}


def read_image(path, preset):
    """One image as (3, H, W) f32, RGB, preprocessed."""
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float32)
    return np.ascontiguousarray(preset(pixels).transpose(2, 0, 1))


def read_rows(folder, preset, which=slice(None)):
    """Images (rows, 3, H, W) f32 and labels (rows,) of labels.csv, in file order; all or a slice of
    them."""
    folder = pathlib.Path(folder)
    with open(folder / "labels.csv", newline="", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))[which]
    images = np.stack([read_image(folder / row["file"], preset) for row in rows])
    return images, np.array([int(row["label"]) for row in rows])
