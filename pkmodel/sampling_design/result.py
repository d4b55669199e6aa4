"""A set of scans and what it is worth: `Design`, chosen or given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..dosimetry.integration import FAR
from .clinic import Clinic
from .information import ABOUT_TIA, Criterion, not_informed, of_scans, variances
from .population import PopulationInformation
from .search import Candidates
from .setting import Setting, Totals

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
LITTLE = 0.25  # share of a parameter's prior variance that scans take away; below it, the scans say little


@dataclass(frozen=True)
class Design:
    """Scans, in the order of time, and the precision to be expected of them.

    Attributes
    ----------
    start, hours : (n,) arrays, beginning and length of the frames [h]
    kind : of the criterion, one of "tia", "dose", "worst", "D", "A", "Ds" [text]
    value : of the criterion: a relative standard deviation, the smaller the better [1]
    method : how the scans were found, and how many sets were tried [text]
    steps : where several numbers of scans were tried: (number, value, beginnings) of each
    warnings : what a reader should know [text]
    """

    setting: Setting
    start: Array
    hours: Array
    kind: str
    value: float
    method: str
    tried: int
    criterion: Criterion | None  # of these scans alone; None for a population
    candidates: Candidates | None
    candidate_scans: Array | None  # (P, C, k, k)
    clinic: Clinic | None
    totals: Totals | None
    population: PopulationInformation | None = None
    mass_sd: dict[str, float] = field(default_factory=dict)
    steps: tuple[tuple[int, float, Array], ...] = ()
    target: float | None = None

    @cached_property
    def scan_information(self) -> Array:
        """Information of each scan, (P, n, k, k)."""
        return of_scans(self.setting, self.setting.expected(self.start, self.hours))

    @cached_property
    def information(self) -> Array:
        """Information of all scans and of what is known beforehand, (P, k, k)."""
        return np.asarray(self.setting.precision + self.scan_information.sum(axis=1))

    def _tia_sd(self, matrix: Array) -> Array:
        """Relative SD of each organ's TIA, (..., J), root mean square over the patients; (P, ..., k, k) given."""
        assert self.totals is not None
        slope = self.totals.slope.reshape(
            self.totals.slope.shape[:1] + (1,) * (matrix.ndim - 3) + self.totals.slope.shape[1:]
        )
        return np.asarray(np.sqrt(variances(matrix, slope).mean(axis=0)))

    @cached_property
    def organs(self) -> pd.DataFrame:
        """Each organ: TIA of the typical patient, its expected relative SD, before any scan and after all [%]."""
        import pandas as pd

        names = list(self.setting.names)
        if self.totals is None:
            return pd.DataFrame(index=pd.Index(names, name="organ"))
        typical = self.setting.totals(people=self.setting.typical[None, :]).value[0]
        before = np.broadcast_to(self.setting.precision, self.information.shape)
        last = float((self.start + self.hours)[-1])
        table = pd.DataFrame(
            {
                "TIA_MBq_h": typical,
                "sd_before_percent": 100 * self._tia_sd(before),
                "sd_percent": 100 * self._tia_sd(self.information),
                "after_last_scan_percent": 100 * self.setting.after(last),
            },
            index=pd.Index(names, name="organ"),
        )
        mass = np.array([self.mass_sd.get(n, np.nan) for n in names])
        if np.isfinite(mass).any():
            table["dose_sd_percent"] = np.hypot(table["sd_percent"], 100 * mass)
        return table[[bool(o.activity) for o in self.setting.organs]]

    @cached_property
    def parameters(self) -> pd.DataFrame:
        """Each unknown parameter: expected relative SD before and after the scans [%], and how much they tell [%]."""
        import pandas as pd

        from ..units import factor

        slots = self.setting.slots
        eye = np.eye(len(slots))
        relative = np.array([abs(float(s.slope(s.to_scale(s.start))) / s.start) if s.start else np.nan for s in slots])
        before = np.where(self.setting.known & self.setting.prior, np.diag(self.setting.omega), np.inf)
        after = variances(self.information, eye[None]).mean(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            told = np.where(np.isfinite(before), 1.0 - after / before, np.where(np.isfinite(after), 1.0, 0.0))
        return pd.DataFrame(
            {
                "value": [s.start / factor(s.unit) for s in slots],
                "unit": [s.unit for s in slots],
                "sd_before_percent": 100 * np.sqrt(before) * relative,
                "sd_percent": 100 * np.sqrt(after) * relative,
                "told_percent": 100 * told,
            },
            index=pd.Index([s.label for s in slots], name="parameter"),
        )

    @cached_property
    def scans(self) -> pd.DataFrame:
        """Each scan: when, how long, and the criterion without it [%]."""
        import pandas as pd

        table = pd.DataFrame({"time_h": self.start}, index=pd.RangeIndex(1, self.start.size + 1, name="scan"))
        if self.clinic is not None:
            table["when"] = [self.clinic.when(t) for t in self.start]
        table["minutes"] = 60 * self.hours
        if self.criterion is not None:
            table["without_it_percent"] = 100 * self._without(self.criterion)
        return table

    def _without(self, criterion: Criterion) -> Array:
        every = np.arange(self.start.size)
        sets = np.array([np.delete(every, k) for k in every], dtype=np.int64)
        return criterion(sets.reshape(self.start.size, -1))

    def leave_out(self) -> pd.DataFrame:
        """What each scan is worth: expected relative SD of each organ's TIA with all scans, and without this one [%].

        Returns
        -------
        pandas.DataFrame
            One row a scan and a row ``all``; one column an organ, and the criterion.
        """
        import pandas as pd

        if self.criterion is None:
            return self.scans
        rows = [*(self.information - self.scan_information[:, k] for k in range(self.start.size)), self.information]
        matrices = np.stack(rows, axis=1)
        table = pd.DataFrame({"time_h": [*self.start, np.nan]}, index=[*range(1, self.start.size + 1), "all"])
        table.index.name = "without scan"
        if self.totals is not None:
            sd = 100 * self._tia_sd(matrices)
            for j, organ in enumerate(self.setting.organs):
                if organ.activity:
                    table[f"{organ.name}_percent"] = sd[:, j]
        table["criterion_percent"] = 100 * self.criterion.of(matrices)
        return table

    def add_scan(self) -> pd.DataFrame:
        """What one scan more would bring: expected relative SD with a scan added at each time that is possible [%].

        Returns
        -------
        pandas.DataFrame
            One row a candidate that keeps the gap to the scans there are; one column an organ, and the criterion.
        """
        import pandas as pd

        if self.criterion is None or self.candidates is None or self.candidate_scans is None:
            return pd.DataFrame(columns=["time_h", "minutes", "criterion_percent"])
        c = self.candidates
        end, stop = self.start + self.hours, c.start + c.hours
        free = np.all(
            (c.start[:, None] - end[None, :] >= c.gap - 1e-9) & (c.start[:, None] > self.start[None, :])
            | (self.start[None, :] - stop[:, None] >= c.gap - 1e-9) & (c.start[:, None] < self.start[None, :]),
            axis=1,
        )
        matrices = self.information[:, None] + self.candidate_scans[:, free]
        table = pd.DataFrame({"time_h": c.start[free], "minutes": 60 * c.hours[free]})
        if self.clinic is not None:
            table["when"] = [self.clinic.when(t) for t in c.start[free]]
        if self.totals is not None and free.any():
            sd = 100 * self._tia_sd(matrices)
            for j, organ in enumerate(self.setting.organs):
                if organ.activity:
                    table[f"{organ.name}_percent"] = sd[:, j]
        table["criterion_percent"] = 100 * self.criterion.of(matrices) if free.any() else []
        return table

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the design should know."""
        out = list(self.setting.notes)
        if self.population is not None:
            lost = [n for n, se in zip(self.population.names, self.population.relative_se, strict=True) if np.isnan(se)]
            return (*out, *([f"this study does not determine {', '.join(lost)}"] if lost else []))
        loose = not_informed(self.setting, self.scan_information.sum(axis=1)[0])
        if self.setting.prior:
            loose = [n for n in loose if self.matters(n)]
        if loose:
            rest = (
                "what is known of the population makes up for it"
                if self.setting.prior
                else "add scans, or what is known"
            )
            out.append(f"the scans alone do not determine {', '.join(loose)}; {rest}")
        if self.setting.prior:
            told = self.parameters["told_percent"]
            little = [f"{n} ({told[n]:.0f} %)" for n in told.index if told[n] < 100 * LITTLE and self.matters(n)]
            if little:
                out.append(f"the scans say little about {', '.join(little)}: what is known is what the population says")
        if self.totals is not None:
            far = self.organs["after_last_scan_percent"]
            late = [f"{o} {far[o]:.0f} %" for o in far.index if far[o] > 100 * FAR]
            if late:
                out.append(f"of the TIA lies after the last scan: {', '.join(late)}; a later scan would help")
            for o in self.organs.index[~np.isfinite(self.organs["sd_percent"])]:
                out.append(f"the TIA of {o} is not determined by these scans")
        early = self.start[self.start < self.setting.last_dose - 1e-9]
        if early.size and self.setting.regimen.administrations[-1].time == 0:
            out.append(f"the scan at {early[0]:g} h begins before the administration is over")
        gaps = np.diff(self.start)
        if gaps.size and self.start[-1] > 48 and gaps.min() < 4:
            k = int(np.argmin(gaps))
            out.append(
                f"scans at {self.start[k]:.4g} and {self.start[k + 1]:.4g} h are close together: errors they share "
                "(calibration, outlines) do not average out; gap= keeps them apart"
            )
        if self.target is not None and not self.value <= self.target:
            out.append(f"the target of {100 * self.target:g} % is not reached: {100 * self.value:.3g} %")
        return tuple(out)

    def matters(self, name: str) -> bool:
        """Whether a parameter changes any TIA that counts: a tenth more of it moves one by half a percent or more."""
        if self.totals is None or self.kind not in ABOUT_TIA:
            return True
        k = [s.label for s in self.setting.slots].index(name)
        return bool(np.abs(self.totals.slope[:, self.setting.weights > 0, k]).max(initial=0.0) > 0.05)

    @property
    def meaning(self) -> str:
        """The criterion in words."""
        organs = ", ".join(o.name for o in self.setting.organs if o.weight > 0)
        several = len([o for o in self.setting.organs if o.weight > 0]) > 1
        who = f", {len(self.setting.people)} patients" if len(self.setting.people) > 1 else ""
        if self.population is not None:
            how = {"D": "geometric mean", "Ds": "geometric mean of some", "A": "root mean square"}[self.kind]
            return f"{how} relative standard error of the population's parameters, {self.population.subjects} subjects"
        if self.kind in ABOUT_TIA:
            over = "largest" if self.kind == "worst" else "root mean square" if several else "expected"
            return f"{over} relative SD of the TIA of {organs}{who}"
        return {
            "D": "geometric mean SD of the parameters, logarithmic",
            "Ds": "geometric mean SD of the parameters of interest, logarithmic",
            "A": "root mean square SD of the parameters, logarithmic",
        }[self.kind] + who

    def __str__(self) -> str:
        from .words import describe

        return describe(self)

    def _repr_html_(self) -> str:
        from .words import describe_html

        return describe_html(self)

    def plot(self, **options: Any) -> Figure:
        """Expected SD of TIA against the time of a scan, opening hours shaded, these scans on the curve."""
        from ..plot_design import design_figure

        return design_figure(self, **options)


def times_in_words(design: Design) -> Sequence[str]:
    """Each scan as people say it: ``"+75 h, Thu 13:00"``."""
    plain = [f"+{t:.4g} h" for t in design.start]
    if design.clinic is None:
        return plain
    return [f"{p}, {design.clinic.when(t)}" for p, t in zip(plain, design.start, strict=True)]
