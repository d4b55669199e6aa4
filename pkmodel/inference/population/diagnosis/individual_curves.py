"""Each subject's data with the curves of its own and of the typical parameters, on times close enough to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ....errors import FitError, did_you_mean
from ....observation import observe
from ...likelihood import Block, Likelihood

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ..result import PopulationFit

POINTS = 80  # times of a curve


@dataclass(frozen=True, eq=False)
class IndividualCurves:
    """Data and curves of some subjects.

    Parameters
    ----------
    points : one row per value, as `PopulationFit.predictions`
    curves : one row per subject, occasion, endpoint and time: IPRED, PRED, and the 95 % interval of IPRED
    units : of each endpoint [text]
    """

    points: pd.DataFrame
    curves: pd.DataFrame
    units: dict[str, str]

    def plot(self, *, rows: int = 4, columns: int = 3, log: bool = False) -> list[Figure]:
        """Pages with a panel per subject, occasion and endpoint."""
        from ....plot_population import individual_figures

        return individual_figures(self, rows=rows, columns=columns, log=log)


def individual_curves(
    fit: PopulationFit, subjects: Sequence[str] = (), *, points: int = POINTS, draws: int = 0, seed: int = 0
) -> IndividualCurves:
    """Curves of single subjects.

    Parameters
    ----------
    fit : of a population
    subjects : which; default all [text]
    points : times of each curve, from the dose (or the first value, if earlier) to the last value [1]
    draws : of each subject's parameters, for the interval; 0 leaves it out [1]
    seed : of the draws [1]
    """
    import pandas as pd

    names = list(subjects) or list(fit.subjects)
    for name in names:
        if name not in fit.subjects:
            raise FitError(f"no subject {name!r}{did_you_mean(name, fit.subjects)}; known: {', '.join(fit.subjects)}")
    layout, crowd = fit.crowd.layout, fit.crowd
    typical = layout.typical(fit.phi)
    tables = []
    for name in names:
        i = fit.subjects.index(name)
        dense, head = densely(crowd.people[i].likelihood, points)
        one = fit[name]
        table = pd.DataFrame(head)
        table.insert(0, "subject", name)
        table["IPRED"] = dense.predict(one.x, tangents=False).value
        table["PRED"] = dense.predict(typical[i, layout.place[i]], tangents=False).value
        if draws:
            many = np.array([dense.predict(x, tangents=False).value for x in one.draw(draws, seed)])
            table["low"], table["high"] = np.nanquantile(many, [0.025, 0.975], axis=0)
        tables.append(table)
    seen = fit.predictions
    units = dict(zip(crowd.data.endpoints, crowd.data.units, strict=True))
    return IndividualCurves(seen[seen["subject"].isin(names)], pd.concat(tables, ignore_index=True), units)


def densely(likelihood: Likelihood, points: int) -> tuple[Likelihood, dict[str, list[object]]]:
    """The same subject observed at many times, and occasion, endpoint and time of each of its predictions."""
    head: dict[str, list[object]] = {"occasion": [], "endpoint": [], "time": []}
    blocks: list[Block] = []
    for block in likelihood.blocks:
        watched = []
        first = min(min(float(o.curve.t_start[0]) for o in block.observers), 0.0)
        last = max(float(o.curve.t_end[-1]) for o in block.observers)
        measured = np.concatenate([o.curve.t for o in block.observers])
        times = np.unique(np.concatenate([np.linspace(first, last, points), measured]))
        empty, nothing = np.zeros(times.size), np.full(times.size, np.nan)
        for o in block.observers:
            curve = replace(
                o.curve, t_start=times, t_end=times, value=empty, sd=nothing, weights=nothing, volume=nothing,
                n=np.ones(times.size, dtype=np.int64), rows=(), censored=np.zeros(times.size, dtype=np.int8),
            )  # fmt: skip
            name = list(block.problem.model.observables)[o.observable]
            watched.append(observe(block.problem.model, curve, observable=name, mode="midpoint"))
            head["occasion"] += [block.occasion] * times.size
            head["endpoint"] += [o.curve.region] * times.size
            head["time"] += times.tolist()
        blocks.append(replace(block, problem=replace(block.problem, times=times), observers=tuple(watched)))
    return replace(likelihood, blocks=tuple(blocks)), head
