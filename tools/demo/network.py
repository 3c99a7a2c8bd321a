"""The demo's network: ordinary residual blocks (ReLU), then MobileNet's depthwise blocks (ReLU6).

Both kinds are there on purpose: residual additions, strided projections, depthwise convolutions,
bounded and unbounded activations and linear bottlenecks are what a quantizer of image classifiers
has to get right.
Input (N,3,96,96) float, RGB, x/127.5 - 1. Output (N,20) logits.
"""

import torch
from torch import nn

SIDE = 96


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNormalization, then nothing, "relu" or "relu6"."""

    def __init__(self, inputs, outputs, kernel, stride=1, groups=1, activation=""):
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = activation

    def forward(self, x):
        x = self.norm(self.conv(x))
        if self.activation == "relu6":
            return nn.functional.relu6(x)
        return nn.functional.relu(x) if self.activation == "relu" else x


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (1x1 where the shape changes), added, then ReLU."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, 3, stride, activation="relu")
        self.conv2 = ConvNorm(outputs, outputs, 3)
        changes = stride != 1 or inputs != outputs
        self.shortcut = ConvNorm(inputs, outputs, 1, stride) if changes else None

    def forward(self, x):
        beside = x if self.shortcut is None else self.shortcut(x)
        return nn.functional.relu(self.conv2(self.conv1(x)) + beside)


class Separable(nn.Module):
    """MobileNetV1's block: a depthwise 3x3, then a pointwise convolution, each with ReLU6."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.depthwise = ConvNorm(inputs, inputs, 3, stride, groups=inputs, activation="relu6")
        self.pointwise = ConvNorm(inputs, outputs, 1, activation="relu6")

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class Inverted(nn.Module):
    """MobileNetV2's block: widen, depthwise 3x3, narrow; added to its input if the shapes agree."""

    def __init__(self, inputs, outputs, wide, stride=1):
        super().__init__()
        self.widen = ConvNorm(inputs, wide, 1, activation="relu6")
        self.depthwise = ConvNorm(wide, wide, 3, stride, groups=wide, activation="relu6")
        self.narrow = ConvNorm(wide, outputs, 1)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.narrow(self.depthwise(self.widen(x)))
        return x + y if self.adds else y


class DemoNet(nn.Module):
    """`body` keeps the image, `classifier` follows the average over the image."""

    def __init__(self, classes):
        super().__init__()
        self.body = nn.ModuleDict(
            {
                "stem": ConvNorm(3, 16, 3, 2, activation="relu"),  # (N,16,48,48)
                "separable1": Separable(16, 16),
                "residual1": Residual(16, 16),
                "residual2": Residual(16, 48, 2),  # (N,48,24,24)
                "inverted1": Inverted(48, 48, 192),
                "inverted2": Inverted(48, 80, 192, 2),  # (N,80,12,12)
                "inverted3": Inverted(80, 80, 320),
                "inverted4": Inverted(80, 112, 320, 2),  # (N,112,6,6)
                "inverted5": Inverted(112, 112, 336),
                "head": ConvNorm(112, 192, 1, activation="relu6"),
            }
        )
        self.classifier = nn.Linear(192, classes)

    def forward(self, x):
        for block in self.body.values():
            x = block(x)
        return self.classifier(x.mean((2, 3)))


def preprocess(images):
    """(N,SIDE,SIDE,3) uint8 to (N,3,SIDE,SIDE) float, x/127.5 - 1: the preset "imagenet-tf"."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
