"""When to scan: expected information of scans that are not done yet, and the best of them (optimal design)."""

from .choosing import design as design
from .choosing import sampling_adequacy as sampling_adequacy
from .clinic import Clinic as Clinic
from .result import Design as Design
from .scan_noise import ScanNoise as ScanNoise
from .single_scan import BestTime as BestTime
from .single_scan import best_time as best_time
