"""Splits for cross-validation: made by image similarity, kept in a file, checked when read."""

from compkit.folds.make import make_folds
from compkit.folds.reading import read_folds
from compkit.folds.table import ALL, Folds

__all__ = ["ALL", "Folds", "make_folds", "read_folds"]
