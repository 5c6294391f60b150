"""Segmentation competitions whose labels are regions without names."""

__version__ = "0.1.0"
