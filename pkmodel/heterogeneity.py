"""A tumour as sub-regions that differ in blood flow and antigen, and the dose that counts when dose is uneven.

`split` writes one tumour of a model as n regions of equal volume. Flow and antigen are log-normal over them, may be
correlated, and keep their means, so that the whole has the flow and the antigen it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import sympy as sp
from numpy.typing import ArrayLike

from .errors import DoseError, ModelError, did_you_mean
from .expressions import symbol
from .model import Model, Parameter
from .parts import Observable

_GOLDEN = 0.6180339887498949  # of a lattice that fills the square evenly
_ADDITIVE = ("Q", "L", "Q_out", "V", "Vp", "Vi_acc")  # of the whole: the sum over its regions


def factors(n: int, cv: Mapping[str, float], correlation: float = 0.0) -> dict[str, npt.NDArray[np.float64]]:
    """What each of n regions of equal volume has of one or two quantities, relative to their means.

    Middles of n equally likely parts of a log-normal; the second quantity's are in the order of a golden lattice, then
    tied to the first by the correlation of the logarithms. Means are exactly one.

    Parameters
    ----------
    n : regions [1]
    cv : coefficient of variation of each quantity, one or two [1]
    correlation : between the logarithms of the two, -1 to 1 [1]

    Raises
    ------
    ModelError
        There is nothing to spread, a spread is negative, or the correlation is none.
    """
    if n < 1 or not 1 <= len(cv) <= 2 or any(not v >= 0.0 for v in cv.values()) or not -1.0 <= correlation <= 1.0:
        raise ModelError(
            f"regions: at least one region, one or two spreads not below zero and a correlation from -1 to 1; found "
            f"{n} regions, {dict(cv)}, correlation {correlation:g}"
        )
    first = (np.arange(n) + 0.5) / n
    second = (np.arange(n) * _GOLDEN + 0.5) % 1.0
    second = (np.argsort(np.argsort(second)) + 0.5) / n  # the same middles, in the lattice's order
    normal = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])
    z = [normal(first)]
    z.append(correlation * z[0] + np.sqrt(1.0 - correlation**2) * normal(second))
    out = {}
    for (name, spread), score in zip(cv.items(), z, strict=False):
        raw = np.exp(np.sqrt(np.log1p(spread**2)) * score)
        out[name] = raw / raw.mean()
    return out


def split(
    model: Model, organ: str = "tumour", *, n: int = 8, cv: Mapping[str, float] | None = None, correlation: float = 0.0
) -> Model:
    """The model with one tumour as n regions named ``<organ>_1`` to ``<organ>_n``.

    Every parameter of the tumour stays and rules all regions: a region's volume is ``V/n``, its flow the tumour's times
    a factor. The observable of the tumour is the sum over regions; each region has its own besides.

    Parameters
    ----------
    model : with an organ of any layers that have V_<organ>, not labelled
    organ : which [text]
    n : regions [1]
    cv : what varies and how much, such as ``{"perfusion": 0.6, "Bmax": 0.8}`` (the default), at most two [1]
    correlation : between the logarithms of the two [1]

    Raises
    ------
    ModelError
        The model has no such organ or parameter, or is labelled.
    """
    who = f"{model.who}: regions of {organ}"
    spread = dict(cv if cv is not None else {"perfusion": 0.6, "Bmax": 0.8})
    if model.nuclide:
        raise ModelError(f"{who}: the model is labelled with {model.nuclide}; split first, label then")
    for name in ("V", *spread):
        if f"{name}_{organ}" not in model.parameters:
            near = did_you_mean(f"{name}_{organ}", model.parameters)
            raise ModelError(f"{who}: no parameter {name}_{organ}{near}")
    times = factors(n, spread, correlation)
    inside = [c for c, part in model.compartments.items() if part.region == organ]
    roots = {"V": np.full(n, 1.0 / n), **times}
    moved = _depend(model, {f"{r}_{organ}" for r in roots}, organ)
    parameters = {
        p: part for p, part in model.parameters.items() if p not in moved or p.removesuffix(f"_{organ}") in roots
    }
    flows = [f for f in model.flows if f.source not in inside and f.target not in inside]
    compartments = {c: part for c, part in model.compartments.items() if c not in inside}
    for k in range(n):
        new = {old: f"{old}_{k + 1}" for old in (*inside, *moved)}
        swap = {symbol(a): symbol(b) for a, b in new.items()}
        for p in moved:
            old = model.parameters[p]
            base = p.removesuffix(f"_{organ}")
            if base in roots:
                share = sp.Rational(1, n) if base == "V" else sp.Rational(round(float(roots[base][k]) * 10**12), 10**12)
                made = replace(old, value=None, formula=symbol(p) * share, cv=None, status="derived")
            else:
                assert old.formula is not None
                made = replace(old, formula=old.formula.xreplace(swap))
            parameters[new[p]] = replace(made, name=new[p])
        for c in inside:
            part = model.compartments[c]
            receptor = None if part.receptor is None else part.receptor.xreplace(swap)
            compartments[new[c]] = replace(
                part, name=new[c], region=f"{organ}_{k + 1}", receptor=receptor, initial=part.initial / n
            )
        for f in model.flows:
            if f.source in inside or f.target in inside:
                carrier = None if f.carrier is None else f.carrier.xreplace(swap)
                source, target = new.get(f.source, f.source), new.get(f.target, f.target)
                flows.append(replace(f, source=source, target=target, rate=f.rate.xreplace(swap), carrier=carrier))
    parameters |= _sums(model, organ, moved, n, parameters)
    return replace(
        model, name=f"{model.name}_regions", compartments=compartments, flows=tuple(flows),
        parameters=parameters, observables=_observed(model, organ, inside, n), checks=(), origin="",
    )  # fmt: skip


def _depend(model: Model, roots: set[str], organ: str) -> list[str]:
    """Parameters of the organ that follow from the roots, the roots first, in the model's order."""
    found = set(roots)
    grew = True
    while grew:
        more = {
            p
            for p, part in model.parameters.items()
            if p not in found
            and p.endswith(f"_{organ}")
            and part.formula is not None
            and {s.name for s in part.formula.free_symbols} & found
        }
        grew = bool(more)
        found |= more
    return [p for p in model.parameters if p in found]


