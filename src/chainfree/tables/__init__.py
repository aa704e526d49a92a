"""Tables with columns of every kind, and the way to tensors and back."""

from .columns import Category, CategoryColumn, Column, NumberColumn, Order
from .encoder import EncodedColumn, Report, Scaling, TableEncoder
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
]
