"""Tables with columns of every kind, and the way to tensors and back."""

from .columns import Category, CategoryColumn, Column, NumberColumn, Order
from .encoded import EncodedColumn
from .encoder import Report, TableEncoder
from .files import read_file, read_parts
from .scaling import Scaling
from .schema import Schema

__all__ = [
    "Category",
    "CategoryColumn",
    "Column",
    "EncodedColumn",
    "NumberColumn",
    "Order",
    "Report",
    "Scaling",
    "Schema",
    "TableEncoder",
    "read_file",
    "read_parts",
]
