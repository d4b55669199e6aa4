"""Formats of one binder beside each other: what tumour and organs get, when to image, which nuclide fits."""

from .formats import compare_formats
from .result import FormatComparison
from .sweeps import TumourSweep, map_size_affinity, sweep_tumour

__all__ = ["FormatComparison", "TumourSweep", "compare_formats", "map_size_affinity", "sweep_tumour"]
