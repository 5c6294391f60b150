"""Splits for cross-validation: made by image similarity, kept in a file, checked when read."""

from compkit.folds.make import make_folds
from compkit.folds.table import Folds, read_folds

__all__ = ["Folds", "make_folds", "read_folds"]
