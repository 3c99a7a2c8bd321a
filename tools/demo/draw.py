"""Draws the demo's pictures: one of twenty things in a cluttered, badly lit, noisy scene.

Every picture is a function of (seed, split, index, label) alone, so a set may be drawn in any
order, on any number of workers, and grown later without changing the pictures it already has. The
class list is CLASSES below; its order is the order of the network's outputs.

  draw.py train    --out train.npz --count 18000     pictures and labels for tools/demo/train.py
  draw.py heldout  --out demo                         demo/images/*.jpg and demo/labels.csv
"""

import argparse
import colorsys
import io
import multiprocessing
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 96  # pixels per side of a finished picture
OVERSAMPLE = 2  # scenes are drawn at SIZE * OVERSAMPLE and averaged down, which smooths the edges
CANVAS = SIZE * OVERSAMPLE
HOLE = -1  # tone of a part that cuts into the parts before it
TRAIN, HELDOUT = 0, 1
CALIBRATION_COUNT = 64
HELDOUT_COUNT = 320
HELDOUT_QUALITY = 85


# ---- The twenty things. Each function gives parts [(points (n,2), tone)], in a box of about
# [-1,1]^2, y down.


def circle(radius=1.0, centre=(0.0, 0.0), count=40, squash=1.0):
    """Points of an ellipse; squash is its height over its width."""
    angle = np.arange(count) * (2 * np.pi / count)
    return np.stack([np.cos(angle), squash * np.sin(angle)], 1) * radius + np.asarray(centre)


def polygon(corners, radius=1.0):
    """Points of a regular polygon that stands with one corner up."""
    angle = np.arange(corners) * (2 * np.pi / corners) - np.pi / 2
    return np.stack([np.cos(angle), np.sin(angle)], 1) * radius


def spikes(corners, inner):
    """Points of a star whose notches lie at radius `inner`."""
    points = polygon(2 * corners)
    points[1::2] *= inner
    return points


