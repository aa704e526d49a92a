"""The classifier that names modes: what it learns, and which channel is which digit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from chainfree.datasets import Images, StackedDigits, data_dir, load_mnist, scaled_pixels
from chainfree.evaluation import classify_stacked, image_features, mode_coverage, train_image_classifier


@pytest.fixture(scope="module")
def digits() -> tuple[Images, Images]:
    """Scikit-learn's 8 x 8 digits as bytes: every fourth is for testing."""
    x, y = load_digits(return_X_y=True)
    images = torch.from_numpy((x * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
    labels = torch.from_numpy(y.astype(np.int64))
    test = torch.arange(len(labels)) % 4 == 0
    return Images(images[~test], labels[~test]), Images(images[test], labels[test])


@pytest.fixture(scope="module")
def classifier(digits: tuple[Images, Images]) -> nn.Module:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # this fixture is made before the one that every test has
    network = train_image_classifier(digits[0].x, digits[0].y, seed=0, epochs=15)
    torch.set_num_threads(before)
    return network


def _accuracy(network: nn.Module, images: Images) -> float:
    return float((network(scaled_pixels(images.x)).argmax(1) == images.y).double().mean())


def test_it_learns_unseen_digits(classifier: nn.Module, digits: tuple[Images, Images]) -> None:
    assert _accuracy(classifier, digits[1]) > 0.93
    assert not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())


def test_the_classes_are_those_of_the_stream(classifier: nn.Module, digits: tuple[Images, Images]) -> None:
    stream = StackedDigits(digits[1], size=1000, seed=4)
    batch = next(stream)
    assert batch.y is not None
    right = (classify_stacked(classifier, batch.x) == batch.y).double().mean()
    assert right > 0.93**3
    found = mode_coverage(classify_stacked(classifier, batch.x), 1000, stream.class_shares)
    exact = mode_coverage(batch.y, 1000, stream.class_shares)
    assert found.kl == pytest.approx(exact.kl, rel=0.1)
    for order in itertools.permutations(range(3)):
        if order != (0, 1, 2):
            # stacks with repeated digits may survive a permutation: at most 28 % of them do
            assert (classify_stacked(classifier, batch.x[:, list(order)]) == batch.y).double().mean() < 0.35


class _ByBrightness(nn.Module):
    """Reads the digit that an image is painted with; checks what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == (1, 2, 2)
        assert not torch.is_grad_enabled()
        self.sizes.append(len(x))
        return -(x.mean(dim=(1, 2, 3)).unsqueeze(1) - torch.arange(10.0)).abs()


def test_every_channel_of_every_stack_is_read_across_chunks() -> None:
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 10, (1500, 3))
    x = torch.from_numpy(shown).float().view(1500, 3, 1, 1).expand(1500, 3, 2, 2)
    reader = _ByBrightness()
    labels = classify_stacked(reader, x)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [int(f"{a}{b}{c}") for a, b, c in shown]
    assert sum(reader.sizes) == 4500 and len(reader.sizes) > 1 and max(reader.sizes) <= 2048


def test_a_seed_fixes_the_network_and_leaves_the_global_generator_alone(digits: tuple[Images, Images]) -> None:
    x, y = digits[0].x[:300], digits[0].y[:300]
    before = torch.random.get_rng_state()
    first, same, other = (train_image_classifier(x, y, seed=s, epochs=1).state_dict() for s in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_few_images_suffice_to_run() -> None:
    one = train_image_classifier(torch.zeros(1, 1, 4, 5, dtype=torch.uint8), torch.tensor([3]), seed=0, epochs=1)
    assert torch.isfinite(one(torch.zeros(2, 1, 4, 5))).all()


@pytest.mark.parametrize(
    ("images", "labels", "epochs", "words"),
    [
        (torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), 1, "uint8"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), 1, "uint8"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.tensor([], dtype=torch.int64), 1, "uint8"),
        (torch.zeros(2, 1, 3, 8, dtype=torch.uint8), torch.tensor([0, 1]), 1, "at least 4 x 4"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0]), 1, "labels must be int64"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0.0, 1.0]), 1, "labels must be int64"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 10]), 1, "classes 0 to 9"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, -1]), 1, "classes 0 to 9"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), 0, "epochs must be"),
    ],
)
def test_unusable_images_are_refused(images: Tensor, labels: Tensor, epochs: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        train_image_classifier(images, labels, seed=0, epochs=epochs)


def test_features_are_what_the_last_layer_sees(classifier: nn.Sequential, digits: tuple[Images, Images]) -> None:
    x = scaled_pixels(digits[1].x)
    features = image_features(classifier, x)
    assert features.shape == (len(x), 128) and not features.requires_grad
    torch.testing.assert_close(classifier[-1](features), classifier(x))
    with pytest.raises(ValueError, match="first in row 0"):
        image_features(classifier, x[:1] * torch.nan)


def test_unusable_stacks_are_refused() -> None:
    reader = _ByBrightness()
    with pytest.raises(ValueError, match="stacked images"):
        classify_stacked(reader, torch.zeros(2, 1, 2, 2))
    with pytest.raises(ValueError, match="stacked images"):
        classify_stacked(reader, torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="first in row 1"):
        classify_stacked(reader, torch.tensor([0.0, torch.nan]).view(2, 1, 1, 1).expand(2, 3, 2, 2))


def test_a_tenth_of_the_real_digits() -> None:
    folder = data_dir()
    if folder is None or not (folder / "mnist.npz").is_file():
        pytest.skip("CHAINFREE_DATA names no folder with mnist.npz")
    train, test = load_mnist("train"), load_mnist("test")
    network = train_image_classifier(train.x[:6000], train.y[:6000], seed=0, epochs=1)
    assert _accuracy(network, Images(test.x[:1000], test.y[:1000])) > 0.8
