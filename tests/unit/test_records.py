"""Records refuse what cannot be carried out, and keep the order of what happens at one time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkmodel.errors import SimulationError
from pkmodel.solve.records import Kind, Records, broadcast, merge, records, stack


def test_rows_are_sorted_and_ties_keep_their_order() -> None:
    made = records([(3.0, Kind.ADD_STATE, 0, 1.0), (1.0, Kind.SET_PARAM, 2, 5.0), (3.0, Kind.SET_STATE, 1, 2.0)])
    np.testing.assert_array_equal(made.time, [[1.0, 3.0, 3.0]])
    np.testing.assert_array_equal(made.kind, [[2, 0, 1]])
    np.testing.assert_array_equal(made.index, [[2, 0, 1]])
    np.testing.assert_array_equal(made.value, [[5.0, 1.0, 2.0]])
    assert (made.kind.itemsize, made.index.itemsize) == (1, 8)


def test_nothing_happens() -> None:
    nothing = records([])
    assert (nothing.patients, nothing.time.shape) == (1, (1, 0))
    nothing.check(1, 0)
    assert broadcast(nothing, 4).patients == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"time": [[-1.0, 2.0]]}, "time of record 0 of patient 0 is -1.0; it must be a number of hours from 0 on"),
        ({"time": [[np.nan, 2.0]]}, "from 0 on"),
        ({"time": [[3.0, 2.0]]}, "time of record 1 of patient 0 is 2.0; it must be no earlier"),
        ({"kind": [[0, 4]]}, "kind of record 1 of patient 0 is 4; it must be one of 0, 1, 2, 3"),
        ({"index": [[0, -1]]}, "index of record 1"),
        ({"value": [[np.inf, 1.0]]}, "value of record 0 of patient 0 is inf; it must be finite"),
        ({"value": [[1.0]]}, "must have one shape"),
        ({"time": [1.0, 2.0], "kind": [0, 0], "index": [0, 0], "value": [1.0, 1.0]}, "must have one shape"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, list[list[float]]], words: str) -> None:
    sound = {"time": [[1.0, 2.0]], "kind": [[0, 1]], "index": [[0, 1]], "value": [[1.0, 2.0]]}
    arrays = {name: np.array(rows) for name, rows in {**sound, **change}.items()}
    with pytest.raises(SimulationError, match=words):
        Records(**arrays)


def test_what_fills_a_row_up_is_not_looked_at() -> None:
    Records(np.array([[np.inf]]), np.array([[9]]), np.array([[-1]]), np.array([[np.nan]]))


def test_indices_are_those_of_the_model() -> None:
    made = records([(0.0, Kind.SET_STATE, 2, 1.0), (0.0, Kind.ADD_PARAM, 1, 1.0)])
    made.check(3, 2)
    with pytest.raises(SimulationError, match="a state, 0 to 1"):
        made.check(2, 2)
    with pytest.raises(SimulationError, match="a parameter, 0 to 0"):
        made.check(3, 1)


def test_stack_fills_up_and_take_takes() -> None:
    both = stack([records([(0.0, 0, 0, 1.0), (5.0, 0, 0, 2.0)]), records([(1.0, 1, 3, 4.0)]), records([])])
    np.testing.assert_array_equal(both.time, [[0.0, 5.0], [1.0, np.inf], [np.inf, np.inf]])
    np.testing.assert_array_equal(both.there, [[True, True], [True, False], [False, False]])
    assert both.take(np.array([1])).value[0, 0] == 4.0
    assert stack([]).patients == 0


def test_merge_keeps_the_earlier_list_first() -> None:
    merged = merge(records([(1.0, 0, 0, 1.0), (4.0, 0, 0, 2.0)]), records([(1.0, 1, 0, 9.0), (2.0, 0, 0, 3.0)]))
    np.testing.assert_array_equal(merged.time, [[1.0, 1.0, 2.0, 4.0]])
    np.testing.assert_array_equal(merged.value, [[1.0, 9.0, 3.0, 2.0]])


def test_broadcast_refuses_other_numbers() -> None:
    two = stack([records([]), records([])])
    assert broadcast(two, 2) is two
    with pytest.raises(SimulationError, match="2 rows for 3 patients"):
        broadcast(two, 3)


@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 3), st.integers(0, 5), st.floats(-1e3, 1e3)), max_size=8))
def test_every_row_survives(rows: list[tuple[float, int, int, float]]) -> None:
    made = records(rows)
    back = zip(made.time[0], made.kind[0], made.index[0], made.value[0], strict=True)
    assert [(t, int(k), int(i), v) for t, k, i, v in back] == sorted(rows, key=lambda row: row[0])
