"""The exceptions a person can meet, all under one root.

::

    PkmodelError
    +-- UnitError          a unit that is unknown or of the wrong dimension
    +-- NuclideError       an unknown nuclide, or one used where it cannot be
    +-- ModelError         a model that does not hang together
    |   +-- ExpressionError    text in a model that is not a permitted formula
    +-- LibraryError       a model, data set or protocol that is not there
    +-- DataError          a table with something wrong in it (file, row, column)
    +-- SimulationError    a regimen or solver request that cannot be carried out
    +-- FitError           a fit that cannot be set up
    +-- DoseError          a dose or a plan that cannot be computed honestly

Every message says who, what was found, what is allowed, and the next step. A numerical failure inside a
solver is not an exception: it is a status with a message in the result.
"""

import difflib
from collections.abc import Iterable


class PkmodelError(Exception):
    """Anything pkmodel refuses; its text is meant to be read by the user."""


class UnitError(PkmodelError):
    """A unit that is unknown, missing, or of the wrong dimension."""


class NuclideError(PkmodelError):
    """A nuclide that is not in the table or cannot be used as asked."""


class ModelError(PkmodelError):
    """A model whose parts do not fit together."""


class ExpressionError(ModelError):
    """Text that is not a permitted formula."""


class LibraryError(PkmodelError):
    """A model, data set or protocol that cannot be found or read."""


class DataError(PkmodelError):
    """A data table with something wrong in it."""


class SimulationError(PkmodelError):
    """A simulation that cannot be set up or did not finish."""


class FitError(PkmodelError):
    """A fit that cannot be set up."""


class DoseError(PkmodelError):
    """A dose or plan that cannot be computed honestly."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggestion for a mistyped name: " (did you mean 'plasma'?)", or nothing where no name is near.

    Parameters
    ----------
    name : str, as typed [text]
    known : names that exist [text]
    """
    names = sorted(known)
    near = [n for n in names if n.casefold() == name.casefold()] or difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
