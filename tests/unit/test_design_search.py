"""Finding scans: all combinations against a plain loop, exchange against all combinations; hours, windows, gaps."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pkmodel.errors import SimulationError
from pkmodel.sampling_design import Clinic
from pkmodel.sampling_design.clinic import within
from pkmodel.sampling_design.search import Candidates, Indices, choose, polish
from support import report

Array = NDArray[np.float64]


class _Additive:
    """Log volume of a sum of information, with random vectors: a hard one to search."""

    def __init__(self, size: int, seed: int, k: int = 3) -> None:
        self.x = np.random.default_rng(seed).standard_normal((size, k))
        self.calls = 0

    def __call__(self, sets: Indices) -> Array:
        self.calls += len(sets)
        x = self.x[sets]
        return np.asarray(-np.linalg.slogdet(0.1 * np.eye(x.shape[-1]) + np.einsum("bnk,bnl->bkl", x, x))[1])


def _grid(size: int, **changes: object) -> Candidates:
    given = {"gap": 0.0, "windows": None, "budget": math.inf, "hours": np.zeros(size), **changes}
    return Candidates(start=np.arange(1.0, size + 1), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("scans", [1, 2, 3, 4])
@pytest.mark.parametrize("gap", [0.0, 2.5])
def test_all_combinations_are_those_of_a_plain_loop(scans: int, gap: float) -> None:
    value, grid = _Additive(14, scans), _grid(14, gap=gap)
    found = choose(value, grid, scans, method="exact")
    loop = [c for c in combinations(range(14), scans) if all(b - a >= gap for a, b in pairwise(c))]
    assert found.tried == len(loop) == grid.count(scans)
    best = min(loop, key=lambda c: float(value(np.array([c]))[0]))
    assert tuple(found.indices) == best
    report("value", float(value(np.array([best]))[0]), found.value, rtol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_exchange_finds_what_all_combinations_find(seed: int) -> None:
    grid = _grid(24, gap=2.0)
    exact = choose(_Additive(24, seed), grid, 4, method="exact")
    other = choose(_Additive(24, seed), grid, 4, method="exchange", seed=seed)
    assert other.method == "exchange" and tuple(other.indices) == tuple(exact.indices)


def test_exchange_with_frames_of_several_lengths_under_a_budget() -> None:
    start = np.repeat(np.arange(1.0, 13.0), 3)
    hours = np.tile([0.1, 0.2, 0.4], 12)
    rng = np.random.default_rng(3)
    shape = rng.standard_normal((12, 3))[np.repeat(np.arange(12), 3)] * np.sqrt(hours)[:, None]

    def value(sets: Indices) -> Array:
        x = shape[sets]
        return np.asarray(-np.linalg.slogdet(0.01 * np.eye(3) + np.einsum("bnk,bnl->bkl", x, x))[1])

    grid = Candidates(start, hours, 0.5, None, 0.75)
    exact, other = choose(value, grid, 3, method="exact"), choose(value, grid, 3, method="exchange")
    assert tuple(exact.indices) == tuple(other.indices)
    assert hours[exact.indices].sum() <= 0.75 + 1e-12
    with pytest.raises(SimulationError, match="budget of 12 min"):
        choose(value, Candidates(start, hours, 0.5, None, 0.2), 3)
    with pytest.raises(SimulationError, match="keep the gap"):
        choose(value, Candidates(start, hours, 50.0, None, 9.0), 3)


def test_windows_hold_one_scan_each() -> None:
    windows = within(np.arange(1.0, 13.0), [(2, 4), (8, 9)])
    found = choose(_Additive(12, 1), _grid(12, windows=windows), 2)
    first, second = found.indices + 1
    assert 2 <= first <= 4 and 8 <= second <= 9 and found.tried == 6


def test_polish_reaches_the_closed_form_and_keeps_the_gap() -> None:
    def bowl(t: Array) -> float:
        return float((t[0] - 3.3) ** 2 + (t[1] - 7.6) ** 2)

    times, value = polish(bowl, np.array([1.0, 9.0]), [(0.0, 10.0)] * 2, np.zeros(2), 1.0)
    np.testing.assert_allclose(times, [3.3, 7.6], atol=2e-3)
    report("value", 0.0, value, atol=1e-5)
    times, value = polish(bowl, np.array([1.0, 9.0]), [(0.0, 10.0)] * 2, np.full(2, 2.0), 4.0)
    assert times[1] - times[0] >= 6.0 - 1e-9, "frames of 2 h with 4 h between them"
    assert value < bowl(np.array([1.0, 9.0]))


def test_opening_hours() -> None:
    clinic = Clinic("Thu 14:00", hours="8-17", days="Mon-Fri")
    times = clinic.times(110.0, minutes=60)
    # Thursday 15, 16; Friday 8 to 16 is 18 to 26 h; Monday 8 is 90 h, to 16
    np.testing.assert_allclose(times, [1, 2, *range(18, 27), *range(90, 99)])
    assert [clinic.when(t) for t in (1, 18, 90, 258)] == ["Thu 15:00", "Fri 8:00", "Mon 8:00", "Mon 8:00 (day 11)"]
    assert clinic.open_at(26, 60) and not clinic.open_at(26.5, 60) and not clinic.open_at(48)
    assert clinic.intervals(30)[0] == (0.0, 3.0)
    holiday = Clinic("Thu 14:00", closed=(1,))
    assert not np.any((holiday.times(110) > 10) & (holiday.times(110) < 60))
    assert Clinic(days="Sat-Mon").open_days == (0, 5, 6)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Clinic("Mo 25"), "injection"),
        (lambda: Clinic("Mon 10:75"), "injection"),
        (lambda: Clinic(hours="17-8"), "hours"),
        (lambda: Clinic(days="Mon-Fry"), "days"),
        (lambda: Clinic(step=0), "step"),
        (lambda: within(np.array([1.0, 30.0]), [(5, 9)]), "leaves nothing: no possible scan begins in it; the nearest"),
        (lambda: within(np.array([1.0]), [(9, 5)]), "ends before it begins"),
    ],
)
def test_hours_that_cannot_be_read(made: object, words: str) -> None:
    with pytest.raises(SimulationError, match=words):
        made()  # type: ignore[operator]
