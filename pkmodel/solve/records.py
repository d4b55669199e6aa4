"""What happens to each patient and when: doses, switches and resets as a table of plain numbers.

A record changes one number at one time. The compiler has made the system autonomous, so four kinds are enough: add to
a state (a bolus), set a state (a reset), set a parameter (start or end of an infusion at a given rate, a new slope
of an input, a covariate), add to a parameter (an infusion that may overlap another). Records of one patient are
sorted by time; those of equal time act one after the other in stored order. Patients have different numbers of
records, so rows are filled up with records at infinity, which never happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkmodel.errors import SimulationError


class Kind(IntEnum):
    """What a record does with its value v."""

    ADD_STATE = 0  # y[index] += v
    SET_STATE = 1  # y[index] = v
    SET_PARAM = 2  # p[index] = v
    ADD_PARAM = 3  # p[index] += v


type Row = tuple[float, int, int, float]
"""Time [h], kind, index, value."""


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Records of N patients, at most E each.

    Parameters
    ----------
    time : (N, E) array, not decreasing along a row, infinite where there is no record [h]
    kind : (N, E) array of `Kind`
    index : (N, E) array, number of the state or parameter
    value : (N, E) array [state or parameter]

    Raises
    ------
    SimulationError
        Shapes differ, a time is negative or out of order, a kind is unknown, an index negative, a value not finite.
    """

    time: NDArray[np.float64]
    kind: NDArray[np.int8]
    index: NDArray[np.int64]
    value: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Take the arrays in the driver's own form and refuse what cannot be carried out."""
        for name, dtype in (("time", np.float64), ("kind", np.int8), ("index", np.int64), ("value", np.float64)):
            object.__setattr__(self, name, np.require(getattr(self, name), dtype, ["C", "W"]))  # one type for numba
        shapes = {self.time.shape, self.kind.shape, self.index.shape, self.value.shape}
        if len(shapes) != 1 or self.time.ndim != 2:
            raise SimulationError(
                f"records: time, kind, index and value must have one shape (patients, records), found {sorted(shapes)}"
            )
        there = self.time < np.inf
        if self.time.shape[1]:
            later = np.maximum.accumulate(self.time, axis=1)
            self._refuse(~(self.time >= 0), "time", "a number of hours from 0 on")
            self._refuse(self.time < later, "time", "no earlier than the record before it; sort the records by time")
        self._refuse(there & ~np.isin(self.kind, list(Kind)), "kind", f"one of {', '.join(f'{k:d}' for k in Kind)}")
        self._refuse(there & (self.index < 0), "index", "0 or more")
        self._refuse(there & ~np.isfinite(self.value), "value", "finite")

    def _refuse(self, bad: NDArray[np.bool_], name: str, allowed: str) -> None:
        if bad.any():
            patient, record = (int(k) for k in np.argwhere(bad)[0])
            found = getattr(self, name)[patient, record]
            raise SimulationError(
                f"records: {name} of record {record} of patient {patient} is {found}; it must be {allowed}"
            )

    @property
    def patients(self) -> int:
        """Number of rows."""
        return int(self.time.shape[0])

    @property
    def there(self) -> NDArray[np.bool_]:
        """(N, E) array, true where a record is not filling."""
        return np.asarray(self.time < np.inf)

    def check(self, states: int, parameters: int) -> None:
        """Refuse an index that the model does not have.

        Parameters
        ----------
        states, parameters : numbers of states and of parameters

        Raises
        ------
        SimulationError
            An index is too large.
        """
        if not self.index.size or self.index.max() < min(states, parameters):
            return
        of_state = self.kind <= Kind.SET_STATE
        self._refuse(self.there & of_state & (self.index >= states), "index", f"a state, 0 to {states - 1}")
        self._refuse(
            self.there & ~of_state & (self.index >= parameters), "index", f"a parameter, 0 to {parameters - 1}"
        )

    def take(self, patients: NDArray[np.int64] | slice) -> Records:
        """The rows of some patients.

        Parameters
        ----------
        patients : (M,) numbers of patients, or a slice
        """
        return Records(self.time[patients], self.kind[patients], self.index[patients], self.value[patients])


def records(rows: Iterable[Row]) -> Records:
    """Records of one patient, sorted by time; those of equal time keep their order.

    Parameters
    ----------
    rows : (time [h], kind, index, value) of each record

    Raises
    ------
    SimulationError
        As for `Records`.
    """
    ordered = sorted(rows, key=lambda row: row[0])
    columns = list(zip(*ordered, strict=True)) if ordered else [(), (), (), ()]
    time, kind, index, value = (np.array(column).reshape(1, -1) for column in columns)
    return Records(time, kind, index, value)


def broadcast(one: Records, patients: int) -> Records:
    """The same records for every patient.

    Parameters
    ----------
    one : records of one patient
    patients : how many

    Raises
    ------
    SimulationError
        `one` has more than one row, and not as many as there are patients.
    """
    if one.patients == patients:
        return one
    if one.patients != 1:
        raise SimulationError(
            f"records: {one.patients} rows for {patients} patients; give one row for all or one for each"
        )
    shape = (patients, one.time.shape[1])
    time, value = np.broadcast_to(one.time, shape), np.broadcast_to(one.value, shape)
    return Records(time, np.broadcast_to(one.kind, shape), np.broadcast_to(one.index, shape), value)


def stack(patients: Sequence[Records]) -> Records:
    """Records of many patients from those of each, filled up to the longest.

    Parameters
    ----------
    patients : records, whose rows follow one another
    """
    longest = max((r.time.shape[1] for r in patients), default=0)

    def filled(name: str, filling: float) -> Any:
        arrays = (getattr(r, name) for r in patients)
        return np.concatenate(
            [np.pad(a, ((0, 0), (0, longest - a.shape[1])), constant_values=filling) for a in arrays]
            or [np.zeros((0, 0))]
        )

    return Records(filled("time", np.inf), filled("kind", 0), filled("index", 0), filled("value", 0))


def merge(*parts: Records) -> Records:
    """All records of several lists for the same patients, sorted by time; at equal times earlier lists act first.

    Parameters
    ----------
    parts : lists of records with one row for each patient
    """
    time = np.concatenate([r.time for r in parts], axis=1)
    order = np.argsort(time, axis=1, kind="stable")

    def ordered(name: str) -> Any:
        return np.take_along_axis(np.concatenate([getattr(r, name) for r in parts], axis=1), order, axis=1)

    return Records(ordered("time"), ordered("kind"), ordered("index"), ordered("value"))
