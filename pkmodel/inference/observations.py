"""All measured values of one subject in one flat table, in the order in which the model's predictions come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..formats.curve import ABOVE, BELOW, Curve
from .protocol import ErrorModel
from .variances import shape_of

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """Measured values, one entry each; an endpoint is a region, or what else was measured (plasma, urine).

    Parameters
    ----------
    value : (n,) array; where censored, the limit; nan where missing [unit of the endpoint]
    time : (n,) array, middle of the frame [h]
    shape : (n,) array, variance up to the size that the noise model gives it, 1 where nothing is known
    endpoint : (n,) array, index into `endpoints` [1]
    endpoints : names [text]
    units : of each endpoint [text]
    censored : (n,) array: 0 measured, -1 below the limit in `value`, +1 at least `value`
    counted : (n,) array, False for a value that is predicted but not counted (missing, or of weight zero)
    occasion : (n,) array, index into `occasions` [1]
    occasions : names; one empty name where there is only one [text]
    """

    value: Array
    time: Array
    shape: Array
    endpoint: NDArray[np.intp]
    endpoints: tuple[str, ...]
    units: tuple[str, ...]
    censored: NDArray[np.int8]
    counted: NDArray[np.bool_]
    occasion: NDArray[np.intp]
    occasions: tuple[str, ...] = ("",)

    def __len__(self) -> int:
        return len(self.value)

    @property
    def region(self) -> tuple[str, ...]:
        """Region of each endpoint."""
        return self.endpoints

    @property
    def points(self) -> int:
        """Number of values that count, censored ones included."""
        return int(self.counted.sum())

    def aligned(self, endpoints: Sequence[str]) -> Observations:
        """The same values with their endpoints numbered as in `endpoints`.

        Raises
        ------
        DataError
            An endpoint is not among them.
        """
        if tuple(endpoints) == self.endpoints:
            return self
        if unknown := [e for e in self.endpoints if e not in endpoints]:
            raise DataError(f"no noise is known for {', '.join(unknown)}; known: {', '.join(endpoints)}")
        number = np.array([list(endpoints).index(e) for e in self.endpoints], dtype=np.intp)
        units = [""] * len(endpoints)
        for e, unit in zip(number, self.units, strict=True):
            units[e] = unit
        return replace(self, endpoint=number[self.endpoint], endpoints=tuple(endpoints), units=tuple(units))

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Observations:
        """Some of the values, by a mask or by numbers."""
        names = ("value", "time", "shape", "endpoint", "censored", "counted", "occasion")
        return replace(self, **{n: getattr(self, n)[which] for n in names})


def gather(curves: Sequence[Curve], error: ErrorModel, occasions: Sequence[str] = ()) -> Observations:
    """One flat table of the values of some curves, one after the other.

    Parameters
    ----------
    curves : in the order of the predictions
    error : says what is known of the variances
    occasions : of each curve; default none [text]

    Raises
    ------
    DataError
        One region is given in two units.
    """
    when = list(occasions) or [""] * len(curves)
    names = list(dict.fromkeys(c.region for c in curves))
    cycles = list(dict.fromkeys(when)) or [""]
    units: dict[str, str] = {}
    for c in curves:
        if units.setdefault(c.region, c.unit) != c.unit:
            raise DataError(
                f"{c.who}: values in {c.unit!r} and in {units[c.region]!r}; convert them to one unit: .to_unit(...)"
            )
    lengths = [len(c) for c in curves]
    shape = _joined([shape_of(c, error) for c in curves])
    code = np.concatenate([np.zeros(0, dtype=np.int8), *(c.censored for c in curves)])
    return Observations(
        value=_joined([c.value for c in curves]),
        time=_joined([c.t for c in curves]),
        shape=np.where(np.isfinite(shape), shape, 1.0),
        endpoint=np.repeat(np.array([names.index(c.region) for c in curves], dtype=np.intp), lengths),
        endpoints=tuple(names),
        units=tuple(units[n] for n in names),
        censored=np.where((code == BELOW) | (code == ABOVE), code, 0).astype(np.int8),
        counted=np.isfinite(shape),
        occasion=np.repeat(np.array([cycles.index(o) for o in when], dtype=np.intp), lengths),
        occasions=tuple(cycles),
    )


def _joined(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.zeros(0), *arrays])