def box(left, top, right, bottom):
    """Points of an upright rectangle."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)


def draw_disc(rng):
    return [(circle(), 0)]


def draw_ring(rng):
    return [(circle(), 0), (circle(rng.uniform(0.4, 0.7)), HOLE)]


def draw_triangle(rng):
    return [(polygon(3), 0)]


def draw_square(rng):
    return [(box(-0.85, -0.85, 0.85, 0.85), 0)]


def draw_pentagon(rng):
    return [(polygon(5), 0)]


def draw_hexagon(rng):
    return [(polygon(6), 0)]


def draw_star5(rng):
    return [(spikes(5, rng.uniform(0.38, 0.55)), 0)]


def draw_star6(rng):
    return [(spikes(6, rng.uniform(0.42, 0.6)), 0)]


def draw_cross(rng):
    arm = rng.uniform(0.18, 0.36)
    return [(box(-arm, -1, arm, 1), 0), (box(-1, -arm, 1, arm), 0)]


def draw_crescent(rng):
    return [(circle(), 0), (circle(rng.uniform(0.72, 0.9), (rng.uniform(0.4, 0.6), 0)), HOLE)]


def draw_heart(rng):
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [(np.stack([x, -y], 1) / 16, 0)]


def draw_arrow(rng):
    shaft, neck = rng.uniform(0.15, 0.3), rng.uniform(-0.1, 0.3)
    return [
        (
            np.array(
                [
                    [-1, -shaft],
                    [neck, -shaft],
                    [neck, -0.7],
                    [1, 0],
                    [neck, 0.7],
                    [neck, shaft],
                    [-1, shaft],
                ]
            ),
            0,
        )
    ]


def draw_gear(rng):
    teeth = int(rng.integers(7, 11))
    angle = np.arange(4 * teeth) * (2 * np.pi / (4 * teeth))
    radius = np.where(np.arange(4 * teeth) % 4 < 2, 1.0, rng.uniform(0.68, 0.78))
    return [
        (np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None], 0),
        (circle(rng.uniform(0.2, 0.4)), HOLE),
    ]


def draw_spiral(rng):
    turns = rng.uniform(1.8, 2.6)
    t = np.linspace(0.08, 1, 64)
    angle = t * turns * 2 * np.pi
    width = 0.5 / turns * rng.uniform(0.4, 0.6)
    direction = np.stack([np.cos(angle), np.sin(angle)], 1)
    outer, inner = direction * (t * 0.9 + width)[:, None], direction * (t * 0.9 - width)[:, None]
    return [(np.concatenate([outer, inner[::-1]]), 0)]


def draw_house(rng):
    eaves, door = rng.uniform(-0.3, 0.05), rng.uniform(-0.4, 0.2)
    return [
        (box(-0.75, eaves, 0.75, 0.9), 0),
        (np.array([[-1, eaves], [0, -1], [1, eaves]]), 1),
        (box(door, 0.3, door + 0.35, 0.9), 2),
    ]


def draw_tree(rng):
    trunk = (box(-0.12, 0.2, 0.12, 1), 1)
    if rng.random() < 0.5:
        return [trunk] + [
            (np.array([[-w, y], [0, y - 0.8], [w, y]]), 0)
            for w, y in ((0.75, 0.6), (0.6, 0.2), (0.45, -0.2))
        ]
    return [
        trunk,
        (circle(0.5, (-0.3, -0.1)), 0),
        (circle(0.5, (0.3, -0.1)), 0),
        (circle(0.5, (0, -0.5)), 0),
    ]


def draw_fish(rng):
    return [
        (np.array([[0.45, 0], [1, -0.5], [0.85, 0], [1, 0.5]]), 1),
        (circle(0.75, (-0.2, 0), squash=rng.uniform(0.5, 0.7)), 0),
        (circle(0.08, (-0.62, -0.12), 12), 2),
    ]


def draw_flower(rng):
    petals = int(rng.integers(5, 9))
    angle = np.arange(petals) * (2 * np.pi / petals)
    radius = 1.5 / petals + 0.05
    return [(circle(radius, (0.65 * np.cos(a), 0.65 * np.sin(a)), 20), 0) for a in angle] + [
        (circle(0.45, count=24), 0),
        (circle(0.28, count=20), 1),
    ]


def draw_boat(rng):
    mast = rng.uniform(-0.2, 0.2)
    return [
        (np.array([[-1, 0.45], [1, 0.45], [0.65, 0.95], [-0.65, 0.95]]), 0),
        (np.array([[mast + 0.05, -1], [mast + 0.8, 0.3], [mast + 0.05, 0.3]]), 1),
        (np.array([[mast - 0.05, -0.7], [mast - 0.05, 0.3], [mast - 0.6, 0.3]]), 1),
        (box(mast - 0.05, -1, mast + 0.05, 0.45), 2),
    ]


def draw_key(rng):
    bit = rng.uniform(0.25, 0.4)
    return [
        (circle(0.42, (-0.6, 0), 28), 0),
        (circle(rng.uniform(0.18, 0.27), (-0.6, 0), 24), HOLE),
        (box(-0.25, -0.1, 1, 0.1), 0),
        (box(0.8, 0, 1, bit), 0),
        (box(0.45, 0, 0.62, bit), 0),
    ]


CLASSES = [
    draw_disc,
    draw_ring,
    draw_triangle,
    draw_square,
    draw_pentagon,
    draw_hexagon,
    draw_star5,
    draw_star6,
    draw_cross,
    draw_crescent,
    draw_heart,
    draw_arrow,
    draw_gear,
    draw_spiral,
    draw_house,
    draw_tree,
    draw_fish,
    draw_flower,
    draw_boat,
    draw_key,
]
CLASS_NAMES = [function.__name__.removeprefix("draw_") for function in CLASSES]


# ---- The scene around the thing.


def random_colour(rng):
    """An RGB colour in [0,1], of any hue and most brightnesses."""
    return np.array(
        colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.95), rng.uniform(0.2, 1.0))
    )


def colour_apart_from(rng, other, distance):
    """A random colour at least `distance` (root mean square over channels) from another."""
    while True:
        colour = random_colour(rng)
        if np.sqrt(np.mean((colour - other) ** 2)) >= distance:
            return colour


def texture(rng, colour):
    """A surface (CANVAS,CANVAS,3) of this colour: flat, shaded, striped, chequered, grainy."""
    kind = rng.integers(5)
    y, x = np.mgrid[0:CANVAS, 0:CANVAS].astype(np.float32) / CANVAS
    angle = rng.uniform(0, 2 * np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    period = rng.uniform(0.05, 0.15)
    strength = rng.uniform(0.04, 0.14)
    if kind == 0:
        pattern = np.zeros_like(x)
    elif kind == 1:
        pattern = along - along.mean()
    elif kind == 2:
        pattern = np.sign(np.sin(2 * np.pi * along / period))
    elif kind == 3:
        pattern = np.sign(np.sin(2 * np.pi * along / period) * np.sin(2 * np.pi * across / period))
    else:
        cells = int(rng.integers(8, 32))
        grain = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        pattern = np.asarray(grain.resize((CANVAS, CANVAS), Image.BICUBIC))
    return colour.astype(np.float32) + (strength * pattern)[..., None]


def pixel_points(points):
    """A list of (x, y) tuples, as ImageDraw wants them."""
    return [tuple(p) for p in points]


def place(rng):
    """A function that puts points of the unit box on the canvas: sheared, turned, tilted."""
    angle = rng.uniform(-0.7, 0.7)
    stretch = np.exp(rng.uniform(-0.22, 0.22))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shape = np.array([[stretch, rng.uniform(-0.25, 0.25)], [0, 1 / stretch]])
    matrix = turn @ shape * (rng.uniform(0.2, 0.38) * CANVAS)
    tilt = rng.uniform(-0.15, 0.15, 2)
    centre = CANVAS / 2 + rng.uniform(-0.11, 0.11, 2) * CANVAS
    wobble = rng.uniform(0, 0.03)

    def to_canvas(points):
        points = points + wobble * rng.standard_normal(points.shape)
        return points @ matrix.T / (1 + points @ tilt)[:, None] + centre

    return to_canvas


def scribble(rng, canvas, count, reach):
    """Draws `count` random blobs, bars and rings, of radius up to `reach` pixels, over an image."""
    pen = ImageDraw.Draw(canvas)
    for _ in range(count):
        colour = tuple(int(255 * c) for c in random_colour(rng))
        centre, radius = rng.uniform(0, CANVAS, 2), rng.uniform(0.3, 1.0) * reach
        kind = rng.integers(4)
        if kind == 0:
            corners = int(rng.integers(3, 7))
            angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
            pen.polygon(
                pixel_points(np.stack([np.cos(angles), np.sin(angles)], 1) * radius + centre),
                fill=colour,
            )
        elif kind == 1:
            step = rng.uniform(-2, 2, 2) * reach
            pen.line(
                pixel_points([centre, centre + step]), fill=colour, width=int(rng.integers(2, 7))
            )
        else:
            low, high = centre - radius * rng.uniform(0.5, 1, 2), centre + radius * rng.uniform(
                0.5, 1, 2
            )
            width = 3 if kind == 3 else 0
            pen.ellipse(
                [*low, *high],
                fill=colour if width == 0 else None,
                outline=colour,
                width=max(width, 1),
            )


def occlude(rng, canvas):
    """Lays up to two bars or blobs over the scene; each hides a sixth of the thing or so."""
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(0, 3)):
        colour = tuple(int(255 * c) for c in random_colour(rng))
        centre = CANVAS / 2 + rng.uniform(-0.3, 0.3, 2) * CANVAS
        if rng.random() < 0.5:
            angle = rng.uniform(0, np.pi)
            step = np.array([np.cos(angle), np.sin(angle)]) * CANVAS
            pen.line(
                pixel_points([centre - step, centre + step]),
                fill=colour,
                width=int(rng.integers(4, 15)),
            )
        else:
            radius = rng.uniform(0.05, 0.11, 2) * CANVAS
            pen.ellipse([*(centre - radius), *(centre + radius)], fill=colour)


def light(rng, scene):
    """Multiplies the scene by a slanting illumination and bends its tone curve."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.9) * (x * np.cos(angle) + y * np.sin(angle))
    exposed = np.clip(scene * (rng.uniform(0.65, 1.15) * (1 + slope))[..., None], 0, 1)
    return exposed ** rng.uniform(0.75, 1.35)


