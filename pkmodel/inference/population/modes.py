"""Each subject's most likely random effects: Newton with the expected information, all subjects at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .crowd import Answer, Crowd
from .points import Points, points_at

Array = NDArray[np.float64]
ITERATIONS = 60
CLOSE = 1e-16  # expected change of the objective at which a mode is found
SHORTEST = 1e-4  # fraction of a step below which a subject's search gives up


@dataclass(frozen=True, slots=True, eq=False)
class Modes:
    """Where the search ended.

    Parameters
    ----------
    b : (people, q) array, random effects
    x : (people, columns) array, parameters on the scale of the fit
    mean : (people, columns) array, parameters of the typical subject with each one's covariates
    answer : predictions at x
    points : derivatives of the log densities
    typical : predictions at `mean`, where they are needed (no interaction), else None
    joint : (people,) array, -2 log of density of data times that of the effects, without constants of either
    found : (people,) array, whether the search converged
    """

    b: Array
    x: Array
    mean: Array
    answer: Answer
    points: Points
    typical: Answer | None
    joint: Array
    found: NDArray[np.bool_]


def find_modes(crowd: Crowd, phi: Array, begin: Array, *, interaction: bool = True) -> Modes:
    """Search the modes of all subjects.

    Parameters
    ----------
    crowd : subjects
    phi : population parameters
    begin : (people, q) array, where to start
    interaction : whether the residual variance follows the individual prediction

    Returns
    -------
    Modes
        A subject whose model cannot be solved has an infinite joint density.
    """
    layout = crowd.layout
    design, mean = layout.design, layout.typical(phi)
    inverse = np.linalg.inv(layout.prior(phi))
    z = layout.part(phi, "noise")
    typical = None if interaction else crowd.predict(mean)
    g = None if typical is None else typical.value

    def at(b: Array, who: NDArray[np.bool_] | None) -> tuple[Array, Answer]:
        answer = crowd.predict(mean + b @ design.T, who=who)
        return _joint(crowd, answer, g, z, b, inverse), answer

    b = np.array(begin)
    joint, answer = at(b, None)
    lost = ~np.isfinite(joint)
    if lost.any():  # where the start leads nowhere, from the typical subject
        b[lost] = 0.0
        again, other = at(b, lost)
        joint[lost] = again[lost]
        answer = _mix(answer, other, lost[crowd.owner])
    found = np.zeros(len(b), dtype=bool)
    active = np.isfinite(joint)
    for _ in range(ITERATIONS):
        points = points_at(answer.value, g, z, crowd.noise, crowd.data, second=False)
        slope, information = gauss_newton(crowd, answer.tangent, points, b, inverse)
        with np.errstate(invalid="ignore"):
            step = -np.linalg.solve(
                np.where(np.isfinite(information), information, np.eye(b.shape[1])), slope[..., None]
            )[..., 0]
            gain = -np.einsum("pi,pi->p", slope, step)
        found |= active & (gain <= CLOSE)
        active &= ~found & np.isfinite(gain)
        if not active.any():
            break
        length = np.ones(len(b))
        waiting = active.copy()
        while waiting.any():
            trial = b + length[:, None] * step
            value, new = at(trial, waiting)
            with np.errstate(invalid="ignore"):
                better = waiting & (value <= joint + crowd.rounding * np.abs(joint))
            b[better], joint[better] = trial[better], value[better]
            answer = _mix(answer, new, better[crowd.owner])
            waiting &= ~better
            length[waiting] *= 0.5
            stuck = waiting & (length < SHORTEST)
            active &= ~stuck
            found |= stuck & (gain < 1e-6)  # nothing more to win within rounding
            waiting &= ~stuck
    points = points_at(answer.value, g, z, crowd.noise, crowd.data)
    return Modes(b, mean + b @ design.T, mean, answer, points, typical, joint, found)


def gauss_newton(crowd: Crowd, tangent: Array, points: Points, b: Array, inverse: Array) -> tuple[Array, Array]:
    """Half the slope (people, q) and half the expected curvature (people, q, q) of the joint density."""
    along = tangent @ crowd.layout.design
    slope = b @ inverse - crowd.sum(points.f[:, None] * along)
    information = inverse + crowd.sum(points.curvature[:, None, None] * along[:, :, None] * along[:, None, :])
    return slope, information


def _joint(crowd: Crowd, answer: Answer, g: Array | None, z: Array, b: Array, inverse: Array) -> Array:
    points = points_at(answer.value, g, z, crowd.noise, crowd.data, second=False)
    total = -2 * crowd.sum(points.value) + np.einsum("pi,ij,pj->p", b, inverse, b)
    return np.where(np.isfinite(total), total, np.inf)


def _mix(old: Answer, new: Answer, take: NDArray[np.bool_]) -> Answer:
    return Answer(np.where(take, new.value, old.value), np.where(take[:, None], new.tangent, old.tangent))
