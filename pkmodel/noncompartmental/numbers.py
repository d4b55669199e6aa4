"""The numbers of an analysis from its areas and its terminal slope, and what is said about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..dimensions import multiply
from ..errors import DataError, UnitError
from ..units import dimension, factor, quantity
from .areas import Terminal, at, between, pieces
from .cleaning import Samples
from .result import Value

Array = NDArray[np.float64]
SPAN, EXTRAPOLATED, GOOD_R2, PREDOSE = 2.0, 20.0, 0.9, 5.0  # half-lives, %, 1, % of the peak


@dataclass(frozen=True, slots=True)
class Given:
    """What the user said of one curve; lengths in hours, `tau` NaN for a single dose."""

    unit: str
    dose: str
    route: str
    infusion: float
    tau: float
    method: str
    partial: Sequence[tuple[float, float]]
    who: str


def numbers(s: Samples, fit: Terminal, given: Given) -> list[Value]:
    """Every number of one curve.

    Parameters
    ----------
    s : the samples that count
    fit : the terminal slope
    given : dose, route, method, units

    Raises
    ------
    DataError
        A partial area is no interval, or dose and concentrations make no clearance.
    """
    unit, method, late = given.unit, given.method, given.infusion / 2
    last = int(np.flatnonzero(s.measured)[-1])
    t, c = s.t[: last + 1], s.c[: last + 1]
    area, moment = (float(x.sum()) for x in pieces(t, c, method))
    peak = int(np.argmax(np.where(s.measured, s.c, -1.0)))
    out = [
        Value("cmax", float(s.c[peak]), unit, "highest concentration", "CMAX"),
        Value("tmax", float(s.t[peak]), "h", "its time", "TMAX"),
        Value("tlast", float(t[-1]), "h", "time of the last measurable sample", "TLST"),
        Value("clast", float(c[-1]), unit, "its concentration", "CLST"),
    ]
    if given.route == "bolus":
        out.append(Value("c0", s.c0, unit, f"at time 0, {s.c0_how}", "C0"))
    out += [
        Value("auc_last", area, f"{unit} h", "area to the last measurable sample", "AUCLST"),
        Value("aumc_last", moment, f"{unit} h2", "its first moment", "AUMCLST"),
    ]
    if area:
        out.append(Value("mrt_last", moment / area - late, "h", "mean residence time to that sample", "MRTLST"))
    if not fit.why:
        out += [
            Value("lambda_z", fit.rate, "1/h", f"terminal slope, {fit.t.size} samples from {fit.t[0]:g} h", "LAMZ"),
            Value("half_life", fit.half_life, "h", "terminal half-life", "LAMZHL"),
            Value("r2_adjusted", fit.adjusted_r2, "1", "of the terminal line", "R2ADJ"),
            Value("points", float(fit.t.size), "1", "samples in it", "LAMZNPT"),
            Value("span", fit.span, "1", "half-lives they cover", "LAMZSPN"),
        ]
    if math.isnan(given.tau):
        out += _to_infinity(s, fit, given, t, c, area, moment)
    else:
        out += _steady(fit, given, t, c, area)
    for a, b in given.partial:
        if not 0 <= a < b:
            raise DataError(f"{given.who}: partial area from {a:g} to {b:g} h; allowed: from zero or above to later")
        value = between(t, c, a, b, method, fit.rate)
        out.append(Value(f"auc_{a:g}_{b:g}", value, f"{unit} h", f"area from {a:g} to {b:g} h", "AUCINT"))
    return out + (_cleared(given, fit, out) if given.dose else [])


def _to_infinity(
    s: Samples, fit: Terminal, given: Given, t: Array, c: Array, area: float, moment: float
) -> list[Value]:
    """What is beyond the last sample of a single dose."""
    if fit.why:
        return []
    unit, rate, tlast, clast = given.unit, fit.rate, float(t[-1]), float(c[-1])
    predicted = float(fit.line(np.array([tlast]))[0])
    inf = area + clast / rate
    first = moment + clast * tlast / rate + clast / rate**2
    absorbed = " with mean absorption time" if given.route == "extravascular" else ""
    out = [
        Value("auc_inf", inf, f"{unit} h", "area to infinity, from the last measured value", "AUCIFO"),
        Value("auc_inf_predicted", area + predicted / rate, f"{unit} h", "the same from the terminal line", "AUCIFP"),
        Value("extrapolated", 100 * (inf - area) / inf, "%", "of the area to infinity", "AUCPEO"),
        Value("aumc_inf", first, f"{unit} h2", "first moment to infinity", "AUMCIFO"),
        Value("mrt", first / inf - given.infusion / 2, "h", f"mean residence time{absorbed}", "MRTIFO"),
    ]
    if given.route == "bolus":
        back = float(pieces(t[:2], c[:2], given.method)[0][0]) if not s.measured[0] and t.size > 1 else 0.0
        out.append(Value("back_extrapolated", 100 * back / inf, "%", "of the area, before the first sample", "AUCPBEO"))
    return out


def _steady(fit: Terminal, given: Given, t: Array, c: Array, area_last: float) -> list[Value]:
    """What an interval in steady state says; its area is that of a single dose to infinity.

    By superposition, the moments of a single dose fold into one interval:
    MRT = (AUMC(0..tau) + tau AUC(tau..infinity))/AUC(0..tau) (Gabrielsson and Weiner 2016, ch. 2).
    """
    unit, tau, rate = given.unit, given.tau, fit.rate
    area = between(t, c, 0.0, tau, given.method, rate)
    inside = t < tau
    grid = np.concatenate([t[inside], [tau]])
    values = np.concatenate([c[inside], [at(t, c, tau, given.method, rate)]])
    average, low, high = area / tau, float(values.min()), float(values.max())
    out = [
        Value("auc_tau", area, f"{unit} h", f"area over the interval of {tau:g} h", "AUCTAU"),
        Value("c_average", average, unit, "average over it", "CAVG"),
        Value("cmin", low, unit, "lowest in it", "CMIN"),
        Value("fluctuation", 100 * (high - low) / average, "%", "(highest - lowest)/average", "FLUCP"),
    ]
    if not fit.why:
        moment = float(pieces(grid, values, given.method)[1].sum())
        beyond = area_last + float(c[-1]) / rate - area
        mean = (moment + tau * beyond) / area - given.infusion / 2
        out += [
            Value("accumulation", 1 / -math.expm1(-rate * tau), "1", "1/(1 - exp(-lambda_z tau))", "AILAMZ"),
            Value("mrt", mean, "h", "mean residence time, from one interval", "MRTIFO"),
        ]
    return out


def _cleared(given: Given, fit: Terminal, values: Sequence[Value]) -> list[Value]:
    """Clearance and volumes; apparent ones where the fraction absorbed is not known."""
    dose, unit, who = given.dose, given.unit, given.who
    try:
        found = quantity(dose, f"{who}: dose")
    except UnitError as error:
        raise DataError(str(error)) from None
    if multiply(dimension(unit), dimension("L")) != found.dimension:
        raise DataError(
            f"{who}: a dose of {dose!r} and concentrations in {unit!r} do not make a clearance in L/h; give both in "
            "mass, both in amount or both in activity"
        )
    if not found.value > 0:
        raise DataError(f"{who}: dose {dose!r}; allowed: above zero")
    known = {v.name: v.value for v in values}
    area = known.get("auc_inf", known.get("auc_tau", math.nan))
    if math.isnan(area):
        return []
    cl = found.value / (area * factor(unit))
    f, of = ("_f", " over the fraction absorbed") if given.route == "extravascular" else ("", "")
    out = [Value(f"cl{f}", cl, "L/h", f"clearance{of}: dose/area", "CLFO" if f else "CLO")]
    if fit.why:
        return out
    out.append(Value(f"vz{f}", cl / fit.rate, "L", f"terminal volume{of}", "VZFO" if f else "VZO"))
    if not f:
        out.append(Value("vss", cl * known["mrt"], "L", "volume at steady state: clearance x MRT", "VSSO"))
    return out


def judge(s: Samples, fit: Terminal, given: Given, values: Sequence[Value]) -> list[str]:
    """What a reader must know, in words."""
    said = []
    known = {v.name: v.value for v in values}
    peak = int(np.argmax(np.where(s.measured, s.c, -1.0)))
    first = int(np.flatnonzero(s.measured)[0])
    if fit.why:
        said.append(f"no terminal slope: {fit.why}; nothing is extrapolated")
    else:
        if fit.adjusted_r2 < GOOD_R2:
            said.append(f"the terminal line fits badly: adjusted r2 below {GOOD_R2:g}")
        if fit.span < SPAN:
            said.append(f"the terminal samples cover fewer than {SPAN:g} half-lives: the half-life is uncertain")
    if known.get("extrapolated", 0.0) > EXTRAPOLATED:
        said.append(f"more than {EXTRAPOLATED:g} % of the area is extrapolated: clearance and volumes are uncertain")
    if known.get("back_extrapolated", 0.0) > EXTRAPOLATED:
        said.append(f"more than {EXTRAPOLATED:g} % of the area lies before the first sample")
    if given.route == "bolus" and s.c0_how.startswith("the first"):
        said.append(f"C0 is {s.c0_how}")
    if given.route == "extravascular" and peak == first and s.t[peak] > 0:
        said.append("the first measurable sample is the highest: the peak may have come earlier")
    single = math.isnan(given.tau)
    if single and given.route != "bolus" and first == 0 and s.t[0] == 0 and 100 * s.c[0] > PREDOSE * s.c[peak]:
        said.append(f"the sample at the dose is above {PREDOSE:g} % of the highest: left of an earlier dose?")
    if not single and known["tlast"] < given.tau:
        said.append("the last sample lies before the end of the interval: the rest of its area is extrapolated")
    return said