def _sums(model: Model, organ: str, moved: list[str], n: int, kept: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """What others ask of the whole: flows and volumes added up over its regions."""
    used = {s.name for p in kept.values() if p.formula is not None for s in p.formula.free_symbols}
    used |= {s.name for r in model.requirements for s in r.condition.free_symbols}
    used |= {s.name for o in model.observables.values() for s in o.expression.free_symbols}
    out = {}
    for p in moved:
        base = p.removesuffix(f"_{organ}")
        if p in kept or p not in used:
            continue
        parts = sp.Add(*(symbol(f"{p}_{k + 1}") for k in range(n)))
        out[p] = replace(model.parameters[p], formula=parts if base in _ADDITIVE else parts / n)
    return out


def _observed(model: Model, organ: str, inside: list[str], n: int) -> dict[str, Observable]:
    """The model's observables with the tumour as a sum, and one more for each region."""
    whole = {symbol(c): sp.Add(*(symbol(f"{c}_{k + 1}") for k in range(n))) for c in inside}
    out = {m: replace(o, expression=o.expression.xreplace(whole)) for m, o in model.observables.items()}
    if organ in model.observables:
        for k in range(n):
            swap = {symbol(c): symbol(f"{c}_{k + 1}") for c in inside}
            own = model.observables[organ]
            out[f"{organ}_{k + 1}"] = replace(own, name=f"{organ}_{k + 1}", expression=own.expression.xreplace(swap))
    return out


def _doses(doses: ArrayLike, volumes: ArrayLike | None) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    d = np.asarray(doses, dtype=np.float64)
    v = np.ones_like(d) if volumes is None else np.asarray(volumes, dtype=np.float64)
    if d.ndim != 1 or d.shape != v.shape or not d.size or np.any(d < 0.0) or np.any(v < 0.0) or not v.sum() > 0.0:
        raise DoseError(
            f"doses of regions: as many volumes as doses, none below zero; found doses {d.shape}, volumes {v.shape}"
        )
    return d, v / v.sum()


def eud(doses: ArrayLike, alpha: float, volumes: ArrayLike | None = None) -> float:
    """Uniform dose that leaves as many cells alive as these doses do [Gy].

    ``-ln(mean exp(-alpha D))/alpha``: Niemierko A. Med Phys 1997;24:103, doi:10.1118/1.598063.

    Parameters
    ----------
    doses : (n,) array, of the regions [Gy]
    alpha : cell kill per dose [1/Gy]
    volumes : (n,) array, of the regions, any unit; default: all the same

    Raises
    ------
    DoseError
        Doses and volumes do not fit, or alpha is not above zero.
    """
    d, share = _doses(doses, volumes)
    if not alpha > 0.0:
        raise DoseError(f"equivalent uniform dose: alpha must be above zero, found {alpha:g} /Gy")
    least = float(d[share > 0.0].min())  # taken out, so that no term underflows
    return least - float(np.log(np.sum(share * np.exp(-alpha * (d - least)))) / alpha)


def dose_volume(doses: ArrayLike, levels: ArrayLike, volumes: ArrayLike | None = None) -> npt.NDArray[np.float64]:
    """Share of the volume that receives at least each dose: a cumulative dose-volume histogram, (m,) array [1].

    Parameters
    ----------
    doses : (n,) array, of the regions [Gy]
    levels : (m,) array [Gy]
    volumes : (n,) array, of the regions, any unit; default: all the same

    Raises
    ------
    DoseError
        Doses and volumes do not fit.
    """
    d, share = _doses(doses, volumes)
    return np.asarray([(share * (d >= level)).sum() for level in np.atleast_1d(np.asarray(levels, dtype=np.float64))])
