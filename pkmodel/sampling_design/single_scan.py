"""The best time of a single scan, where the population is known: `best_time`.

Two answers beside each other. Linear: variance of log TIA after one scan of the typical patient (Bayesian
c-optimality); for one exponential known but for its size and rate it is smallest at one over the rate, Madsen's time
(doi:10.1002/mp.12886). Simulated: patients are drawn, scanned with noise at each time, and their TIA is estimated by
its posterior (geometric) mean, the population's draws weighted by the likelihood of the scan; no linearisation.
Published optima: about 72 h for [177Lu]Lu-DOTATATE and 48 h for [177Lu]Lu-PSMA (Hou et al. 2021,
doi:10.2967/jnumed.120.254656).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..dosimetry.present import html_list, html_table, text_list, text_table
from ..errors import SimulationError
from ..model import Model
from ..populations import simulate_population
from ..progress import progress
from ..regimen import Regimen
from ..units import factor
from .clinic import Clinic
from .information import make_criterion, variances
from .possible import candidates_of, latest
from .reading import make_setting
from .scan_noise import Noise
from .search import polish
from .setting import Setting

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ..inference.population_file import PopulationModel

Array = NDArray[np.float64]
NEAR = 1.05  # times whose error is at most this much above the smallest are as good, for practice
FEW = 30.0  # draws that carry the weight; below it the simulated answer is rough
_TIMES = 84
_SOLVED = 0.9  # share of drawn patients that must be solved; the others are left out, and counted
OFF = 0.10  # an error of TIA that counts as off


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """What geometric posterior means of simulated patients were worth, each (T, J), relative to the true TIA.

    Attributes
    ----------
    sd : posterior SD of the logarithm, root mean square over patients
    bias, rmse : of the posterior mean
    off : share of patients whose TIA is off by more than a tenth
    effective : draws that carry the weight, median over patients, (T,)
    """

    sd: Array
    bias: Array
    rmse: Array
    off: Array
    effective: Array
    patients: int
    draws: int
    failed: int  # drawn patients that could not be solved and are left out


@dataclass(frozen=True)
class BestTime:
    """Expected error of TIA against the time of one scan.

    Attributes
    ----------
    time : the best that is possible, by simulation where there is one, else linear [h]
    linear_time, simulated_time : the best by each [h]
    times : (T,) array, of the curve [h]
    linear : (T, J) array, expected relative SD of each organ's TIA [1]
    before : (J,) array, the same before any scan
    """

    setting: Setting
    times: Array
    hours: float
    linear: Array
    before: Array
    simulated: Simulated | None
    possible: NDArray[np.bool_]
    linear_time: float
    clinic: Clinic | None

    def _weighted(self, each: Array) -> Array:
        """Root mean square over the organs, (T,)."""
        w = self.setting.weights
        return np.asarray(np.sqrt(np.sum(np.where(w > 0, each, 0.0) ** 2 * w, axis=1)))

    @property
    def linear_sd(self) -> Array:
        """Expected relative SD, root mean square over the organs, (T,)."""
        return self._weighted(self.linear)

    @property
    def error(self) -> Array:
        """What is made small: the simulated root mean square error where there is one, else the linear SD, (T,)."""
        return self.linear_sd if self.simulated is None else self._weighted(self.simulated.rmse)

    @property
    def simulated_time(self) -> float:
        """Best possible time by simulation; nan without one [h]."""
        if self.simulated is None:
            return math.nan
        return float(self.times[np.argmin(np.where(self.possible, self.error, np.inf))])

    @property
    def time(self) -> float:
        """The best possible time [h]."""
        return self.linear_time if self.simulated is None else self.simulated_time

    @property
    def good(self) -> tuple[float, float]:
        """First and last time, around the best, whose error is within a twentieth of the smallest [h]."""
        error = self.error
        k = int(np.argmin(np.abs(self.times - self.time)))
        a = b = k
        while a > 0 and error[a - 1] <= NEAR * error[k]:
            a -= 1
        while b + 1 < error.size and error[b + 1] <= NEAR * error[k]:
            b += 1
        return float(self.times[a]), float(self.times[b])

    def table(self, at: Sequence[float] = (4, 24, 48, 72, 96, 120, 168)) -> pd.DataFrame:
        """Errors at some times and at the best, one row a time and organ [%]."""
        import pandas as pd

        inside = [t for t in at if self.times[0] - 1e-9 <= t <= self.times[-1] + 1e-9]
        rows = []
        for t in sorted({*inside, self.time}):
            k = int(np.argmin(np.abs(self.times - t)))
            for j, name in enumerate(self.setting.names):
                row: dict[str, Any] = {"time_h": t, "organ": name, "linear_sd_percent": 100 * self.linear[k, j]}
                if s := self.simulated:
                    row |= {
                        "posterior_sd_percent": 100 * s.sd[k, j], "bias_percent": 100 * s.bias[k, j],
                        "rmse_percent": 100 * s.rmse[k, j], "off_percent": 100 * s.off[k, j],
                    }  # fmt: skip
                rows.append(row)
        return pd.DataFrame(rows)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know."""
        out = list(self.setting.notes)
        error = self.error[self.possible]
        if error.max() <= NEAR * error.min():
            out.append("the time hardly matters: every possible one is within a twentieth of the best")
        if self.simulated is not None:
            if self.simulated.failed:
                out.append(f"{self.simulated.failed} drawn patients could not be solved and are left out")
            k = int(np.argmin(np.abs(self.times - self.time)))
            if self.simulated.effective[k] < FEW:
                out.append(
                    f"only {self.simulated.effective[k]:.0f} of {self.simulated.draws} draws carry the weight; more "
                    "draws make the simulated answer less rough"
                )
        return tuple(out)

    def _head(self) -> list[str]:
        s = self.setting
        what = "root mean square error of the posterior" if self.simulated else "expected SD, linear"
        k = int(np.argmin(np.abs(self.times - self.time)))
        when = f" ({self.clinic.when(self.time)})" if self.clinic else ""
        a, b = self.good
        lines = [
            f"One scan for the TIA of {', '.join(o.name for o in s.organs if o.weight > 0)} ({s.model.name})",
            f"best at {self.time:.4g} h{when}: {100 * self.error[k]:.3g} % ({what}); as good: {a:.4g} to {b:.4g} h",
            f"linear: best at {self.linear_time:.4g} h; before any scan "
            + ", ".join(f"{n} {100 * x:.3g} %" for n, x in zip(s.names, self.before, strict=True)),
        ]
        if self.simulated:
            lines.append(
                f"simulated: {self.simulated.patients} patients, {self.simulated.draws} draws of the population"
            )
        return lines

    def _plain(self) -> tuple[list[str], list[list[Any]]]:
        table = self.table()
        names = {
            "time_h": "time [h]", "linear_sd_percent": "linear SD [%]", "posterior_sd_percent": "posterior SD [%]",
            "bias_percent": "bias [%]", "rmse_percent": "RMSE [%]", "off_percent": "off by > 10 % [%]",
        }  # fmt: skip
        rows = [[x if isinstance(x, str) else f"{x:.3g}" for x in row] for row in table.itertuples(index=False)]
        return [names.get(str(c), str(c)) for c in table.columns], rows

    def __str__(self) -> str:
        return "\n".join([*self._head(), "", text_table(*self._plain())]) + text_list(self.warnings)

    def _repr_html_(self) -> str:
        import html

        head = "<br>".join(html.escape(x) for x in self._head())
        return f"<p>{head}</p>" + html_table(*self._plain()) + html_list(self.warnings)

    def plot(self, **options: Any) -> Figure:
        """Expected error of TIA against the time of the scan, opening hours shaded."""
        from ..plot_design import best_time_figure

        return best_time_figure(self, **options)


