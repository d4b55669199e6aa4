"""The equations of a model followed by SciPy: numbers of a large model without kernels, which take minutes to make.

What the compiled engine makes of the same equations is tested elsewhere; here the files are on trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import sympy as sp
from scipy.integrate import solve_ivp
from scipy.sparse import csc_matrix

from pkmodel.expressions import symbol
from pkmodel.model import Model


def parameter_values(model: Model) -> dict[sp.Symbol, float]:
    """Every parameter of a model as a number, formulas worked out (canonical units)."""
    known = {symbol(n): p.canonical for n, p in model.parameters.items() if p.formula is None}
    todo = {symbol(n): p.formula for n, p in model.parameters.items() if p.formula is not None}
    while todo:
        ready = [s for s, f in todo.items() if f.free_symbols <= known.keys()]
        assert ready, f"formulas in a circle: {list(todo)[:5]}"
        for s in ready:
            f = todo.pop(s)
            order = sorted(f.free_symbols, key=str)
            known[s] = float(sp.lambdify(order, f, "numpy")(*(known[x] for x in order)))
    return known


class Oracle:
    """Right-hand side and Jacobian of a model with the numbers it has."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.p = parameter_values(model)
        self.names = list(model.compartments)
        self.index = {n: k for k, n in enumerate(self.names)}
        states = [symbol(n) for n in self.names]
        rates = [f.rate.xreplace(self.p) for f in model.flows]
        columns: list[int] = []
        rows: list[int] = []
        slopes = []
        for k, rate in enumerate(rates):
            for s in sorted(rate.free_symbols, key=str):
                rows.append(k)
                columns.append(self.index[s.name])
                slopes.append(sp.diff(rate, s))
        self._rates: Callable[..., list[float]] = sp.lambdify([states], rates, "math")
        self._slopes: Callable[..., list[float]] = sp.lambdify([states], slopes, "math")
        self._place = (np.array(rows), np.array(columns))
        n, m = len(self.names), len(rates)
        ends = np.zeros((n, m))
        for k, f in enumerate(model.flows):
            if f.source:
                ends[self.index[f.source], k] -= 1.0
            if f.target:
                ends[self.index[f.target], k] += 1.0
        self._ends = csc_matrix(ends)
        self.linear = all(not d.free_symbols for d in slopes)

    def slope(self, t: float, y: np.ndarray) -> np.ndarray:
        """dy/dt [nmol/h]."""
        out: np.ndarray = self._ends @ np.array(self._rates(y), float)
        return out

    def jacobian(self, t: float, y: np.ndarray) -> np.ndarray:
        """Derivative of `slope` by the state."""
        by = csc_matrix((np.array(self._slopes(y), float), self._place), (len(self.model.flows), len(self.names)))
        return np.asarray((self._ends @ by).todense())

    def start(self, doses: Mapping[str, float]) -> np.ndarray:
        """The state just after doses by route [nmol]."""
        y = np.zeros(len(self.names))
        for route, amount in doses.items():
            for c, share in self.model.administration[route].items():
                y[self.index[c]] += amount * float(share.xreplace(self.p))
        return y

    def follow(self, doses: Mapping[str, float], times: Iterable[float], rtol: float = 1e-9) -> np.ndarray:
        """States at increasing times [h], (compartments, times)."""
        at = np.asarray(list(times), float)
        found = solve_ivp(
            self.slope, (0.0, float(at[-1])), self.start(doses), method="BDF" if rtol > 1e-7 else "Radau", t_eval=at,
            jac=self.jacobian, rtol=rtol, atol=rtol * 1e-4 * sum(doses.values()),
        )  # fmt: skip
        assert found.success, found.message
        return np.asarray(found.y)

    def observe(self, name: str, y: np.ndarray) -> np.ndarray:
        """An observable over the times of `follow`, in canonical units."""
        e = self.model.observables[name].expression.xreplace(self.p)
        f = sp.lambdify([[symbol(n) for n in self.names]], e, "numpy")
        return np.asarray(f(y)) * np.ones(y.shape[1])
