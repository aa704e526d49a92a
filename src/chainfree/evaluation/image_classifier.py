"""A small classifier of grey images, which exists to judge generated ones.

Counting modes and comparing features needs a judge that is not the model under test. Papers each use a network of their own;
this one is trained in the recipe that needs it, from a seed, and kept nowhere, so that no result hangs on a file of weights.
Its errors add spurious modes: judge it on test images first, :func:`classify_stacked` on stacks whose class is known.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..checks import require_finite, require_positive_int
from ..datasets import scaled_pixels, stacked_classes

__all__ = ["classify_stacked", "image_features", "train_image_classifier"]

_CLASSES = 10
_BATCH = 128
_LEARNING_RATE = 3e-3
_IMAGES_AT_A_TIME = 128  # on a CPU larger parts fall out of its cache and take half as long again


def train_image_classifier(images: Tensor, labels: Tensor, *, seed: int, epochs: int = 3) -> nn.Sequential:
    """Train a convolutional network of two layers by cross-entropy with Adam and one cycle of the learning rate.

    With the 60 000 digits of MNIST, three epochs take about a minute on one core and reach 99 % on the test digits.

    Args:
        images: ``(N, 1, H, W)`` uint8 as :func:`chainfree.datasets.load_mnist` gives them, at least 4 x 4 pixels.
        labels: classes 0 to 9, ``(N,)`` int64.
        seed: of the first weights and of the order.
        epochs: passes over the images.

    Returns:
        A network, in evaluation mode and without gradients, from ``(B, 1, H, W)`` in [-1, 1] to logits ``(B, 10)``.

    Raises:
        ValueError: other shapes or types, labels outside 0 to 9, images that are too small, epochs below 1.
    """
    require_positive_int("epochs", epochs)
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 1 or not len(images):
        raise ValueError(
            f"images must be uint8 (N, 1, H, W), got {images.dtype} {tuple(images.shape)}; give grey bytes"
        )
    if min(images.shape[2:]) < 4:
        raise ValueError(
            f"images must have at least 4 x 4 pixels, got {tuple(images.shape[2:])}; the network halves twice"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(f"labels must be int64 ({len(images)},), got {labels.dtype} {tuple(labels.shape)}")
    if int(labels.min()) < 0 or int(labels.max()) >= _CLASSES:
        raise ValueError(f"labels must be classes 0 to 9, got {int(labels.min())} to {int(labels.max())}")
    with torch.random.fork_rng(devices=[]):  # layers take their first weights from the global generator
        torch.manual_seed(seed)
        network = _network(images.shape[2], images.shape[3]).to(images.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    steps = epochs * math.ceil(len(images) / _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for index in torch.randperm(len(images), generator=order).to(images.device).split(_BATCH):
            loss = functional.cross_entropy(network(scaled_pixels(images[index])), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval().requires_grad_(False)


@torch.no_grad()
def classify_stacked(classifier: nn.Module, x: Tensor) -> Tensor:
    """The class of each stacked image: 100 a + 10 b + c for the digits a, b, c seen in channels 0, 1, 2.

    Args:
        classifier: from ``(B, 1, H, W)`` in [-1, 1] to logits ``(B, 10)``.
        x: ``(N, 3, H, W)`` in [-1, 1], on the classifier's device; evaluated 128 channels at a time.

    Returns:
        ``(N,)`` int64, as :func:`chainfree.datasets.stacked_classes` numbers them.

    Raises:
        ValueError: another shape, or NaN or infinite values, which have no class.
    """
    if x.dim() != 4 or x.shape[1] != 3:
        raise ValueError(f"x must be stacked images (N, 3, H, W), got {tuple(x.shape)}")
    require_finite("x", x)
    channels = x.flatten(0, 1).unsqueeze(1)  # image by image, and channel by channel in each
    digits = torch.cat([classifier(part).argmax(dim=1) for part in channels.split(_IMAGES_AT_A_TIME)])
    return stacked_classes(digits.view(-1, 3))


@torch.no_grad()
def image_features(classifier: nn.Sequential, x: Tensor) -> Tensor:
    """What the classifier's last layer sees of images: where :func:`frechet_distance` and precision and recall are taken.

    Args:
        classifier: of :func:`train_image_classifier`.
        x: ``(N, 1, H, W)`` in [-1, 1], on the classifier's device.

    Returns:
        ``(N, 128)``, not negative.

    Raises:
        ValueError: NaN or infinite values.
    """
    require_finite("x", x)
    return torch.cat([classifier[:-1](part) for part in x.split(_IMAGES_AT_A_TIME)])


def _network(height: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 128),
        nn.ReLU(),
        nn.Linear(128, _CLASSES),
    )
