"""Non-compartmental analysis: `nca`.

==============  ======================================================================
``analysis``    the verb
``numbers``     what is computed, and what is said about it
``areas``       trapezoids, partial areas, the terminal slope
``cleaning``    samples below quantification, the concentration at the dose
``result``      one analysis and the table of many
==============  ======================================================================
"""

from .analysis import nca as nca
from .result import NCA as NCA
from .result import NCAStudy as NCAStudy