def draw_picture(seed, split, index, label):
    """One finished scene, (SIZE,SIZE,3) uint8, before JPEG."""
    rng = np.random.default_rng([seed, split, index])
    ground_colour = random_colour(rng)
    ground = Image.fromarray((255 * np.clip(texture(rng, ground_colour), 0, 1)).astype(np.uint8))
    scribble(rng, ground, int(rng.integers(2, 9)), 0.09 * CANVAS)

    body = Image.new("L", (CANVAS, CANVAS), 0)  # 0 outside the thing, 1 + tone inside
    pen, to_canvas = ImageDraw.Draw(body), place(rng)
    for points, tone in CLASSES[label](rng):
        pen.polygon(pixel_points(to_canvas(points)), fill=1 + tone)
    tones = np.asarray(body)  # (CANVAS,CANVAS) u8
    first = colour_apart_from(rng, ground_colour, rng.uniform(0.18, 0.35))
    colours = [first] + [colour_apart_from(rng, first, 0.15) for _ in range(2)]
    scene = np.asarray(ground).astype(np.float32) / 255
    for tone, colour in enumerate(colours):
        scene = np.where((tones == 1 + tone)[..., None], texture(rng, colour), scene)

    canvas = Image.fromarray((255 * np.clip(scene, 0, 1)).astype(np.uint8))
    occlude(rng, canvas)
    canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.3) * OVERSAMPLE))
    scene = np.asarray(canvas.reduce(OVERSAMPLE)).astype(np.float32) / 255
    scene = light(rng, scene) + rng.uniform(0, 0.05) * rng.standard_normal(scene.shape)
    return (255 * np.clip(scene, 0, 1)).round().astype(np.uint8)