def best_time(
    model: Model | str,
    regimen: Regimen | str | None = None,
    *,
    organs: Sequence[str] | Mapping[str, float] | str | None = None,
    nuclide: str | None = None,
    cold: bool = False,
    free: Sequence[str] | None = None,
    spread: Mapping[str, float] | None = None,
    omega: pd.DataFrame | None = None,
    population: PopulationModel | str | Path | None = None,
    noise: Noise | Mapping[str, Noise] | None = None,
    clinic: Clinic | None = None,
    times: ArrayLike | None = None,
    last: float | None = None,
    minutes: float = 0.0,
    patients: int = 300,
    draws: int = 3000,
    seed: int = 0,
) -> BestTime:
    """The best time for one scan of a patient whose population is known.

    Parameters
    ----------
    model, regimen, organs, nuclide, cold, free, spread, omega, population, noise, last : as of `design`
    clinic : opening hours: the best time lies in them; the curve does not
    times : of the curve; default every second hour of a week, or 84 times in five half-lives [h]
    minutes : length of the scan [min]
    patients : that are simulated; 0: the linear answer only [1]
    draws : of the population, weighted to get the posterior of each patient [1]
    seed : of all draws [1]

    Raises
    ------
    SimulationError
        No spread is known, or something cannot be read.
    """
    setting = make_setting(
        model, regimen, organs, nuclide_name=nuclide, cold=cold, free=free, spread=spread, omega=omega,
        population=population, noise=noise,
    )  # fmt: skip
    who = setting.model.who
    if not setting.known.all():
        lost = [s.parameter for s, k in zip(setting.slots, setting.known, strict=True) if not k]
        raise SimulationError(f"{who}: one scan needs a known population; no spread of {', '.join(lost)}: give spread=")
    end = latest(setting) if last is None else last
    if times is None and clinic is not None:  # on the clock, so that every possible time is on the curve
        whole = Clinic(clinic.injection, "0-24", "Mon-Sun", clinic.step).times(end, minutes)
        times = np.unique(np.concatenate([whole, clinic.times(end, minutes)]))
    elif times is None:
        times = np.linspace(end / _TIMES, end, _TIMES + 1)[:-1] if minutes else np.linspace(end / _TIMES, end, _TIMES)
    grid = candidates_of(setting, None, times, last, minutes, 0.0, None, None, ())
    totals = setting.totals()
    judged = make_criterion(setting, "tia", setting.expected(grid.start, grid.hours), totals)
    each = variances(setting.precision + judged.scans[0], totals.slope[0])
    before = variances(setting.precision, totals.slope[0])
    possible = np.array([clinic is None or clinic.open_at(t, minutes) for t in grid.start])
    if not possible.any():
        raise SimulationError(f"{who}: the clinic is closed at every time of the curve; widen the hours")
    linear_sd = np.sqrt(np.where(setting.weights > 0, each, 0.0) @ setting.weights)
    k = int(np.argmin(np.where(possible, linear_sd, np.inf)))
    best = float(grid.start[k])
    if clinic is None and grid.start.size > 2:
        low, high = grid.start[max(k - 1, 0)], grid.start[min(k + 1, grid.start.size - 1)]

        def value_at(t: Array) -> float:
            now = make_criterion(setting, "tia", setting.expected(t, grid.hours[:1]), totals)
            return float(now(np.zeros((1, 1), dtype=np.int64))[0])

        moved, _ = polish(value_at, grid.start[k : k + 1], [(float(low), float(high))], grid.hours[:1], 0.0)
        best = float(moved[0])
    simulated = _simulate(setting, grid.start, grid.hours, patients, draws, seed) if patients else None
    return BestTime(
        setting, grid.start, float(minutes) / 60.0, np.sqrt(each), np.sqrt(before), simulated, possible, best, clinic
    )  # fmt: skip


