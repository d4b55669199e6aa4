"""Virtual patients: parameter values drawn from a published population.

A population is a model whose parameters have a typical value and a between-subject spread `cv`. Parameter of patient i:
``typical * exp(eta_i)``, ``eta ~ N(0, log(1 + cv^2))``; the typical value is the median and `cv` the coefficient of
variation of the log-normal (Lavielle 2014, Mixed Effects Models for the Population Approach, doi:10.1201/b17203).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import SimulationError, did_you_mean
from .model import Model

if TYPE_CHECKING:
    import pandas as pd

_REDRAWS = 100  # of one patient, before the bounds are said to leave no room


def cohort(
    model: Model | str,
    n: int,
    *,
    seed: int,
    spread: Mapping[str, float] | None = None,
    correlation: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Draw virtual patients from the population a model describes.

    Parameters
    ----------
    model : a model, or the name of one in the library
    n : number of patients [1]
    seed : of the draws; patient i is the same whatever `n` is [1]
    spread : coefficients of variation in place of (or beside) the model's own, 0 to hold a parameter, name -> cv [1]
    correlation : of the logarithms, names as index and columns; names it leaves out are independent [1]

    Returns
    -------
    pandas.DataFrame
        One row a patient, one column a parameter that varies, in the parameter's declared unit; ``attrs`` say where the
        draws come from. It is what ``simulate(..., parameters=...)`` takes, and columns may be added (a covariate of
        each patient is a parameter like any other).

    Raises
    ------
    SimulationError
        Nothing varies, a name is not a parameter with a value, the correlation is none, or the bounds of a parameter
        leave no room.
    """
    import pandas as pd

    if isinstance(model, str):
        from .assembly import load_model

        model = load_model(model)
    if n < 1:
        raise SimulationError(f"{model.who}: a cohort needs at least one patient, found n = {n}")
    spreads = _spreads(model, spread or {})
    names = list(spreads)
    typical = np.array([model.parameters[p].value for p in names], dtype=float)
    lower = np.array([model.parameters[p].lower for p in names])
    upper = np.array([model.parameters[p].upper for p in names])
    root = _root(model, names, np.array(list(spreads.values())), correlation)
    values = np.empty((n, len(names)))
    redrawn = 0
    for i in range(n):
        rng = np.random.default_rng([seed, i])  # of this patient alone
        for _ in range(_REDRAWS):
            values[i] = typical * np.exp(root @ rng.standard_normal(len(names)))
            if np.all((values[i] >= lower) & (values[i] <= upper)):
                break
            redrawn += 1
        else:
            out = names[int(np.argmax((values[i] < lower) | (values[i] > upper)))]
            raise SimulationError(
                f"{model.who}: {_REDRAWS} draws of patient {i} all lay outside the bounds of {out} "
                f"({model.parameters[out].lower:g} to {model.parameters[out].upper:g}); widen them or lower its spread"
            )
    table = pd.DataFrame(values, columns=names, index=pd.RangeIndex(n, name="patient"))
    table.attrs = {
        "model": model.name,
        "seed": seed,
        "cv": spreads,
        "redrawn": redrawn,
        "source": "; ".join(dict.fromkeys(model.parameters[p].source for p in names if model.parameters[p].source)),
    }
    return table


def _spreads(model: Model, given: Mapping[str, float]) -> dict[str, float]:
    """Coefficient of variation of every parameter that varies."""
    for name, cv in given.items():
        p = model.parameters.get(name)
        if p is None or p.value is None:
            known = ", ".join(model.primary)
            raise SimulationError(
                f"{model.who}: spread of {name!r}{did_you_mean(name, model.primary)}: no such parameter with a value; "
                f"known: {known}"
            )
        if not 0 <= cv < np.inf:
            raise SimulationError(f"{model.who}: spread of {name} is {cv}; a coefficient of variation is 0 or more")
    own = {n: model.parameters[n].cv for n in model.primary}
    every = {n: given.get(n, own[n]) for n in model.primary}
    spreads = {n: float(cv) for n, cv in every.items() if cv}
    if not spreads:
        raise SimulationError(f"{model.who}: no parameter has a spread; give spread={{name: cv}}")
    for name in spreads:
        if (value := model.parameters[name].value) is None or value <= 0:
            raise SimulationError(f"{model.who}: {name} = {value} cannot vary log-normally; it must be positive")
    return spreads


def _root(
    model: Model, names: list[str], cv: NDArray[np.float64], correlation: pd.DataFrame | None
) -> NDArray[np.float64]:
    """Matrix that turns independent normal numbers into the logarithms' deviations."""
    omega = np.sqrt(np.log1p(cv**2))
    matrix = np.eye(len(names))
    if correlation is not None:
        if unknown := [c for c in {*correlation.index, *correlation.columns} if c not in names]:
            raise SimulationError(
                f"{model.who}: correlation of {', '.join(map(str, unknown))}, which does not vary; "
                f"varying: {', '.join(names)}"
            )
        where = [names.index(c) for c in correlation.index]
        matrix[np.ix_(where, where)] = correlation.loc[correlation.index, correlation.index].to_numpy(dtype=float)
    if not (np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1)):
        raise SimulationError(f"{model.who}: the correlation must be symmetric with ones on its diagonal")
    try:
        root: NDArray[np.float64] = omega[:, None] * np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise SimulationError(f"{model.who}: the correlation is not positive definite") from None
    return root
