"""Data: toy densities with exact log-densities, tables from files, images, stacked digits, anomaly-detection problems."""

from .cifar import load_cifar10
from .deskew import deskewed
from .digits import AnomalySplit, load_adbench, load_digits_one_held_out
from .download import download
from .errors import DataError
from .files import Table, read_arrays, read_table
from .images import Images, load_fashion_mnist, load_mnist, read_idx
from .locate import cache_dir, data_dir, find
from .logit import DequantisedBatches, LogitTransform, dequantise
from .splits import train_held_out_split
from .stacked_mnist import StackedDigits, scaled_pixels, stacked_classes, stacked_mnist
from .toy import TOY_DENSITIES, toy_density

__all__ = [
    "TOY_DENSITIES",
    "AnomalySplit",
    "DataError",
    "DequantisedBatches",
    "Images",
    "LogitTransform",
    "StackedDigits",
    "Table",
    "cache_dir",
    "data_dir",
    "dequantise",
    "deskewed",
    "download",
    "find",
    "load_adbench",
    "load_cifar10",
    "load_digits_one_held_out",
    "load_fashion_mnist",
    "load_mnist",
    "read_arrays",
    "read_idx",
    "read_table",
    "scaled_pixels",
    "stacked_classes",
    "stacked_mnist",
    "toy_density",
    "train_held_out_split",
]
