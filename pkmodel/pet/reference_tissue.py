"""Reference-tissue models fitted by non-linear least squares: SRTM, SRTM2 and the full model (FRTM).

With CR the reference region and * convolution:

* SRTM: ``C = R1 CR + (k2 - R1 k2a) CR * exp(-k2a t)``, k2a = k2/(1 + BPND) (doi:10.1006/nimg.1996.0066)
* SRTM2: k2 = R1 k2', with k2' fixed or common to all regions (doi:10.1097/01.WCB.0000033967.83623.34)
* FRTM: four parameters; with a, b the roots of ``s^2 - (k2 + k3 + k4) s + k2 k4`` and q = k2/R1,
  ``C = R1 [CR + A CR * exp(-a t) + B CR * exp(-b t)]``, A = (q - a)(k3 + k4 - a)/(b - a), B the same with a and b
  exchanged (doi:10.1097/00004647-199601000-00005)

The convolution is exact for the reference curve as it is known: parabolas that keep every frame's average, or straight
lines between midpoints. The average of a convolution over a frame needs its values at the edges only, since
``d/dt (CR * e) = CR - rate (CR * e)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError
from ..formats.curve import Curve
from .lines import RATE, Prepared
from .measured import Mode
from .minimum import least_along, minimise
from .reference_lines import check_k2prime, prepare_reference
from .result import Estimate, PetResult, Points

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]
SLOWEST, FASTEST = 1e-5, 5.0  # [1/min], of k2a: half-lives of 48 days and 8 s
_GRID = 40
SRTM_BIAS = (
    "assumes that target and reference each behave as one tissue and have the same nondisplaceable volume; where the "
    "target needs two tissues BPND is off in either direction, and blood in the tissue is not accounted for"
)
SRTM2_BIAS = SRTM_BIAS + "; a wrong k2' biases R1 and BPND"
FRTM_BIAS = "k3 and k4 are rarely determined by one reference curve; look at their errors. Blood is not accounted for"
MEANING = {
    "BPND": ("1", "binding potential"),
    "R1": ("1", "relative delivery K1/K1'"),
    "k2": (RATE, "rate from target tissue to plasma"),
    "k3": (RATE, "rate of specific binding"),
    "k4": (RATE, "rate of release"),
    "k2a": (RATE, "apparent rate to plasma, k2/(1 + BPND)"),
    "k2prime": (RATE, "k2', reference tissue to plasma, k2/R1"),
}


def smoothed(p: Prepared, rate: float, cr: Array) -> tuple[Array, Array]:
    """What the frames see of ``CR * exp(-rate t)``, and the derivative by the rate, (n,) each."""
    seen, reference = p.tissue, p.plasma  # cr: what the frames see of the reference, found once
    if seen.mode == "midpoint":
        return reference.convolve(rate, seen.t)
    (e0, e1), (g0, g1) = (x.reshape(2, -1) for x in reference.convolve(rate, np.concatenate([seen.start, seen.end])))
    width = seen.duration
    inside = (cr - (e1 - e0) / width) / rate
    return inside, -inside / rate - (g1 - g0) / width / rate


def srtm(
    tissue: Curve, reference: Curve, *, variance: str | ArrayLike = "uniform", mode: Mode | None = None
) -> PetResult:
    """Simplified reference tissue model: BPND, R1, k2, k2a and k2' (doi:10.1006/nimg.1996.0066).

    Parameters
    ----------
    tissue, reference : curves of the target and of a region without specific binding
    variance : of the target's values (see `pkmodel.pet.variance.variance_of`) [text or unit^2]
    mode : "frame" averages or "midpoint" values; default: frames where there are any [text]

    Raises
    ------
    FitError, DataError
        Too few points, or curves that do not fit together.
    """
    p = prepare_reference(tissue, reference, variance, mode)
    _enough(p, 4, "SRTM")
    cr, y, root = p.tissue.of(p.plasma), p.tissue.value, _root(p)
    rate = _search(lambda k: _solved(np.column_stack([cr, smoothed(p, k, cr)[0]]), y, root)[1])
    for _ in range(50):
        basis, dbasis = smoothed(p, rate, cr)
        (r1, other), _ = _solved(np.column_stack([cr, basis]), y, root)
        jacobian = np.column_stack([cr, basis, other * dbasis])
        step = np.linalg.lstsq(jacobian * root[:, None], (y - r1 * cr - other * basis) * root, rcond=None)[0][2]
        rate, before = float(np.clip(rate + step, 0.5 * rate, 2.0 * rate)), rate
        rate = float(np.clip(rate, SLOWEST, FASTEST))
        if abs(rate - before) <= 1e-11 * rate:
            break
    basis, dbasis = smoothed(p, rate, cr)
    (r1, other), _ = _solved(np.column_stack([cr, basis]), y, root)
    fitted = r1 * cr + other * basis
    covariance = _covariance(np.column_stack([cr, basis, other * dbasis]), y - fitted, root)
    k2 = other + r1 * rate
    slopes = {  # by R1, the coefficient of the convolution, and k2a
        "BPND": [1.0, 1 / rate, -other / rate**2],
        "R1": [1.0, 0.0, 0.0],
        "k2": [rate, 1.0, r1],
        "k2a": [0.0, 0.0, 1.0],
        "k2prime": [-other / r1**2, 1 / r1, 1.0],
    }
    values = {"BPND": k2 / rate - 1, "R1": r1, "k2": k2, "k2a": rate, "k2prime": k2 / r1}
    estimates = [_estimate(n, values[n], np.array(slopes[n]), covariance) for n in slopes]
    return _result(
        "SRTM", p, estimates, fitted, SRTM_BIAS, "Lammertsma and Hume 1996, doi:10.1006/nimg.1996.0066", rate
    )


def srtm2(
    tissue: Curve,
    reference: Curve,
    k2prime: float,
    *,
    variance: str | ArrayLike = "uniform",
    mode: Mode | None = None,
) -> PetResult:
    """SRTM with k2' known: BPND, R1, k2, k2a (doi:10.1097/01.WCB.0000033967.83623.34).

    Parameters are those of `srtm`; k2prime comes from `srtm` or `mrtm1` of a region rich in targets, or from
    `srtm2_shared` [1/min].

    Raises
    ------
    FitError, DataError
        Too few points, curves that do not fit together, or a k2' that is no rate.
    """
    check_k2prime(k2prime, tissue.who)
    p = prepare_reference(tissue, reference, variance, mode)
    _enough(p, 3, "SRTM2")
    start = _start_srtm2(p, k2prime)
    found = _fit_srtm2([p], np.array([np.log(k2prime), *start]), fixed=True)
    return _srtm2_result(p, found, 0, (f"k2' {k2prime:g} 1/min fixed",))


def srtm2_shared(
    tissues: Sequence[Curve],
    reference: Curve,
    *,
    variance: str | Sequence[ArrayLike] = "uniform",
    mode: Mode | None = None,
) -> dict[str, PetResult]:
    """SRTM2 of several regions with one k2', estimated from all of them at once.

    Parameters
    ----------
    tissues : curves of two or more targets, with noise of one size
    reference, mode : as for `srtm`
    variance : as for `srtm`, or one array per region

    Returns
    -------
    dict
        Region -> result; k2prime and its error are the same in all.

    Raises
    ------
    FitError, DataError
        Fewer than two regions, too few points, or curves that do not fit together.
    """
    if len(tissues) < 2:
        raise FitError(f"SRTM2 with a shared k2': {len(tissues)} region; needed: two or more, or srtm2 with k2' fixed")
    names = [c.region for c in tissues]
    if len(set(names)) < len(names):
        raise FitError(f"SRTM2 with a shared k2': a region is given twice: {', '.join(names)}")
    spreads = [variance] * len(tissues) if isinstance(variance, str) else list(variance)
    if len(spreads) != len(tissues):
        raise FitError(f"SRTM2 with a shared k2': {len(spreads)} variances for {len(tissues)} regions")
    ready = [prepare_reference(c, reference, v, mode) for c, v in zip(tissues, spreads, strict=True)]
    for p in ready:
        _enough(p, 4, "SRTM2")
    alone = [srtm(c, reference, variance=v, mode=mode)["k2prime"] for c, v in zip(tissues, spreads, strict=True)]
    sensible = [k for k in alone if SLOWEST < k < FASTEST]
    common = float(np.median(sensible)) if sensible else 0.1
    start = np.concatenate([[np.log(common)], *(_start_srtm2(p, common) for p in ready)])
    found = _fit_srtm2(ready, start, fixed=False)
    term = (f"k2' shared by {len(names)} regions",)
    return {n: _srtm2_result(p, found, i, term) for i, (n, p) in enumerate(zip(names, ready, strict=True))}


def frtm(
    tissue: Curve, reference: Curve, *, variance: str | ArrayLike = "uniform", mode: Mode | None = None
) -> PetResult:
    """Full reference tissue model: R1, k2, k3, k4 and BPND = k3/k4 (doi:10.1097/00004647-199601000-00005).

    Parameters are those of `srtm`.

    Raises
    ------
    FitError, DataError
        Too few points, or curves that do not fit together.
    """
    p = prepare_reference(tissue, reference, variance, mode)
    _enough(p, 5, "FRTM")
    y, root = p.tissue.value, _root(p)
    simple = srtm(tissue, reference, variance=variance, mode=mode)
    r1, k2, bp = max(simple["R1"], 0.05), max(simple["k2"], 1e-3), max(simple["BPND"], 0.05)

    def misfit(x: Array) -> Array:
        return np.asarray((_frtm(p, np.exp(x)) - y) * root, dtype=float)

    low, high = np.log([0.01, 1e-4, 1e-5, 1e-5]), np.log([20.0, 20.0, 20.0, 20.0])
    starts = [np.log([r1, k2, bp * k4, k4]) for k4 in (0.01, 0.05, 0.2, 1.0)]
    tried = [minimise(misfit, x, low=low, high=high) for x in starts]
    best = min(tried, key=lambda r: r.cost)
    r1, k2, k3, k4 = (float(v) for v in np.exp(best.x))
    jacobian = best.jacobian / np.exp(best.x)  # already weighted
    covariance = _covariance(jacobian, misfit(best.x), np.where(p.counted, 1.0, 0.0))
    slopes: dict[str, list[float]] = {
        "BPND": [0.0, 0.0, 1 / k4, -k3 / k4**2],
        "R1": [1.0, 0.0, 0.0, 0.0],
        "k2": [0.0, 1.0, 0.0, 0.0],
        "k3": [0.0, 0.0, 1.0, 0.0],
        "k4": [0.0, 0.0, 0.0, 1.0],
        "k2prime": [-k2 / r1**2, 1 / r1, 0.0, 0.0],
    }
    values = {"BPND": k3 / k4, "R1": r1, "k2": k2, "k3": k3, "k4": k4, "k2prime": k2 / r1}
    estimates = [_estimate(n, values[n], np.array(slopes[n]), covariance) for n in slopes]
    names = ("R1", "k2", "k3", "k4")
    stuck = [n for n, x, a, b in zip(names, best.x, low, high, strict=True) if min(x - a, b - x) < 1e-3]
    more = (f"{', '.join(stuck)} at a bound: the data do not carry four parameters; use srtm",) if stuck else ()
    source = "Lammertsma 1996, doi:10.1097/00004647-199601000-00005"
    return _result("FRTM", p, estimates, _frtm(p, np.exp(best.x)), FRTM_BIAS, source, float("nan"), more)


def _frtm(p: Prepared, x: Array) -> Array:
    r1, k2, k3, k4 = x
    total = k2 + k3 + k4
    root = np.sqrt(max(total**2 - 4 * k2 * k4, 1e-24 * total**2))
    b = (total + root) / 2
    a = k2 * k4 / b  # the slow root, without cancellation
    q, bound = k2 / r1, k3 + k4
    slow, fast = (q - a) * (bound - a) / (b - a), (q - b) * (bound - b) / (a - b)
    cr = p.tissue.of(p.plasma)
    return np.asarray(r1 * (cr + slow * smoothed(p, a, cr)[0] + fast * smoothed(p, b, cr)[0]), dtype=float)


def _enough(p: Prepared, least: int, method: str) -> None:
    if p.counted.sum() < least:
        raise FitError(f"{method} of {p.tissue.curve.who}: {p.counted.sum()} frames count; needed: {least} or more")


def _root(p: Prepared) -> Array:
    return np.where(p.counted, 1.0 / np.sqrt(p.tissue.variance), 0.0)


def _solved(columns: Array, y: Array, root: Array) -> tuple[Array, float]:
    """Best coefficients of the linear part, and the weighted sum of squares."""
    found = np.linalg.lstsq(columns * root[:, None], y * root, rcond=None)[0]
    left = (y - columns @ found) * root
    return found, float(left @ left)


def _search(cost: Callable[[float], float]) -> float:
    """Rate of lowest cost: the best of a grid, refined."""
    grid = np.linspace(np.log(SLOWEST), np.log(FASTEST), _GRID)
    k = int(np.argmin([cost(float(np.exp(z))) for z in grid]))
    low, high = grid[max(k - 1, 0)], grid[min(k + 1, _GRID - 1)]
    return float(np.exp(least_along(lambda z: cost(float(np.exp(z))), float(low), float(high))[0]))


def _covariance(jacobian: Array, residual: Array, root: Array) -> Array:
    """Covariance with the noise from the residuals; rows of weight zero do not count."""
    n, k = int(np.sum(root > 0)), jacobian.shape[1]
    weighted = jacobian * root[:, None]
    size = np.sqrt(np.sum(weighted**2, axis=0))
    size = np.where(size > 0, size, 1.0)
    noise = float(np.sum((residual * root) ** 2)) / (n - k) if n > k else float("nan")
    inverse = np.linalg.pinv((weighted / size).T @ (weighted / size), hermitian=True)
    return np.asarray(noise * inverse / np.outer(size, size), dtype=float)


def _estimate(name: str, value: float, slope: Array, covariance: Array) -> Estimate:
    return Estimate(name, float(value), float(np.sqrt(slope @ covariance @ slope)), *MEANING[name])


def _start_srtm2(p: Prepared, k2prime: float) -> tuple[float, float]:
    """R1 and log k2a for a k2'."""
    cr, y, root = p.tissue.of(p.plasma), p.tissue.value, _root(p)

    def column(rate: float) -> Array:
        return (cr + (k2prime - rate) * smoothed(p, rate, cr)[0])[:, None]

    rate = _search(lambda k: _solved(column(k), y, root)[1])
    return float(_solved(column(rate), y, root)[0][0]), float(np.log(rate))


