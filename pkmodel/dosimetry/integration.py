"""From a fit, an average of fits, or a run to time-integrated activity, from zero to infinity.

The integral of a fitted linear model is exact: -C A^-1 x0, no trapezoid and no tail rule. Because `label` adds decay
to every compartment and biological rates are not negative, no tail is ever slower than physical decay. How much of
the integral lies after the last measurement is reported, and flagged above a fifth (MIRD pamphlet 21,
doi:10.2967/jnumed.108.056036; EANM guidance, doi:10.1007/s00259-018-4136-7).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DoseError, SimulationError
from ..inference.bayes.posterior import BayesFit
from ..inference.compare import Comparison
from ..inference.likelihood import Block
from ..inference.result import Fit
from ..nuclides import nuclide
from ..parts import VOIDED
from ..simulation import prepare
from ..solve.status import Status
from ..units import dimension
from .result import TIA

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]
FAR = 0.2  # extrapolated fraction above which a result is flagged
_HALF_LIVES = 25  # horizon of a nonlinear model after the last measurement; what is left is below 3e-8


@dataclass(frozen=True)
class _Region:
    """One organ of a fit: TIA and kinetics at the estimates and for each draw."""

    name: str
    point: float
    draws: Array  # (d,)
    rate_point: Array  # (terms,)
    share_point: Array
    rate: Array  # (d, terms)
    share: Array
    extrapolated: float
    notes: tuple[str, ...] = ()


def integrate(
    source: Fit | BayesFit | Comparison | xr.Dataset, *, draws: int = 1000, seed: int = 0, nuclide_name: str = ""
) -> TIA:
    """Integrate activity over all time.

    Parameters
    ----------
    source : a fit; a posterior, whose draws are used; a comparison (averaged over its models by Akaike weight); or a
        result of `simulate`
    draws : draws of the estimates [1]
    seed : of the draws [1]
    nuclide_name : of a run with daughters: whose activity, ``"Bi-213"``; default the nuclide that was given [text]

    Returns
    -------
    TIA
        Per organ [MBq h], with draws, effective rates and the fraction extrapolated.

    Raises
    ------
    DoseError
        The model has no activity in MBq (label it), is driven by an input that ends, or never dies out.
    """
    if nuclide_name and isinstance(source, Fit | BayesFit | Comparison):
        raise DoseError(f"nuclide_name={nuclide_name!r}: a fit knows its own nuclide only; simulate the chain")
    if isinstance(source, Fit | BayesFit):
        return _of_fit(source, draws, seed)
    if isinstance(source, Comparison):
        return _average(source, draws, seed)
    return _of_run(source, nuclide_name)


def _of_fit(fit: Fit | BayesFit, draws: int, seed: int) -> TIA:
    if fit.likelihood.blocks[0].problem.inputs:
        raise DoseError(
            f"{fit.model.name} is driven by a measured input, which ends: its integral to infinity is not known; use a "
            "model that is given the injection"
        )
    if not fit.model.nuclide:
        raise DoseError(f"{fit.model.name} is not labelled, so its activity never decays; fit a labelled model")
    x = fit.draws_on_scale(draws, seed) if draws and np.all(np.isfinite(fit.covariance)) else fit.x[None, :]
    regions = [r for b in fit.likelihood.blocks for r in _block(fit, b, x)]
    notes = [n for r in regions for n in r.notes]
    if x.shape[0] == 1:
        notes.append("no uncertainty of the fit: there is no degree of freedom to estimate an error from")
    return _assemble(regions, fit, f"exact integral of {fit.model.name}", (*fit.warnings, *dict.fromkeys(notes)))


def _block(fit: Fit | BayesFit, block: Block, x: Array) -> list[_Region]:
    """TIA of every tissue region of one block."""
    names = list(fit.model.observables)
    out = []
    for observer in block.observers:
        curve = observer.curve
        if curve.kind != "tissue":  # a field of view, blood or excreta has no dose of its own
            continue
        observable = fit.model.observables[names[observer.observable]]
        if dimension(observable.unit) != dimension("MBq"):
            raise DoseError(
                f"{fit.model.name}: observable {observable.name} is in {observable.unit}, not an activity; a TIA needs "
                "MBq: multiply by the organ's volume or observe an amount"
            )
        last = float(curve.t_end.max())
        if block.problem.compiled.linear:
            out.append(_linear(fit, block, observer.observable, curve.region, last, x))
        else:
            out.append(_nonlinear(fit, block, observer.observable, curve.region, last, x))
    if not out:
        raise DoseError(f"none of {', '.join(fit.likelihood.regions)} is an organ that can be integrated")
    return out


def _linear(fit: Fit | BayesFit, block: Block, observable: int, region: str, last: float, x: Array) -> _Region:
    compiled = block.problem.compiled
    n = compiled.compartments
    decay = nuclide(fit.model.nuclide).decay_constant
    rows = np.vstack([fit.x[None, :], x])
    tia, rates, shares = np.empty(len(rows)), np.empty((len(rows), n)), np.empty((len(rows), n))
    doses = block.problem._doses
    if any(time != 0.0 or duration != 0.0 for time, _, _, duration in doses):
        raise DoseError(f"{region}: only a bolus at time zero can be integrated from a fit")
    matrices, starts, reads = [], [], []
    for row in rows:
        p = block.parameters(fit._slot_values(row))
        a, _, _ = compiled.matrices(p)
        given = compiled.entries(p)
        start = compiled.initial(p) + sum(amount * given[route] for _, route, amount, _ in doses)
        matrices.append(a[:n, :n])
        reads.append(a[n + observable, :n])
        starts.append(start[:n])
    a_all, c_all, x_all = np.array(matrices), np.array(reads), np.array(starts)
    try:
        tia = -np.einsum("dn,dn->d", c_all, np.linalg.solve(a_all, x_all[..., None])[..., 0])
    except np.linalg.LinAlgError:
        tia = np.full(len(rows), math.nan)
    if not np.all(np.isfinite(tia)):
        raise DoseError(f"{region}: activity reaches a compartment of {fit.model.name} that it never leaves")
    rates, shares = _exponentials(a_all, c_all, x_all, tia)
    notes = []
    if np.all(np.isfinite(rates)) and np.any(rates < decay * (1 - 1e-9)):
        notes.append(f"{region}: an effective rate is slower than physical decay; a biological rate must be negative")
    if not np.all(np.isfinite(rates[0])):
        notes.append(f"{region}: its kinetics are not a sum of exponentials, so no BED can be computed")
    tail = _tail(block, fit, observable, last, float(tia[0]))
    return _Region(
        region, float(tia[0]), tia[1:], rates[0], shares[0], rates[1:], shares[1:], tail, (*notes, *_far(region, tail))
    )


def _exponentials(a: Array, c: Array, x0: Array, tia: Array) -> tuple[Array, Array]:
    """Rates and shares of the integral of c exp(a t) x0, (d, n) each; nan where they are not real."""
    value, vectors = np.linalg.eig(a)
    with np.errstate(all="ignore"):
        right = np.full(x0.shape, np.nan, dtype=vectors.dtype)
        sound = np.linalg.cond(vectors) < 1e12
        if np.any(sound):
            right[sound] = np.linalg.solve(vectors[sound], x0[sound][..., None])[..., 0]
        amplitude = np.einsum("dn,dnk->dk", c.astype(vectors.dtype), vectors) * right
        share = amplitude / -value / tia[:, None]
        real = np.all(np.abs(np.imag(value)) <= 1e-9 * np.abs(np.real(value)), axis=1) & sound
    rates, shares = -np.real(value), np.real(share)
    rates[~real], shares[~real] = np.nan, np.nan
    return np.asarray(rates, dtype=float), np.asarray(shares, dtype=float)


def _tail(block: Block, fit: Fit | BayesFit, observable: int, last: float, total: float) -> float:
    """Fraction of the integral after the last measurement."""
    problem = prepare(block.problem.model, block.problem.regimen, [0.0, last])
    solution = problem.solve(block.parameters(fit._slot_values(fit.x)))
    return float(1.0 - solution.integrals[observable, -1] / total) if total > 0 else math.nan


def _far(region: str, tail: float) -> tuple[str, ...]:
    if not tail > FAR:
        return ()
    return (f"{region}: {100 * tail:.0f} % of the integral lies after the last measurement; a later scan would help",)


def _nonlinear(fit: Fit | BayesFit, block: Block, observable: int, region: str, last: float, x: Array) -> _Region:
    """TIA by running the model until nothing is left; saturable kinetics have no fixed exponentials."""
    horizon = last + _HALF_LIVES * nuclide(fit.model.nuclide).half_life
    problem = prepare(block.problem.model, block.problem.regimen, [0.0, last, horizon])
    values = []
    for row in np.vstack([fit.x[None, :], x]):
        solution = problem.solve(block.parameters(fit._slot_values(row)))
        if solution.status != Status.OK:
            raise DoseError(f"{region}: {fit.model.name} could not be run to the end: {solution.message}")
        values.append(solution.integrals[observable, 1:])
    table = np.array(values)
    tail = float(1.0 - table[0, 0] / table[0, 1])
    unknown = np.full(1, math.nan)
    note = f"{region}: saturable kinetics are not a sum of exponentials, so no BED can be computed"
    return _Region(
        region, float(table[0, 1]), table[1:, 1], unknown, unknown, np.full((len(x), 1), math.nan),
        np.full((len(x), 1), math.nan), tail, (note, *_far(region, tail)),
    )  # fmt: skip


def _assemble(regions: Sequence[_Region], fit: Fit | BayesFit, method: str, notes: tuple[str, ...]) -> TIA:
    terms = max(r.rate_point.size for r in regions)

    def pad(values: Array, fill: float) -> Array:
        width = [(0, 0)] * (values.ndim - 1) + [(0, terms - values.shape[-1])]
        return np.pad(values, width, constant_values=fill)

    injected = fit.curves.injected_activity
    if injected is None:
        raise DoseError(f"{fit.curves.subject}: the injected activity is not stated, so there is no TIA")
    return TIA.from_arrays(
        [r.name for r in regions],
        point=[r.point for r in regions],
        draws=np.array([r.draws for r in regions]),
        rate_point=np.array([pad(r.rate_point, 1.0) for r in regions]),
        share_point=np.array([pad(r.share_point, 0.0) for r in regions]),
        rate=np.array([pad(r.rate, 1.0) for r in regions]),
        share=np.array([pad(r.share, 0.0) for r in regions]),
        extrapolated_fraction=[r.extrapolated for r in regions],
        nuclide=fit.model.nuclide,
        injected_activity=injected,
        method=method,
        study=fit.curves.study,
        subject=fit.curves.subject,
        warnings=notes,
    )


def _average(comparison: Comparison, draws: int, seed: int) -> TIA:
    """Model average: draws from each model in proportion to its weight, the point by its weight."""
    counts = comparison.shares(draws)
    used = [(f, w, n) for f, w, n in zip(comparison.fits, comparison.weights, counts, strict=True) if w > 0]
    parts = [(w, [r for b in f.likelihood.blocks for r in _block(f, b, f.draws_on_scale(n, seed))]) for f, w, n in used]
    whole = sum(w for w, _ in parts)
    regions = []
    for members in zip(*(rs for _, rs in parts), strict=True):
        weights = [w / whole for w, _ in parts]
        point = sum(w * m.point for w, m in zip(weights, members, strict=True))
        terms = max(m.rate_point.size for m in members)
        wide = [_widen(m, terms) for m in members]
        regions.append(
            _Region(
                name=members[0].name,
                point=point,
                draws=np.concatenate([m.draws for m in members]),
                rate_point=np.concatenate([m.rate_point for m in members]),
                share_point=np.concatenate(
                    [w * m.point / point * m.share_point for w, m in zip(weights, members, strict=True)]
                ),
                rate=np.concatenate([m.rate for m in wide]),
                share=np.concatenate([m.share for m in wide]),
                extrapolated=sum(w * m.extrapolated for w, m in zip(weights, members, strict=True)),
                notes=tuple(n for m in members for n in m.notes),
            )
        )
    names = ", ".join(f"{f.model.name} {w:.2f}" for f, w, _ in used)
    notes = dict.fromkeys([*comparison.notes, *(n for f, _, _ in used for n in f.warnings)])
    notes |= dict.fromkeys(n for r in regions for n in r.notes)
    return _assemble(regions, used[0][0], f"average over models by Akaike weight: {names}", tuple(notes))


def _widen(region: _Region, terms: int) -> _Region:
    from dataclasses import replace

    extra = terms - region.rate.shape[1]
    return replace(
        region,
        rate=np.pad(region.rate, ((0, 0), (0, extra)), constant_values=1.0),
        share=np.pad(region.share, ((0, 0), (0, extra)), constant_values=0.0),
    )


def _of_run(run: xr.Dataset, wanted: str) -> TIA:
    """TIA of a simulation: its own integral and, after its end, physical decay alone (an upper bound of the tail).

    After the end of a run a daughter is taken to decay with what feeds it, the nuclide that was given, where that lives
    longer.
    """
    given = str(run.attrs.get("nuclide", ""))
    if not given:
        raise DoseError("this run is of a model without a label, so its activity never decays: label it first")
    name = nuclide(wanted).name if wanted else given
    decay = min(nuclide(name).decay_constant, nuclide(given).decay_constant)
    seen = [v for v in run.data_vars if f"integral_{v}" in run]
    active = [v for v in seen if dimension(run[v].attrs["units"]) == dimension("MBq") and v not in VOIDED]
    organs = [v for v in active if run[v].attrs.get("nuclide", given) == name]
    daughters = sorted({run[v].attrs.get("nuclide", given) for v in active if v not in organs})
    if not organs:
        raise DoseError(
            f"no observable of {run.attrs.get('model')} is an activity of {name} in MBq; of others: "
            f"{', '.join(daughters) or 'none'}"
        )
    inside = np.array([float(run[f"integral_{o}"][-1]) for o in organs])
    tail = np.array([float(run[o][-1]) for o in organs]) / decay
    total = inside + tail
    with np.errstate(invalid="ignore", divide="ignore"):
        beyond = np.where(total > 0, tail / total, 0.0)
    late = [f"{o} {100 * b:.0f} %" for o, b in zip(organs, beyond, strict=True) if b > FAR]
    notes = [f"integral after the end of the run: {', '.join(late)}; a longer run says more"] if late else []
    notes += [w for w in str(run.attrs.get("warnings", "")).split("; ") if w.startswith("unverified")]
    if daughters:
        notes.append(f"of {name} alone: the run's own integrals of {', '.join(daughters)} are not in this TIA")
    suffix = "" if name == given else f"_{name.replace('-', '')}"
    unknown = np.full((len(organs), 1), math.nan)
    return TIA.from_arrays(
        [str(o).removesuffix(suffix) for o in organs],
        point=total,
        draws=total[:, None],
        rate_point=unknown,
        share_point=unknown,
        rate=unknown[:, None, :],
        share=unknown[:, None, :],
        extrapolated_fraction=beyond,
        nuclide=name,
        injected_activity=_given(run),
        method="integral of the run, physical decay after its end",
        given=given if name != given else "",
        warnings=tuple(notes),
    )


def _given(run: Any) -> float:
    given = float(run.attrs.get("given_MBq", 0.0))
    if given <= 0:
        raise SimulationError("this run was given no activity [MBq], so a TIA per injected activity does not exist")
    return given
