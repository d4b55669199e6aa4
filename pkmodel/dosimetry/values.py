"""Numbers with a unit, and numbers with a spread, as the dosimetry verbs take and give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DoseError
from ..units import convert, dimension, quantity, same_dimension

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def canonical(value: float | str, unit: str, who: str) -> float:
    """Read a positive number in a canonical unit: a float as it is, or text such as ``"2.8 h"``."""
    if isinstance(value, str):
        read = quantity(value, who)
        if read.dimension != dimension(unit):
            raise DoseError(
                f"{who}: {value!r} ({read.dimension}); needed: a number in {unit}, or text with such a unit"
            )
        number = read.value
    else:
        number = float(value)
    if not (np.isfinite(number) and number > 0):
        raise DoseError(f"{who}: found {value!r}; allowed: positive and finite [{unit}]")
    return number


def spread(draws: Floats) -> tuple[float, float, float]:
    """Give the standard deviation and the 2.5 % and 97.5 % quantiles of draws; nan where there is only one."""
    if draws.size < 2:
        return float("nan"), float("nan"), float("nan")
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(np.std(draws, ddof=1)), float(low), float(high)


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Random numbers of one purpose: the same seed gives unrelated numbers to TIA, mass and S value."""
    return np.random.default_rng([seed, *purpose.encode()])


def lognormal(mean: Floats, sd: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Draw log-normal numbers with the given means and standard deviations; where the sd is 0, the mean itself.

    Parameters
    ----------
    mean, sd : (n,) arrays, any unit
    draws : number of draws [1]
    rng : NumPy random generator

    Returns
    -------
    (n, draws) array, the unit of `mean`
    """
    normal = rng.standard_normal((mean.size, draws))
    ratio = np.divide(sd, mean, out=np.zeros_like(mean), where=mean > 0)
    variance = np.log1p(ratio**2)[:, None]
    return np.asarray(mean[:, None] * np.exp(np.sqrt(variance) * normal - variance / 2.0), dtype=float)


def tia_factor(unit: str, injected: float) -> float:
    """Factor from the user's unit to MBq h; a plain time is a TIAC and takes the injected activity."""
    if same_dimension(unit, "MBq h"):
        return float(convert(1.0, unit, "MBq h"))
    if same_dimension(unit, "h"):
        return float(convert(1.0, unit, "h")) * injected
    raise DoseError(f"time-integrated activity: unit {unit!r}; allowed: 'MBq h', 'GBq s', ... (TIA) or 'h', 's' (TIAC)")


def variable(dims: tuple[str, ...], values: Any, units: str, meaning: str) -> tuple[Any, ...]:
    """Give a Dataset variable as floats, with its unit and meaning."""
    return dims, np.asarray(values, dtype=float), {"units": units, "long_name": meaning}
