"""Which parameters planned measurements can determine, before there are data."""

from .doses import Dose as Dose
from .structural import Identifiability as Identifiability
from .structural import identify as identify
