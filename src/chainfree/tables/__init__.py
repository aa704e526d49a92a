"""Tables with columns of every kind, and the way to tensors and back."""

from .columns import Category, CategoryColumn, Column, NumberColumn, Order
from .schema import Schema

__all__ = ["Category", "CategoryColumn", "Column", "NumberColumn", "Order", "Schema"]
