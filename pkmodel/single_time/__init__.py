"""Dosimetry from one, two or three scans: a known population applied to a new patient, or to a later cycle.

`predict_tia` gives one patient's time-integrated activities with an interval, beside the methods of daily practice;
`leave_scans_out` says over a cohort which scan can be left out, and which one is best.
"""

from .evaluation import ScanComparison, leave_scans_out
from .prediction import predict_tia
from .result import ReducedScan

__all__ = ["ReducedScan", "ScanComparison", "leave_scans_out", "predict_tia"]
