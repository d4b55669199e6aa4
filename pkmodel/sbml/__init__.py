"""SBML, the exchange format of systems biology: models read from it and written to it.

`document` reads a file into plain records (`mathml` its formulas, `names` its ids), `algebraic` solves what is given
implicitly, `equations` works out what the records mean, `units` what they are measured in, `reader` makes a model of
it. `writer` goes the other way, with `content` for its formulas.
"""

from .reader import Imported as Imported
from .reader import import_sbml as import_sbml
from .reader import read_sbml as read_sbml
from .writer import write_sbml as write_sbml