def _fit_srtm2(ready: list[Prepared], start: Array, *, fixed: bool) -> tuple[Array, Array, list[Array]]:
    """log k2' and (R1, log k2a) per region, their covariance (k2' first) and the fitted curves."""
    sizes = [p.tissue.value.size for p in ready]
    edges = np.concatenate([[0], np.cumsum(sizes)])
    first = 1 if fixed else 0
    references = [p.tissue.of(p.plasma) for p in ready]

    def model(x: Array) -> tuple[list[Array], Array]:
        kp, jacobian, out = np.exp(x[0]), np.zeros((edges[-1], x.size)), []
        for i, p in enumerate(ready):
            r1, rate = x[1 + 2 * i], np.exp(x[2 + 2 * i])
            basis, dbasis = smoothed(p, rate, references[i])
            shape = references[i] + (kp - rate) * basis
            rows = slice(edges[i], edges[i + 1])
            jacobian[rows, 0] = r1 * kp * basis
            jacobian[rows, 1 + 2 * i] = shape
            jacobian[rows, 2 + 2 * i] = r1 * rate * ((kp - rate) * dbasis - basis)
            out.append(r1 * shape)
        return out, jacobian

    def whole(x: Array) -> Array:
        return np.concatenate([start[:first], x])

    y, root = np.concatenate([p.tissue.value for p in ready]), np.concatenate([_root(p) for p in ready])
    found = minimise(
        lambda x: (np.concatenate(model(whole(x))[0]) - y) * root, start[first:],
        jacobian=lambda x: model(whole(x))[1][:, first:] * root[:, None],
    )  # fmt: skip
    x = whole(found.x)
    curves, jacobian = model(x)
    covariance = np.zeros((x.size, x.size))
    covariance[first:, first:] = _covariance(jacobian[:, first:], np.concatenate(curves) - y, root)
    return x, covariance, curves


