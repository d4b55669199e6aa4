"""The same virtual patients for several models: what two models both vary is varied alike in both.

`cohort` draws each model's patients for itself. To compare formats, patient i must have one liver, one blood flow and
one tumour under all of them, or the spread of the patients hides the difference of the formats. So the random numbers
of a parameter hang on its name and the seed alone (common random numbers), and what lies outside the bounds is cut off
rather than drawn again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from ..expressions import symbol
from ..model import Model
from ..units import factor

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


def shared_patients(
    model: Model, n: int, seed: int, spread: Mapping[str, float] | None = None, *, typical: bool = True
) -> pd.DataFrame:
    """Draw patients whose parameters agree between models wherever names and distributions do.

    Log-normal as in `cohort`, with the typical value as median, but cut off at a parameter's bounds.

    Parameters
    ----------
    model : whose parameters have a `cv`
    n : number of patients [1]
    seed : of the draws [1]
    spread : coefficients of variation in place of the model's own; names the model does not have are passed over [1]
    typical : put the typical patient first, as patient 0

    Returns
    -------
    pandas.DataFrame
        One row a patient, one column a parameter that varies, in its declared unit. No column varies: no rows differ.
    """
    import pandas as pd
    from scipy.special import ndtr, ndtri

    columns: dict[str, Array] = {}
    for name in model.primary:
        p = model.parameters[name]
        cv = (spread or {}).get(name, p.cv)
        if not cv or p.value is None or p.value <= 0:
            continue
        value = float(p.value)
        omega = float(np.sqrt(np.log1p(cv**2)))
        low = ndtr(np.log(p.lower / value) / omega) if p.lower > 0 else 0.0
        high = ndtr(np.log(p.upper / value) / omega) if np.isfinite(p.upper) else 1.0
        u = _stream(seed, name).random(n)
        drawn = value * np.exp(omega * ndtri(low + (high - low) * u))
        columns[name] = np.concatenate([[value], drawn]) if typical else drawn
    count = n + 1 if typical else n
    index = pd.RangeIndex(count, name="patient")
    if not columns:  # nothing varies: a table needs a column nevertheless
        name = next(x for x in model.primary if model.parameters[x].value is not None)
        columns[name] = np.full(count, float(model.parameters[name].value or 0.0))
    return pd.DataFrame(columns, index=index)


def _stream(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype=np.uint32).tolist()])


def evaluate(model: Model, names: Sequence[str], table: pd.DataFrame) -> dict[str, Array]:
    """Values of parameters, formulas included, for every patient.

    Parameters
    ----------
    model : whose parameters
    names : what is wanted [text]
    table : one row a patient, declared units

    Returns
    -------
    dict
        name -> (patients,) array in the declared unit; names the model does not have are left out.
    """
    out: dict[str, Array] = {}
    for name in names:
        if name in model.parameters:
            value = _numbers(model, symbol(name), table)
            out[name] = value / factor(model.parameters[name].unit)
    return out


def sound(model: Model, table: pd.DataFrame) -> NDArray[np.bool_]:
    """Which patients meet every requirement of the model, (patients,) array."""
    good = np.ones(len(table), dtype=bool)
    for requirement in model.requirements:
        good &= _numbers(model, requirement.condition, table).astype(bool)
    return good


def _numbers(model: Model, expression: Any, table: pd.DataFrame) -> Array:
    """An expression in canonical units for every patient."""
    written = sp.sympify(expression).xreplace(model.resolved)
    names = sorted(s.name for s in written.free_symbols)
    own = [
        table[n].to_numpy(dtype=float) * factor(model.parameters[n].unit)
        if n in table
        else np.full(len(table), model.parameters[n].canonical)
        for n in names
    ]
    value = _function(written, tuple(names))(*own)
    return np.broadcast_to(np.asarray(value, dtype=float), (len(table),))


@lru_cache(maxsize=256)
def _function(written: Any, names: tuple[str, ...]) -> Any:
    return sp.lambdify([symbol(n) for n in names], written, "numpy", cse=True)
