"""How a graphical estimate depends on t*: the table to look at before one is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FitError
from .result import PetResult

if TYPE_CHECKING:
    import pandas as pd


def t_star_table(method: Callable[[int], PetResult], frames: range = range(4, 21)) -> pd.DataFrame:
    """Estimate, error and largest distance from the line for each number of last frames.

    Parameters
    ----------
    method : number of last frames -> result, such as ``lambda n: logan(tissue, plasma, frames=n)``
    frames : numbers of frames to try [1]

    Returns
    -------
    pandas.DataFrame
        Index frames; columns t_star [min], the first estimate and its se, and max_deviation (relative to the line).

    Raises
    ------
    FitError
        No number of frames can be used.
    """
    import pandas as pd

    rows, refused = [], ""
    for n in frames:
        try:
            one = method(n)
        except FitError as error:
            refused = str(error)
            continue
        p, used = one.points, one.points.used
        worst = float(np.max(np.abs(p.y[used] - p.fitted[used]) / np.abs(p.fitted[used])))
        first = one.estimates[0]
        rows.append(
            {"frames": n, "t_star": one.t_star, first.name: first.value, "se": first.se, "max_deviation": worst}
        )
    if not rows:
        raise FitError(f"t* table: no number of frames from {frames.start} to {frames.stop - 1} can be used: {refused}")
    return pd.DataFrame(rows).set_index("frames")