def _simulate(setting: Setting, start: Array, hours: Array, patients: int, draws: int, seed: int) -> Simulated:
    """Posterior means of simulated patients, by weighted draws of the population."""
    who = setting.model.who
    if patients < 2 or draws < 100:
        raise SimulationError(f"{who}: {patients} patients and {draws} draws; needed: 2 and 100 or more")
    curves, tia = _followed(setting, start, hours, setting.drawn(patients + draws, seed))
    failed = patients + draws - len(tia)
    draws -= failed
    true, known = tia[:patients], np.log(tia[patients:])
    chance = np.random.default_rng([seed, 1]).standard_normal((patients, len(setting.organs)))  # the same at each time
    shape = (start.size, len(setting.organs))
    sd, bias, rmse, off = (np.empty(shape) for _ in range(4))
    effective = np.empty(start.size)
    with progress("times", start.size) as advance:
        for k in range(start.size):
            log_weight = np.zeros((patients, draws))
            for j, organ in enumerate(setting.organs):
                variance = organ.noise.variance(curves[:, k, j], hours[k : k + 1])[0]
                seen = curves[:patients, k, j] + np.sqrt(variance[:patients]) * chance[:, j]
                expected, spread = curves[patients:, k, j], variance[patients:]
                log_weight -= 0.5 * (seen[:, None] - expected) ** 2 / spread + 0.5 * np.log(spread)
            weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
            weight /= weight.sum(axis=1, keepdims=True)
            mean = weight @ known
            sd[k] = np.sqrt(np.mean(np.maximum(weight @ known**2 - mean**2, 0.0), axis=0))
            wrong = np.exp(mean) / true - 1.0
            bias[k], rmse[k] = wrong.mean(axis=0), np.sqrt((wrong**2).mean(axis=0))
            off[k] = (np.abs(wrong) > OFF).mean(axis=0)
            effective[k] = np.median(1.0 / (weight**2).sum(axis=1))
            advance(1)
    return Simulated(sd, bias, rmse, off, effective, patients, draws, failed)


def _followed(setting: Setting, start: Array, hours: Array, people: Array) -> tuple[Array, Array]:
    """Scans (N, T, J) and TIA (N, J) of patients, from one run of all."""
    import pandas as pd

    table = pd.DataFrame(
        {
            s.parameter: [float(s.from_scale(v)) / factor(s.unit) for v in people[:, k]]
            for k, s in enumerate(setting.slots)
        }
    )
    end = start + hours
    grid = np.unique(np.round(np.concatenate([[0.0], start, end, [setting.horizon]]), 12))
    wanted = [*setting.names, *(f"integral_{n}" for n in setting.names)]
    run = simulate_population(
        setting.model, setting.regimen, table, grid, observables=wanted, inputs=setting.inputs or None,
        covariates=setting.covariates or None,
    )  # fmt: skip
    solved = run["status"].to_numpy() == 0
    if solved.mean() < _SOLVED:
        raise SimulationError(
            f"{setting.model.who}: {int((~solved).sum())} of {len(people)} drawn patients could not be solved; lower "
            "the spread, or use patients=0 for the linear answer"
        )
    a, b = np.searchsorted(grid, np.round(start, 12)), np.searchsorted(grid, np.round(end, 12))
    long = hours > 0
    width = np.where(long, hours, 1.0)
    scans, totals = [], []
    for name in setting.names:
        seen = run[name].transpose("patient", "time").to_numpy()[solved]
        sums = run[f"integral_{name}"].transpose("patient", "time").to_numpy()[solved]
        scans.append(np.where(long, (sums[:, b] - sums[:, a]) / width, seen[:, a]))
        totals.append(sums[:, -1])
    return np.stack(scans, axis=2), np.stack(totals, axis=1)
