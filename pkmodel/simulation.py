"""Give a regimen to a model and follow it: `Regimen`, `simulate`, and the prepared `Problem` behind both fits and runs.

Time is in hours from the first administration. Results come at the requested times, just after any dose at that time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .compiler.compiled import Compiled, compile_model
from .dosing import doses_of
from .errors import SimulationError
from .inputs import InputCurve as InputCurve
from .inputs import segments, values
from .model import Model
from .regimen import Regimen
from .solve.linear import solve_linear_sens
from .solve.status import MESSAGES, Status
from .solve.stiff import solve_stiff_sens
from .units import dimension, factor

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]
RTOL, ATOL = 1e-8, 1e-12
ROUNDING = 1e-12  # relative, of times


@dataclass(frozen=True)
class Line:
    """Every stop of a run and what happens there; d marks derivatives along each direction (`solve.timeline`)."""

    times: Array  # (m+1,)
    jumps: Array  # (m+1, n)
    rates: Array  # (m, n)
    u0: Array  # (m, q)
    du: Array  # (m, q)
    djumps: Array  # (directions, m+1, n)
    drates: Array  # (directions, m, n)
    du0_d: Array  # (directions, m, q)


@dataclass(frozen=True)
class Solution:
    """States and observables at the output times, in canonical units; tangents along the asked directions."""

    status: Status
    method: str
    steps: int
    states: Array  # (n, m)
    observed: Array  # (observables, m)
    integrals: Array  # (observables, m)
    observed_tangent: Array  # (directions, observables, m)
    integral_tangent: Array  # (directions, observables, m)
    state_tangent: Array  # (directions, n, m)

    @property
    def message(self) -> str:
        """The status in words."""
        return MESSAGES[self.status]


@dataclass(frozen=True)
class Problem:
    """A compiled model with its doses, inputs and output times; only parameter values are missing."""

    model: Model
    compiled: Compiled
    regimen: Regimen
    times: Array  # (m,) increasing [h]
    inputs: Mapping[str, InputCurve]
    rtol: float = RTOL
    atol: float = ATOL

    @cached_property
    def defaults(self) -> Array:
        """Parameter values of the model, canonical, (k,)."""
        values = self.model.canonical_values()
        return np.array([values[n] for n in self.compiled.parameters])

    @cached_property
    def _doses(self) -> list[tuple[float, int, float, float]]:
        """(time, route, canonical amount, duration) of every dose.

        A dose within rounding of an output time is at that time (0.1 h three times is not 0.3 h), so that it counts.
        """

        def snap(t: float) -> float:
            near = float(self.times[np.argmin(np.abs(self.times - t))])
            return near if abs(near - t) <= ROUNDING * max(1.0, abs(t)) else t

        doses = doses_of(self.model, self.compiled, self.regimen)
        return [(snap(t), route, amount, snap(t + d) - snap(t) if d else 0.0) for t, route, amount, d in doses]

    @cached_property
    def _delays(self) -> list[int]:
        """Index of the delay parameter of each input, -1 without."""
        names = self.compiled.parameters
        return [names.index(i.delay) if i.delay else -1 for i in self.model.inputs.values()]

    def timeline(self, p: Array, directions: Sequence[int]) -> tuple[Line, NDArray[np.intp]]:
        """Every point where something happens, and where the output times are among them."""
        knots = [
            self.inputs[name].t + (p[d] if d >= 0 else 0.0)
            for name, d in zip(self.compiled.inputs, self._delays, strict=True)
        ]
        # Anchored at zero: integrals start there. What happens after the last output time does not matter.
        last = max(float(self.times[-1]), 0.0)
        events = [np.array([t, t + d]) for t, _, _, d in self._doses]
        times = np.unique(np.concatenate([[0.0], self.times, *events, *knots]))
        times = times[(times >= 0.0) & (times <= last)]
        m, n, q, k = times.size, len(self.compiled.states), len(self.compiled.inputs), len(directions)
        jumps, rates = np.zeros((m, n)), np.zeros((m - 1, n))
        djumps, drates = np.zeros((k, m, n)), np.zeros((k, m - 1, n))
        fractions, dfractions = self.compiled.entries(p), self.compiled.entries_dp(p)
        for start, route, amount, duration in self._doses:
            if start > last:
                continue
            at = int(np.searchsorted(times, start))
            if duration == 0:
                jumps[at] += amount * fractions[route]
                djumps[:, at] += amount * dfractions[route][:, directions].T
            else:
                during = slice(at, int(np.searchsorted(times, min(start + duration, last))))
                rates[during] += amount / duration * fractions[route]
                drates[:, during] += (amount / duration * dfractions[route][:, directions].T)[:, None, :]
        u0, du = np.zeros((m - 1, q)), np.zeros((m - 1, q))
        du0_d = np.zeros((k, m - 1, q))
        for j, name in enumerate(self.compiled.inputs):
            u0[:, j], du[:, j] = segments(times, knots[j], self.inputs[name].value)
            if self._delays[j] in directions:  # the curve moves to the right: du/d(delay) = -slope
                du0_d[directions.index(self._delays[j]), :, j] = -du[:, j]
                jump = self.inputs[name].value[0]
                if jump != 0.0 and knots[j][0] > 0:
                    raise SimulationError(
                        f"input {name} starts at {jump:g}, not zero: a delay cannot be fitted across that jump; "
                        "begin the curve with a zero"
                    )
        return Line(times, jumps, rates, u0, du, djumps, drates, du0_d), np.searchsorted(times, self.times)

    def solve(self, p: Array | None = None, directions: Sequence[int] = ()) -> Solution:
        """Solve for one set of parameters.

        Parameters
        ----------
        p : (k,) array, canonical values in the order of ``compiled.parameters``; default the model's own
        directions : indices of the parameters to differentiate with respect to

        Returns
        -------
        Solution
            A failure is a status with a message, and the arrays are nan from the point of failure.
        """
        p = self.defaults if p is None else np.ascontiguousarray(p, dtype=float)
        directions = list(directions)
        line, at = self.timeline(p, directions)
        c = self.compiled
        x0 = c.initial(p)
        dx0 = np.ascontiguousarray(c.initial_dp(p)[:, directions].T)
        steps = 0
        if c.linear:
            a, b, const = c.matrices(p)
            if directions:
                da, db, dc = (np.ascontiguousarray(d[directions]) for d in c.dmatrices(p))
            else:
                da, db, dc = (np.empty((0, *z.shape)) for z in (a, b, const))
            x, s, code = solve_linear_sens(
                a, b, const, da, db, dc, x0, dx0,
                line.times, line.jumps, line.djumps, line.rates, line.drates,
                line.u0, line.du, line.du0_d, np.zeros_like(line.du0_d),
            )  # fmt: skip
            method = "exact propagation"
        else:
            seeds = np.zeros((len(directions), p.size))
            seeds[np.arange(len(directions)), directions] = 1.0
            run = solve_stiff_sens(
                c.kernels, p, seeds, x0, dx0,
                line.times, line.jumps, line.djumps, line.rates, line.drates,
                line.u0, line.du, line.du0_d, np.zeros_like(line.du0_d),
                rtol=self.rtol, atol=self._absolute(p),
            )  # fmt: skip
            x, s, code, steps = run.X, run.S, run.status, run.steps
            method = "implicit Runge-Kutta (Kvaerno 5)"
        y = np.ascontiguousarray(x[at].T)
        dy = np.ascontiguousarray(s[at].transpose(1, 2, 0))
        u, slope = self._inputs_at(p)
        du = np.zeros((len(directions), len(c.inputs), self.times.size))
        for j, d in enumerate(self._delays):
            if d in directions:
                du[directions.index(d), j] = -slope[j]
        dp = np.zeros((len(directions), p.size))
        dp[np.arange(len(directions)), directions] = 1.0
        cut = c.compartments
        return Solution(
            status=code,
            method=method,
            steps=steps,
            states=y,
            observed=c.observe(self.times, y, u, p),
            integrals=y[cut:],
            observed_tangent=c.observe_tangent(self.times, y, u, p, dy, du, dp),
            integral_tangent=dy[:, cut:],
            state_tangent=dy,
        )

    def _absolute(self, p: Array) -> float:
        """Absolute tolerance: relative to the largest dose, so that the unit of amount does not matter."""
        doses = [amount for _, _, amount, _ in self._doses]
        return self.atol * (max([*doses, *np.abs(self.compiled.initial(p)), 0.0]) or 1.0)

    def _inputs_at(self, p: Array) -> tuple[Array, Array]:
        """Inputs and their slopes at the output times, each (q, m)."""
        q, m = len(self.compiled.inputs), self.times.size
        u, slope = np.zeros((q, m)), np.zeros((q, m))
        for j, (name, d) in enumerate(zip(self.compiled.inputs, self._delays, strict=True)):
            knots = self.inputs[name].t + (p[d] if d >= 0 else 0.0)
            u[j], slope[j] = values(self.times, knots, self.inputs[name].value)
        return u, slope


def prepare(
    model: Model,
    regimen: Regimen | str | None,
    times: ArrayLike,
    *,
    inputs: Mapping[str, Any] | None = None,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> Problem:
    """Bind a model to doses, inputs and output times.

    Parameters
    ----------
    model : labelled or not
    regimen : what is given, or None for a model driven by inputs alone
    times : (m,) array, increasing, from 0 [h]
    inputs : name -> InputCurve, or (times [h], values in the declared unit)
    rtol, atol : tolerances of the solver of nonlinear models; atol relative to the largest dose

    Raises
    ------
    SimulationError
        Times are not increasing or negative, an input is missing or ends too early.
    """
    grid = np.atleast_1d(np.asarray(times, dtype=float))
    if grid.ndim != 1 or grid.size == 0 or not np.all(np.isfinite(grid)):
        raise SimulationError("times must be a list of finite numbers [h]")
    if grid[0] < 0 or np.any(np.diff(grid) <= 0):
        raise SimulationError("times must increase and not be negative [h from the first administration]")
    plan = Regimen(regimen) if isinstance(regimen, str) else regimen
    curves: dict[str, InputCurve] = {}
    for name, declared in model.inputs.items():
        given = (inputs or {}).get(name)
        if given is None:
            raise SimulationError(
                f"{model.who}: input {name} [{declared.unit}] is not given; pass inputs={{{name!r}: (times, values)}}"
            )
        if not isinstance(given, InputCurve):
            t, value = given
            scale = factor(declared.unit)
            given = InputCurve(np.asarray(t, dtype=float), np.asarray(value, dtype=float) * scale)
        late = model.parameters[declared.delay].canonical if declared.delay else 0.0
        if given.t[-1] + max(late, 0.0) < grid[-1] - 1e-9:
            raise SimulationError(
                f"{model.who}: input {name} ends at {given.t[-1]:g} h, but results are asked for until {grid[-1]:g} h; "
                "measure or extrapolate it further"
            )
        curves[name] = given
    if unknown := set(inputs or {}) - set(model.inputs):
        raise SimulationError(
            f"{model.who}: {', '.join(sorted(unknown))}: no such input; known: {', '.join(model.inputs) or 'none'}"
        )
    return Problem(model, compile_model(model), plan or Regimen.nothing(), grid, curves, rtol, atol)


def simulate(
    model: Model,
    regimen: Regimen | str | None = None,
    times: ArrayLike | None = None,
    *,
    days: float | None = None,
    inputs: Mapping[str, Any] | None = None,
    sensitivities: Sequence[str] = (),
    rtol: float = RTOL,
    atol: float = ATOL,
) -> xr.Dataset:
    """Follow a model in time.

    Parameters
    ----------
    model : labelled or not
    regimen : a Regimen, or text such as ``"7.4 GBq every 8 wk x 4"``
    times : (m,) array, increasing, from 0 [h]; default 200 points over `days`
    days : length where `times` is not given; default until 10 days after the last dose [d]
    inputs : measured curves that drive the model, name -> (times [h], values)
    sensitivities : parameters to differentiate with respect to

    Returns
    -------
    xarray.Dataset
        One variable per observable over time, ``integral_<observable>`` (the time-integrated activity so far),
        and ``d_<observable>_d_<parameter>``; units in ``attrs["units"]``.

    Raises
    ------
    SimulationError
        The run cannot be set up, or the solver failed (the message says at what).
    """
    import xarray as xr

    plan = Regimen(regimen) if isinstance(regimen, str) else regimen
    if times is None:
        last = max((a.time + a.duration for a in plan.administrations), default=0.0) if plan else 0.0
        times = np.linspace(0.0, 24.0 * days if days is not None else last + 240.0, 200)
    problem = prepare(model, plan, times, inputs=inputs, rtol=rtol, atol=atol)
    names = list(problem.compiled.parameters)
    if unknown := [s for s in sensitivities if s not in names]:
        raise SimulationError(f"{model.who}: {', '.join(unknown)}: no such parameter; known: {', '.join(names)}")
    solution = problem.solve(directions=[names.index(s) for s in sensitivities])
    if solution.status != Status.OK:
        raise SimulationError(f"{model.who}: {solution.message}")
    data = xr.Dataset(coords={"time": ("time", problem.times, {"units": "h"})})
    for k, o in enumerate(model.observables.values()):
        scale = factor(o.unit)
        about = {"units": o.unit, "long_name": o.meaning or o.name}
        data[o.name] = ("time", solution.observed[k] / scale, about)
        data[f"integral_{o.name}"] = ("time", solution.integrals[k] / scale, {"units": f"{o.unit} h"})
        for j, s in enumerate(sensitivities):
            per = factor(model.parameters[s].unit)
            unit = f"({o.unit})/({model.parameters[s].unit})"
            tangent = solution.observed_tangent[j, k] * per / scale
            data[f"d_{o.name}_d_{s}"] = ("time", tangent, {"units": unit})
    states = [f"state_{c}" for c in model.compartments]
    for k, (name, c) in enumerate(zip(states, model.compartments.values(), strict=True)):
        data[name] = ("time", solution.states[k] / factor(c.unit), {"units": c.unit})
    data.attrs = {
        "model": model.name,
        "digest": model.digest,
        "nuclide": model.nuclide,
        "regimen": str(plan or ""),
        "given_MBq": plan.activity if plan else 0.0,
        "solver": solution.method,
        "warnings": "; ".join(run_warnings(problem)),
    }
    return data


def run_warnings(problem: Problem) -> list[str]:
    """What a reader of the result should know."""
    model = problem.model
    warnings = []
    substance = any(dict(dimension(c.unit).exponents).get("substance") for c in model.compartments.values())
    if model.nuclide and not problem.compiled.linear and not any(c.endswith("_cold") for c in model.compartments):
        what = "cold ligand is not followed" if substance else "decayed ligand frees its place"
        warnings.append(f"{model.name} saturates but is labelled without cold=True: {what}")
    for name, curve in problem.inputs.items():
        if curve.t[0] > 0 and curve.value[0] != 0:
            warnings.append(f"input {name} begins at {curve.t[0]:g} h above zero: taken as zero until then")
    return warnings
