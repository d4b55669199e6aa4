"""Minimise a population's approximate -2 log L: BFGS that begins with the information the subjects' slopes hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ...errors import FitError
from ...progress import progress
from .crowd import Crowd
from .linearised import Approximation, Objective, objective

Array = NDArray[np.float64]
ITERATIONS = 200
NEAR = 1e-9  # expected change of the objective at which the search ends
SETTLED = 1e-7  # of the objective, gained by two iterations together: an ODE solver's rounding allows no more
LONGEST = 1.0  # of one step in any parameter, on the scale of the fit
EXTENDED, STEEP = 4, 0.5  # most lengthenings of a step, and how steep its end must still be for one
FARTHEST = 2.0  # of a lengthened step in any parameter
SHORTEST = 1e-10
CLOSED, OPEN = 0.01, 0.1  # SD under which a spread counts as gone, and the one it is tried again with


@dataclass(frozen=True, slots=True, eq=False)
class Minimum:
    """Where a search ended.

    Parameters
    ----------
    phi : (p,) array
    at : the objective there
    trace : objective after each iteration
    converged, interrupted : how it ended
    message : in words [text]
    path : (iterations + 1, p) array, parameters on the way; empty where it was not kept
    """

    phi: Array
    at: Objective
    trace: tuple[float, ...]
    converged: bool
    interrupted: bool
    message: str
    path: Array = field(default_factory=lambda: np.zeros((0, 0)))


def minimise(
    crowd: Crowd,
    begin: Array,
    *,
    kind: Approximation = "focei",
    modes: Array | None = None,
    iterations: int = ITERATIONS,
    watch: Callable[[int, float, Array], None] | None = None,
) -> Minimum:
    """Search the population parameters.

    Parameters
    ----------
    crowd : subjects
    begin : (p,) array, where to start
    kind : approximation [text]
    modes : (people, q) array, where the search of the modes begins
    iterations : most [1]
    watch : called with iteration, objective and parameters

    Raises
    ------
    FitError
        The model of some subject cannot be solved at the start.
    """
    phi = np.array(begin, dtype=float)
    at = objective(crowd, phi, modes, kind=kind)
    if not np.isfinite(at.value):
        lost = [p.name for p, v in zip(crowd.people, at.each, strict=True) if not np.isfinite(v)]
        raise FitError(
            f"{kind}: the likelihood of subject {', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''} is zero or "
            "cannot be computed at the start values; check start values and units, and whether a proportional error "
            "meets a prediction of zero (then give the noise an additive part)"
        )
    trace = [at.value]
    inverse = _first(at)
    fresh, converged, interrupted, message = True, False, False, f"stopped after {iterations} iterations"
    try:
        with progress(f"{kind}: iterations (at most)", iterations) as done:
            for n in range(iterations):
                slope = at.gradient.sum(axis=0)
                step = -inverse @ slope
                expected = -0.5 * float(slope @ step)
                settled = len(trace) > 2 and trace[-3] - trace[-1] < SETTLED and expected < 1e-3
                if expected < NEAR or settled:
                    converged, message = True, "converged"
                    break
                step *= min(1.0, LONGEST / float(np.abs(step).max()))
                found = _line(crowd, phi, at, step, float(slope @ step), kind)
                if found is None:
                    if fresh:
                        converged = expected < 1e-3
                        message = "converged within rounding" if converged else "no step makes it better"
                        break
                    inverse, fresh = _first(at), True
                    continue
                length, new = found
                moved, turned = length * step, new.gradient.sum(axis=0) - slope
                phi, at = phi + moved, new
                inverse, fresh = _update(inverse, moved, turned), False
                trace.append(at.value)
                done(1)
                if watch:
                    watch(n, at.value, phi)
    except KeyboardInterrupt:
        interrupted, message = True, f"interrupted after {len(trace) - 1} iterations; this is the best so far"
    return Minimum(phi, at, tuple(trace), converged, interrupted, message)


def search(
    crowd: Crowd,
    begin: Array,
    *,
    kind: Approximation = "focei",
    modes: Array | None = None,
    iterations: int = ITERATIONS,
) -> Minimum:
    """Minimise, and once more with every spread that went to zero opened again; the better of the two.

    On the logarithmic scale of its SD a spread near zero has no slope, so a search that once stepped there stays,
    whatever the data say.

    Parameters
    ----------
    crowd, begin, kind, modes, iterations : see `minimise`
    """
    found = minimise(crowd, begin, kind=kind, modes=modes, iterations=iterations)
    gone = crowd.layout.closed(found.phi, CLOSED)
    if not gone.size or found.interrupted:
        return found
    opened = found.phi.copy()
    opened[gone] = np.log(OPEN)
    again = minimise(crowd, opened, kind=kind, modes=found.at.b, iterations=iterations)
    better = again if again.at.value < found.at.value - 1e-6 else found
    said = again.message if again.interrupted else better.message
    return replace(better, trace=(*found.trace, *again.trace), interrupted=again.interrupted, message=said)


def _first(at: Objective) -> Array:
    """Inverse curvature from the subjects' slopes (Berndt 1974); where they say nothing, a step of a tenth."""
    g = at.gradient
    curvature = 0.5 * g.T @ g
    ridge = 1e-3 * np.diag(curvature) + 1e-6
    return np.asarray(np.linalg.inv(curvature + np.diag(ridge)))


def _line(
    crowd: Crowd, phi: Array, at: Objective, step: Array, slope: float, kind: Approximation
) -> tuple[float, Objective] | None:
    """A length that makes the objective better by what the slope promises, by halving and parabolas."""
    length, before = 1.0, at.value
    if slope >= 0:
        return None
    while length > SHORTEST:
        new = objective(crowd, phi + length * step, at.b, kind=kind)
        if np.isfinite(new.value) and np.isfinite(new.gradient).all():
            if new.value <= before + 1e-4 * length * slope:
                return _further(crowd, phi, step, slope, length, new, kind)
            bend = new.value - before - length * slope
            best = -0.5 * slope * length**2 / bend if bend > 0 else 0.5 * length
            length = float(np.clip(best, 0.1 * length, 0.5 * length))
            if abs(length * slope) < 1e-9:
                return None
        else:
            length *= 0.25
    return None


def _further(
    crowd: Crowd, phi: Array, step: Array, slope: float, length: float, new: Objective, kind: Approximation
) -> tuple[float, Objective]:
    """Longer along the same step, while the objective falls there almost as steeply as at its beginning."""
    for _ in range(EXTENDED):
        if float(new.gradient.sum(axis=0) @ step) > STEEP * slope or 3 * length * np.abs(step).max() > FARTHEST:
            break
        more = objective(crowd, phi + 3 * length * step, new.b, kind=kind)
        if not (more.value < new.value and np.isfinite(more.gradient).all()):
            break
        length, new = 3 * length, more
    return length, new


def _update(inverse: Array, moved: Array, turned: Array) -> Array:
    """BFGS update of an inverse curvature; none where the slope did not rise."""
    rise = float(moved @ turned)
    if rise <= 1e-12 * float(np.linalg.norm(moved) * np.linalg.norm(turned)):
        return inverse
    n = len(moved)
    left = np.eye(n) - np.outer(moved, turned) / rise
    return np.asarray(left @ inverse @ left.T + np.outer(moved, moved) / rise)
