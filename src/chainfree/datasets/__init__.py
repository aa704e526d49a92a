"""Data: toy densities with exact log-densities, tables from files, images, anomaly-detection problems."""

from .digits import AnomalySplit, load_adbench, load_digits_one_held_out
from .download import download
from .errors import DataError
from .files import Table, read_arrays, read_table
from .images import Images, load_fashion_mnist, load_mnist, read_idx
from .locate import cache_dir, data_dir, find
from .splits import train_held_out_split
from .toy import TOY_DENSITIES, toy_density

__all__ = [
    "TOY_DENSITIES",
    "AnomalySplit",
    "DataError",
    "Images",
    "Table",
    "cache_dir",
    "data_dir",
    "download",
    "find",
    "load_adbench",
    "load_digits_one_held_out",
    "load_fashion_mnist",
    "load_mnist",
    "read_arrays",
    "read_idx",
    "read_table",
    "toy_density",
    "train_held_out_split",
]
