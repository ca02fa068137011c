"""Isthmus: joint models between institutions, while raw data never leaves its owner."""

__version__ = "0.1.0"
