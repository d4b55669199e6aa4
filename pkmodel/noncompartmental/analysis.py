"""The verb `nca`: what a concentration curve says without a model.

Definitions as in Gabrielsson J, Weiner D. Pharmacokinetic and Pharmacodynamic Data Analysis, 5th ed., 2016, ch. 2, and
as Phoenix WinNonlin reports them; tested against its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from ..data import Curves, Study
from ..errors import DataError, UnitError
from ..formats.curve import Curve
from ..units import dimension, quantity
from .areas import METHODS, Terminal, terminal
from .cleaning import Samples, clean
from .numbers import Given, judge, numbers
from .result import NCA, NCAStudy

Route = Literal["bolus", "infusion", "extravascular"]
ROUTES = ("bolus", "infusion", "extravascular")


@overload
def nca(times: Curves | Study, concentrations: None = None, **words: Any) -> NCAStudy: ...


@overload
def nca(times: npt.ArrayLike | Curve, concentrations: npt.ArrayLike | None = None, **words: Any) -> NCA: ...


def nca(  # type: ignore[misc]  # the two above leave the words to this one
    times: npt.ArrayLike | Curve | Curves | Study,
    concentrations: npt.ArrayLike | None = None,
    *,
    unit: str = "",
    dose: str = "",
    route: Route | None = None,
    infusion: str = "",
    tau: str = "",
    method: str = METHODS[0],
    lloq: float | None = None,
    blq: Mapping[str, str] | None = None,
    points: int | None = None,
    partial: Sequence[tuple[float, float]] = (),
    time_unit: str = "h",
    after: Literal["only", "first", "last"] = "only",
    regions: Sequence[str] | None = None,
) -> NCA | NCAStudy:
    """Analyse concentrations without a model: areas, terminal half-life, clearance, volumes, residence time.

    Parameters
    ----------
    times : (n,) array, after the dose; or a Curve, the Curves of a subject, a Study (their doses are used) [time_unit]
    concentrations : (n,) array [unit]
    unit : of the concentrations, such as "mg/L"; a Curve has its own [text]
    dose : such as "320 mg"; without it there is no clearance and no volume [text]
    route : must be said; a regimen with an infusion says it itself
    infusion : how long it ran, such as "30 min" [text]
    tau : interval of a steady state, such as "12 h": areas over it give the clearance [text]
    method : "linear-up log-down" or "linear" [text]
    lloq : limit of quantification [unit]
    blq : what samples below it count as: for "first", "middle", "last" one of "zero", "drop", "half", "limit";
        default zero, drop, drop
    points : number of last samples for the terminal slope; default the best adjusted r2 of 3 or more after the peak
        (with the peak after a bolus) [1]
    partial : (start, end) of further areas [h]
    time_unit : of bare times [text]
    after : of a regimen with several doses: "first" (until the second) or "last" [text]
    regions : which of Curves; default all in plasma and blood [text]

    Returns
    -------
    NCA
        For arrays and a Curve.
    NCAStudy
        For Curves and a Study: what cannot be analysed is in ``failed``, with the reason.

    Raises
    ------
    DataError
        The data or the words do not make sense; the message says what is allowed.

    Examples
    --------
    >>> one = pk.nca([0, 1, 2, 4, 8], [0, 9.1, 7.4, 5.0, 2.2], unit="mg/L", dose="320 mg", route="extravascular")
    >>> one["half_life"], one.value("cl_f")
    """
    words: dict[str, Any] = {
        "dose": dose, "route": route, "infusion": infusion, "tau": tau, "method": method, "lloq": lloq,
        "blq": blq or {}, "points": points, "partial": tuple(partial),
    }  # fmt: skip
    if isinstance(times, Study | Curves):
        found, failed = [], []
        for one in times if isinstance(times, Study) else [times]:
            named = one.regions if isinstance(times, Curves) and regions else tuple(regions or ())
            for curve in one.select(regions) if regions else [c for c in one if c.kind in ("plasma", "blood")]:
                try:
                    found.append(_of_curve(curve, one, words, after))
                except DataError as error:
                    failed.append((f"{one.subject} {curve.region}", str(error)))
            if not len(one) or (not named and not any(c.kind in ("plasma", "blood") for c in one)):
                failed.append((one.subject, "has no curve in plasma or blood; say regions="))
        if not found and failed:
            raise DataError(f"nothing could be analysed; {failed[0][0]}: {failed[0][1]}")
        return NCAStudy(tuple(found), tuple(failed))
    if isinstance(times, Curve):
        return _of_curve(times, None, words, after)
    if concentrations is None:
        raise DataError("nca: give times and concentrations, a Curve, Curves or a Study")
    if not unit:
        raise DataError("nca: the unit of the concentrations is not said; say unit='mg/L'")
    try:
        t, c = np.asarray(times, dtype=float), np.asarray(concentrations, dtype=float)
    except (TypeError, ValueError):
        raise DataError(
            "nca: times or concentrations are not numbers; give two lists of numbers; their units go into time_unit "
            "and unit"
        ) from None
    t = t * _hours(f"1 {time_unit}", "nca: time_unit")
    if t.ndim != 1 or t.shape != c.shape or not t.size:
        raise DataError(f"nca: {t.size} times and {c.size} concentrations; give as many, at least one")
    return _analyse(t, c, np.zeros(t.size, dtype=np.int8), unit, "", "", words, (), False)


def _of_curve(curve: Curve, one: Curves | None, words: dict[str, Any], after: str) -> NCA:
    """Analyse one curve after the dose that counts."""
    if curve.framed:
        raise DataError(f"{curve.who}: values are averages over frames; an analysis needs samples")
    words, notes = dict(words), []
    start, end, steady = 0.0, math.inf, bool(words["tau"])
    doses = [a for a in one.regimen.administrations if a.given] if one is not None and one.regimen is not None else []
    if len(doses) > 1 and after == "only":
        raise DataError(
            f"{curve.who}: {len(doses)} doses; say after='first' (until the second) or after='last', or tau= in a "
            "steady state"
        )
    if doses:
        a = doses[-1 if after == "last" else 0]
        start = a.time
        end = next((b.time for b in doses if b.time > start), math.inf)
        if a.steady and a.every and not words["tau"]:
            words["tau"], steady = f"{a.every!r} h", True
        words["dose"] = words["dose"] or (f"{1e3 * a.given:.15g} mg" if a.unit == "g" else f"{a.given!r} {a.unit}")
        for what, number in (("rate", a.rate), ("duration", a.duration)):
            if isinstance(number, str) and not words["infusion"]:
                raise DataError(f"{curve.who}: the {what} of the infusion is a parameter, {number}; say infusion=")
        if (a.rate or a.duration) and not words["infusion"]:
            words["infusion"] = f"{a.given / float(a.rate) if a.rate else float(a.duration)!r} h"
        if words["infusion"]:
            words["route"] = words["route"] or "infusion"
        if a.fraction not in (1.0, 1) or a.lag:
            notes.append("the dose counts as given, without its lag and fraction")
    elif one is not None and one.injected_activity and not words["dose"]:
        words["dose"] = f"{one.injected_activity!r} MBq"
    if curve.nuclide and not curve.decay_corrected:
        notes.append("not decay-corrected: half-life and clearance include physical decay")
    use = (curve.t <= end) if start == 0 else (curve.t >= start) & (curve.t <= end)
    if np.isfinite(end) and not steady:
        notes.append(f"samples until the next dose, {end - start:g} h after this one")
    chosen = curve.take(use)
    if not len(chosen):
        raise DataError(f"{curve.who}: no sample between {start:g} and {end:g} h")
    return _analyse(
        chosen.t - start, chosen.value, chosen.censored, curve.unit, curve.subject, curve.region, words, notes, steady
    )


def _hours(text: str, who: str) -> float:
    try:
        found = quantity(text, who)
    except UnitError as error:
        raise DataError(str(error)) from None
    if found.dimension != dimension("h") or not found.value > 0:
        raise DataError(f"{who}: {text!r} is not a time above zero; write for example '12 h'")
    return found.value


def _analyse(
    t: npt.NDArray[np.float64],
    c: npt.NDArray[np.float64],
    censored: npt.NDArray[np.int8],
    unit: str,
    subject: str,
    region: str,
    words: Mapping[str, Any],
    notes: Sequence[str],
    steady: bool,
) -> NCA:
    who = ": ".join(x for x in ("nca", subject, region) if x)
    method, route, infusion = words["method"], words["route"], 0.0
    if method not in METHODS:
        raise DataError(f"{who}: method {method!r} is not known; allowed: {', '.join(METHODS)}")
    if words["infusion"]:
        infusion = _hours(words["infusion"], f"{who}: infusion")
        route = route or "infusion"
    if route not in ROUTES:
        raise DataError(f"{who}: route {route!r}; say one of {', '.join(ROUTES)}")
    if (route == "infusion") != bool(infusion):
        raise DataError(f"{who}: route {route!r} and infusion {words['infusion']!r}; an infusion has both")
    tau = _hours(words["tau"], f"{who}: tau") if words["tau"] else math.nan
    samples = clean(
        t,
        c,
        censored,
        route=route,
        lloq=words["lloq"],
        rules=words["blq"],
        steady=bool(words["tau"]) or steady,
        who=who,
    )
    fit = _slope(samples, route, infusion, words["points"])
    given = Given(unit, words["dose"], route, infusion, tau, method, words["partial"], who)
    values = numbers(samples, fit, given)
    warnings = judge(samples, fit, given, values)
    return NCA(
        subject, region, words["dose"], route, method, unit, tuple(values), samples, fit,
        (*samples.notes, *notes, *warnings),
    )  # fmt: skip


def _slope(s: Samples, route: str, infusion: float, points: int | None) -> Terminal:
    """The terminal slope from measurable samples after the peak and after the end of an infusion."""
    peak = s.t[s.measured][int(np.argmax(s.c[s.measured]))]
    use = s.measured & ((s.t >= peak) if route == "bolus" else (s.t > peak)) & (s.t >= infusion)
    if points is not None:
        if points < 2:
            raise DataError(f"nca: points = {points}; a line needs 2, an r2 3")
        use = s.measured
    return terminal(s.t[use], s.c[use], points)