def _srtm2_result(p: Prepared, found: tuple[Array, Array, list[Array]], i: int, settings: tuple[str, ...]) -> PetResult:
    x, covariance, curves = found
    kp, r1, rate = np.exp(x[0]), x[1 + 2 * i], np.exp(x[2 + 2 * i])
    ratio = r1 * kp / rate
    parts: dict[str, tuple[float, tuple[float, float, float]]] = {  # value, and slopes by log k2', R1, log k2a
        "BPND": (ratio - 1, (ratio, kp / rate, -ratio)),
        "R1": (r1, (0.0, 1.0, 0.0)),
        "k2": (r1 * kp, (r1 * kp, kp, 0.0)),
        "k2a": (rate, (0.0, 0.0, rate)),
        "k2prime": (kp, (kp, 0.0, 0.0)),
    }
    which = np.array([0, 1 + 2 * i, 2 + 2 * i])
    cut = covariance[np.ix_(which, which)]
    estimates = [_estimate(n, v, np.array(d), cut) for n, (v, d) in parts.items()]
    source = "Wu and Carson 2002, doi:10.1097/01.WCB.0000033967.83623.34"
    return _result("SRTM2", p, estimates, curves[i], SRTM2_BIAS, source, float(rate), settings=settings)


def _result(
    method: str,
    p: Prepared,
    estimates: Sequence[Estimate],
    fitted: Array,
    bias: str,
    source: str,
    rate: float,
    more: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
) -> PetResult:
    curve = p.tissue.curve
    warnings = list(more)
    if rate < 2 * SLOWEST or rate > 0.5 * FASTEST:
        warnings.append(f"k2a = {rate:.3g} 1/min is at its bound: BPND is not determined by these data")
    loose = [e.name for e in estimates if e.se > 0.5 * abs(e.value)]
    if loose:
        warnings.append(f"standard error above half of the value: {', '.join(loose)}")
    points = Points(
        p.tissue.t, p.tissue.t, p.tissue.value, fitted, p.counted, p.tissue.variance, "time [min]", f"C [{curve.unit}]"
    )
    return PetResult(
        method=method, subject=curve.subject, region=curve.region, estimates=tuple(estimates), points=points,
        reference=source, bias=bias, settings=(*settings, *p.settings), notes=p.notes, warnings=tuple(warnings),
    )  # fmt: skip
