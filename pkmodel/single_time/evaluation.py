"""Which scan can be left out, and which single one is best, over a cohort: `leave_scans_out`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data import Curves
from ..dosimetry.present import html_table, text_table
from ..errors import FitError, did_you_mean
from ..inference.population_file import PopulationModel
from ..model import Model
from ..progress import progress
from .batch import Rows, predict
from .estimate import Person, most_probable
from .practice import half_lives, practised
from .result import POPULATION
from .scans import Scans, at_times, bind_scans, find_model, noise_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
ALL, TRUTH, POOLED = "all scans", "truth", "all regions"
TOGETHER = 512  # patients estimated in one batch


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ScanComparison:
    """Errors of few scans over a cohort, by scan times, region and method.

    Parameters
    ----------
    values : one row per patient, region, scans and method: tia, what all scans give by the population model, and the
        truth where it is known [MBq h]
    left_out : patients without a scan near some of the times: scans -> how many [1]
    """

    values: pd.DataFrame
    left_out: Mapping[str, int]

    def errors(self, reference: str = ALL) -> pd.DataFrame:
        """`values` with a column ``error``: relative to what all scans give, or to the truth [1].

        Raises
        ------
        FitError
            The truth is not known, or the reference is neither.
        """
        if reference not in (ALL, TRUTH):
            raise FitError(f"reference {reference!r}; allowed: {ALL!r}, {TRUTH!r}")
        if self.values[reference].isna().all():
            raise FitError("the truth was not given; use reference='all scans', or pass truth= to leave_scans_out")
        return self.values.assign(error=self.values["tia"] / self.values[reference] - 1.0)

    def summary(self, reference: str = ALL) -> pd.DataFrame:
        """Per scans, region and method: mean, spread, root mean square and median size of the error, all [%].

        The last column is the share of patients off by over 10 % [%].
        """
        import pandas as pd

        rows = []
        errors = self.errors(reference)
        everything = errors.assign(region=POOLED)
        frames = [errors, everything] if errors["region"].nunique() > 1 else [errors]
        for (scans, region, method), part in pd.concat(frames).groupby(["scans", "region", "method"], sort=False):
            e = 100 * part["error"].dropna().to_numpy()
            if not e.size:
                continue
            rows.append(
                {
                    "scans": scans,
                    "region": region,
                    "method": method,
                    "n": e.size,
                    "bias [%]": e.mean(),
                    "sd [%]": e.std(ddof=1) if e.size > 1 else np.nan,
                    "rms [%]": np.sqrt(np.mean(e**2)),
                    "median size [%]": np.median(np.abs(e)),
                    "off by over 10 % [%]": 100 * np.mean(np.abs(e) > 10),
                }
            )
        return pd.DataFrame(rows).set_index(["scans", "region", "method"])

    def best(self, reference: str = ALL, region: str | None = None) -> str:
        """Scans with the smallest root mean square error of the population model; all regions unless one is named."""
        table = self.summary(reference).xs(POPULATION, level="method")["rms [%]"]
        known = list(dict.fromkeys(table.index.get_level_values("region")))
        region = region or (POOLED if POOLED in known else str(known[0]))
        if region not in known:
            raise FitError(f"region {region!r} was not compared; known: {', '.join(map(str, known))}")
        return str(table.xs(region, level="region").idxmin())

    def plot(self, reference: str = ALL, regions: Sequence[str] | None = None) -> Figure:
        """Distribution of the errors by scan time and method, one panel a region."""
        from ..plot_single_time import comparison_figure

        return comparison_figure(self, reference, regions)

    def _lines(self) -> tuple[list[str], list[list[Any]]]:
        table = self.summary(TRUTH if self.values[TRUTH].notna().any() else ALL).reset_index()
        return [str(c) for c in table.columns], table.to_numpy().tolist()

    def _heading(self) -> str:
        against = TRUTH if self.values[TRUTH].notna().any() else ALL
        return f"TIA from few scans of {self.values['subject'].nunique()} patients, against {against}"

    def __str__(self) -> str:
        return self._heading() + "\n" + text_table(*self._lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(*self._lines(), caption=self._heading())


def leave_scans_out(
    population: PopulationModel | str | Path,
    cohort: Iterable[Curves],
    *,
    model: Model | None = None,
    times: Sequence[float] | None = None,
    count: int = 1,
    truth: pd.DataFrame | None = None,
    regions: Sequence[str] | None = None,
    half_life: Mapping[str, float] | None = None,
    tolerance: float = 6.0,
    accept_changed_model: bool = False,
) -> ScanComparison:
    """Compare what few scans say with what all of them say, over a cohort.

    The population model's answer is the TIA at the patient's most probable parameters. A cohort from which the
    population itself was estimated flatters it: use patients the population has not seen.

    Parameters
    ----------
    population : from a fit or a paper, or its file
    cohort : patients with several scans each (a `Study`, or a list)
    model : that the population was estimated with; default the library's, found by its equations
    times : of the scans to keep; default every time at which the first patient was scanned [h]
    count : scans kept at once: 1, 2 or 3 of the times [1]
    truth : true TIA of each patient, subjects as index, regions as columns [MBq h]
    regions : compared; default every organ with an activity in MBq that was scanned [text]
    half_life : region -> effective half-life for Madsen's method; default the population's mean [h]
    tolerance : a scan belongs to a time when it is this near [h]
    accept_changed_model : go on with equations that are not the population's

    Returns
    -------
    ScanComparison

    Raises
    ------
    FitError, DataError
        There is no patient, no combination of scans, or a patient's scans cannot be used (see `predict_tia`).
    """
    if isinstance(cohort, Curves):
        raise FitError("one patient is no cohort; give a Study or a list of Curves, with several scans each")
    known = population if isinstance(population, PopulationModel) else PopulationModel.load(population)
    applied = known.apply(model or find_model(known), accept_changed_model=accept_changed_model)
    people = list(cohort)
    if not people:
        raise FitError("the cohort is empty; give patients with several scans each")
    if single := [c.subject for c in people if len({float(t) for one in c for t in one.t}) < 2]:
        raise FitError(
            f"{', '.join(single[:5])}{' ...' if len(single) > 5 else ''}: one scan, so none can be left out; give "
            "patients with several scans each, or use predict_tia"
        )
    grid = sorted({float(t) for c in people[0] for t in c.t}) if times is None else sorted(map(float, times))
    if not 1 <= count < max(len(grid), 2):
        raise FitError(f"count = {count} of {len(grid)} times; allowed: from 1 to one less than there are times")
    whole = [bind_scans(known, applied, one) for one in people]
    asked = list(regions) if regions else _organs(applied, people[0])
    _check_truth(truth, asked, [c.subject for c in people])
    reference = _estimates(known, whole, asked)
    beside = half_lives(known, applied, people[0].select([r for r in asked if r in people[0]]))
    rows: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    chosen = list(combinations(grid, count))
    with progress("scans left out", len(chosen)) as advance:
        for kept in chosen:
            label = " + ".join(f"{t:g}" for t in kept) + " h"
            few = [at_times(one, kept, tolerance) for one in people]
            there = [i for i, one in enumerate(few) if len(one) and all(len(c) == count for c in one)]
            left_out[label] = len(people) - len(there)
            if there:
                bound = [bind_scans(known, applied, few[i]) for i in there]
                tia = _estimates(known, bound, asked)
                for i, own in zip(there, tia, strict=True):
                    rows += _rows(few[i], asked, own, reference[i], truth, label)
                    rows += [
                        _one(few[i].subject, p.region, label, p.method, p.tia, reference[i], asked, truth)
                        for p in practised(few[i], beside, given=half_life)
                        if p.region in asked
                    ]
            advance(1)
    if not rows:
        raise FitError(f"no patient has scans within {tolerance:g} h of {', '.join(f'{t:g}' for t in grid)} h")
    import pandas as pd

    return ScanComparison(pd.DataFrame(rows), left_out)


def _organs(model: Model, curves: Curves) -> list[str]:
    """Organs that were scanned and are activities in MBq."""
    from ..units import dimension

    only = next(iter(model.observables.values()))
    found = [
        c.region
        for c in curves
        if c.kind == "tissue" and dimension(model.observables.get(c.region, only).unit) == dimension("MBq")
    ]
    if not found:
        raise FitError(f"subject {curves.subject}: no region is an organ with an activity in MBq; name regions=[...]")
    return found


def _estimates(population: PopulationModel, scans: Sequence[Scans], regions: Sequence[str]) -> Array:
    """TIA at the most probable parameters of each patient, (patients, regions); nan where it was not found."""
    out = np.full((len(scans), len(regions)), np.nan)
    for first in range(0, len(scans), TOGETHER):
        part = scans[first : first + TOGETHER]
        modes = most_probable(population, [Person((s,)) for s in part])
        rows = Rows(population, noise_of(population), tuple(part), np.arange(len(part)))
        tia = predict(rows, np.ascontiguousarray(modes.x[:, 0]), regions=regions).tia
        out[first : first + TOGETHER] = np.where(modes.converged[:, None], tia, np.nan)
    return out


def _check_truth(truth: pd.DataFrame | None, regions: Sequence[str], subjects: Sequence[str]) -> None:
    """A table that lacks someone would quietly be left out of the comparison."""
    if truth is None:
        return
    if not hasattr(truth, "columns"):
        raise FitError(f"truth is a {type(truth).__name__}; needed: a DataFrame, subjects as index, regions as columns")
    for what, needed, there in (("region", regions, truth.columns), ("subject", subjects, truth.index)):
        if missing := [n for n in needed if n not in there]:
            known = [str(n) for n in there]
            raise FitError(
                f"truth: no {what} {missing[0]!r}{did_you_mean(missing[0], known)}; it has {', '.join(known[:8])}"
                f"{' ...' if len(known) > 8 else ''}"
            )


def _rows(
    curves: Curves,
    regions: Sequence[str],
    own: Array,
    reference: Array,
    truth: pd.DataFrame | None,
    label: str,
) -> list[dict[str, Any]]:
    return [
        _one(curves.subject, r, label, POPULATION, float(own[j]), reference, regions, truth)
        for j, r in enumerate(regions)
    ]


def _one(
    subject: str,
    region: str,
    label: str,
    method: str,
    tia: float,
    reference: Array,
    regions: Sequence[str],
    truth: pd.DataFrame | None,
) -> dict[str, Any]:
    real = float("nan")
    if truth is not None and region in truth.columns and subject in truth.index:
        real = float(truth[region].to_numpy(dtype=float)[truth.index.get_loc(subject)])
    return {
        "subject": subject,
        "region": region,
        "scans": label,
        "method": method,
        "tia": tia,
        ALL: float(reference[list(regions).index(region)]),
        TRUTH: real,
    }