def jpeg_bytes(picture, quality):
    """The picture as a JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()


def train_label(index):
    """Training pictures go round the classes."""
    return index % len(CLASSES)


def draw_for_training(job):
    """One training picture: drawn, put through JPEG at a quality of its own, decoded again."""
    seed, index = job
    quality = int(np.random.default_rng([seed, TRAIN, index, 1]).integers(70, 96))
    picture = draw_picture(seed, TRAIN, index, train_label(index))
    return np.asarray(Image.open(io.BytesIO(jpeg_bytes(picture, quality))))


def write_training_set(out, seed, count, workers):
    """Writes an .npz with images (count,SIZE,SIZE,3) u8 and labels (count) i64."""
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    with multiprocessing.Pool(workers) as pool:
        jobs = ((seed, index) for index in range(count))
        for index, picture in enumerate(pool.imap(draw_for_training, jobs, chunksize=64)):
            images[index] = picture
    np.savez(out, images=images, labels=np.array([train_label(i) for i in range(count)]))


def write_heldout_set(out, seed):
    """Writes images/*.jpg and labels.csv; its first CALIBRATION_COUNT rows are for calibration."""
    labels = np.random.default_rng([seed, HELDOUT]).permutation(
        np.arange(HELDOUT_COUNT) % len(CLASSES)
    )
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows = ["file,label"]
    for index, label in enumerate(labels):
        name = f"images/{index:03d}_{CLASS_NAMES[label]}.jpg"
        (out / name).write_bytes(
            jpeg_bytes(draw_picture(seed, HELDOUT, index, int(label)), HELDOUT_QUALITY)
        )
        rows.append(f"{name},{label}")
    (out / "labels.csv").write_text("\n".join(rows) + "\n")


def main():
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=2026)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="write the training set")
    train.add_argument("--out", type=pathlib.Path, required=True, help=".npz file")
    train.add_argument("--count", type=int, default=18000)
    train.add_argument("--workers", type=int, default=2)
    heldout = commands.add_parser(
        "heldout", help="write the committed calibration and evaluation pictures"
    )
    heldout.add_argument("--out", type=pathlib.Path, required=True, help="folder")
    options = parser.parse_args()
    if options.command == "train":
        write_training_set(options.out, options.seed, options.count, options.workers)
    else:
        write_heldout_set(options.out, options.seed)


if __name__ == "__main__":
    main()
