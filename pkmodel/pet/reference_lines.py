"""Linear methods with a reference region: Logan and Patlak plots, MRTM1 and MRTM2.

C is the target, CR the reference region, integrals from injection, k2' the rate from reference tissue to plasma:

* reference Logan: ``int C / C = DVR (int CR + CR/k2') / C + b`` from t* on (doi:10.1097/00004647-199609000-00008)
* reference Patlak: ``C / CR = Ki_ref int CR / CR + intercept`` from t* on (doi:10.1038/jcbfm.1985.87)
* MRTM1: ``C = R1 CR + k2 int CR - k2a int C``; MRTM2 with k2' known: ``C = k2 (int CR + CR/k2') - k2a int C``
  (doi:10.1097/01.WCB.0000085441.37552.CA)

Definitions: R1 = K1/K1', k2 = R1 k2', k2a = k2/(1 + BPND). The coefficient of ``int C`` is -k2a, not k2, and MRTM2's R1
is its first coefficient over k2', not over k2a.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError
from ..formats.curve import Curve
from .linear_phase import MAX_DEVIATION, Mask, choose
from .lines import RATE, Errors, Prepared, carried_over, divided_by, ratio_plot, running
from .measured import Mode, see
from .regression import Line, propagated, regress
from .result import Estimate, PetResult, Points

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]
REFERENCE_LOGAN_BIAS = (
    "noise in C, which divides both axes, lowers DVR, the more the higher noise and DVR (PMC2830275); without k2' the "
    "line is reached later. Compare with mrtm1 or srtm"
)
REFERENCE_PATLAK_BIAS = (
    "Ki_ref is too low where tracer leaves the trap again (k4 > 0), and counts trapping in the reference"
)
MRTM_BIAS = (
    "the integral of the noisy C is a regressor, which biases BPND under high noise; R1, k2 and k2a mean what they are "
    "called only where target and reference each behave as one tissue"
)


def prepare_reference(tissue: Curve, reference: Curve, variance: str | ArrayLike | None, mode: Mode | None) -> Prepared:
    """Target and reference in one unit, as the target's frames see them."""
    seen = see(tissue, variance="uniform" if variance is None else variance, mode=mode)
    if reference.kind not in ("tissue", tissue.kind):
        raise FitError(f"{tissue.who}: reference {reference.region} is {reference.kind}; allowed: a tissue curve")
    other = see(reference, mode=seen.mode, nuclide_of=tissue, unit=seen.curve.unit)
    if other.start[0] > seen.end[0] + 1e-6:
        raise FitError(
            f"{tissue.who}: reference {reference.region} begins at {other.start[0]:g} min, the target at "
            f"{seen.start[0]:g} min; both must cover the same time"
        )
    if other.end[-1] < seen.end[-1] - 1e-6:
        raise FitError(
            f"{tissue.who}: reference {reference.region} ends at {other.end[-1]:g} min, the target at {seen.end[-1]:g} "
            "min; both must cover the same time"
        )
    settings = (f"reference {reference.region}", f"{seen.mode} values")
    notes = tuple(dict.fromkeys([*seen.notes, *other.notes]))
    return Prepared(seen, seen.signal(), other.signal(), settings, notes, np.isfinite(seen.variance))


def check_k2prime(k2prime: float | None, who: str) -> None:
    """k2' must be a rate where it is given."""
    if k2prime is not None and not (np.isfinite(k2prime) and k2prime > 0):
        raise FitError(f"{who}: k2prime={k2prime!r}; allowed: a rate above zero in 1/min, from mrtm1 or srtm")


def reference_logan(
    tissue: Curve,
    reference: Curve,
    k2prime: float | None = None,
    *,
    t_star: float | str = "auto",
    frames: int | None = None,
    variance: str | ArrayLike | None = None,
    errors_in: Errors = "residual",
    mode: Mode | None = None,
    max_deviation: float = MAX_DEVIATION,
) -> PetResult:
    """Logan's plot with a reference region: DVR and BPND (doi:10.1097/00004647-199609000-00008).

    Parameters
    ----------
    tissue, reference : curves of the target and of a region without specific binding
    k2prime : rate from reference tissue to plasma, from `mrtm1` or `srtm` of a region rich in targets; None leaves
        its term out, which is right where CR/C is constant [1/min]
    t_star, frames, variance, errors_in, mode, max_deviation : as for `pkmodel.pet.logan`; noise of the reference is
        not counted

    Raises
    ------
    FitError, DataError
        Too few points, or curves that do not fit together.
    """
    check_k2prime(k2prime, tissue.who)
    p = prepare_reference(tissue, reference, variance, mode)
    c, area = p.tissue.value, p.tissue.of(p.own, 1)
    drive = p.tissue.of(p.plasma, 1)
    term = "without k2'" if k2prime is None else f"k2' {k2prime:g} 1/min fixed"
    if k2prime is not None:
        drive = drive + p.tissue.of(p.plasma) / k2prime
    carry = None if variance is None else carried_over(p.tissue, c, area, drive, errors_in)
    return ratio_plot(
        "reference Logan plot", p, area, drive, c, carry, (t_star, frames, max_deviation),
        ("DVR", "1", "distribution volume ratio"), ("intercept", "min", "intercept of the line"),
        ("int CR / C [min]" if k2prime is None else "(int CR + CR/k2') / C [min]", "int C / C [min]"),
        REFERENCE_LOGAN_BIAS, "Logan 1996, doi:10.1097/00004647-199609000-00008",
        more=_binding, settings=(term,),
    )  # fmt: skip


def _binding(line: Line) -> tuple[Estimate, ...]:
    value, se = float(line.coefficients[0]) - 1.0, line.error(np.array([1.0, 0.0]))
    return (Estimate("BPND", value, se, "1", "binding potential, DVR - 1"),)


def reference_patlak(
    tissue: Curve,
    reference: Curve,
    *,
    t_star: float | str = "auto",
    frames: int | None = None,
    variance: str | ArrayLike | None = None,
    mode: Mode | None = None,
    max_deviation: float = MAX_DEVIATION,
) -> PetResult:
    """Patlak's plot with a reference region: relative influx (doi:10.1038/jcbfm.1985.87).

    Parameters are those of `reference_logan`.

    Raises
    ------
    FitError, DataError
        Too few points, or curves that do not fit together.
    """
    p = prepare_reference(tissue, reference, variance, mode)
    cr = p.tissue.of(p.plasma)
    carry = None if variance is None else divided_by(cr)
    return ratio_plot(
        "reference Patlak plot", p, p.tissue.value, p.tissue.of(p.plasma, 1), cr, carry,
        (t_star, frames, max_deviation), ("Ki_ref", RATE, "influx relative to the reference, k2 k3/(k2 + k3)"),
        ("intercept", "1", "intercept of the line"), ("int CR / CR [min]", "C / CR"),
        REFERENCE_PATLAK_BIAS, "Patlak and Blasberg 1985, doi:10.1038/jcbfm.1985.87",
    )  # fmt: skip


def mrtm1(
    tissue: Curve,
    reference: Curve,
    *,
    t_star: float | str | None = None,
    frames: int | None = None,
    variance: str | ArrayLike = "uniform",
    mode: Mode | None = None,
    max_deviation: float = MAX_DEVIATION,
) -> PetResult:
    """Multilinear reference tissue model, three terms: BPND, k2', R1, k2, k2a (doi:10.1097/01.WCB.0000085441.37552.CA).

    Parameters are those of `reference_logan`; t_star is 0 (all frames) unless it or `frames` is given, and from a later
    t* on only BPND and k2' are reported, since R1, k2 and k2a need the model to hold from the start.

    Raises
    ------
    FitError, DataError
        Too few points, or curves that do not fit together.
    """
    p = prepare_reference(tissue, reference, variance, mode)
    of = p.tissue.of
    columns = np.column_stack([of(p.plasma, 1), of(p.own, 1), of(p.plasma)])
    return _mrtm("MRTM1", p, columns, None, (t_star, frames, max_deviation))


def mrtm2(
    tissue: Curve,
    reference: Curve,
    k2prime: float,
    *,
    t_star: float | str | None = None,
    frames: int | None = None,
    variance: str | ArrayLike = "uniform",
    mode: Mode | None = None,
    max_deviation: float = MAX_DEVIATION,
) -> PetResult:
    """MRTM with k2' known: BPND, R1, k2 and k2a from two terms (doi:10.1097/01.WCB.0000085441.37552.CA).

    Parameters are those of `mrtm1`; k2prime comes from `mrtm1` or `srtm` of a region rich in targets [1/min].

    Raises
    ------
    FitError, DataError
        Too few points, curves that do not fit together, or a k2' that is no rate.
    """
    check_k2prime(k2prime, tissue.who)
    p = prepare_reference(tissue, reference, variance, mode)
    of = p.tissue.of
    columns = np.column_stack([of(p.plasma, 1) + of(p.plasma) / k2prime, of(p.own, 1)])
    return _mrtm("MRTM2", p, columns, k2prime, (t_star, frames, max_deviation))


def _mrtm(
    method: str, p: Prepared, columns: Array, k2prime: float | None, where: tuple[float | str | None, int | None, float]
) -> PetResult:
    curve, y = p.tissue.curve, p.tissue.value
    who, size = f"{method} of {curve.who}", columns.shape[1]

    def solve(used: Mask) -> Line:
        return regress(columns, y, np.where(used, p.tissue.variance, np.inf), who)

    t_star, frames, max_deviation = where
    if t_star is None:
        t_star = 0.0 if frames is None else "auto"
    usable = p.counted & (p.tissue.t > 0)
    found = choose(solve, p.tissue.t, y, usable, t_star=t_star, frames=frames, max_deviation=max_deviation, who=who)
    g1, g2 = found.line.coefficients[:2]
    weighting = np.where(found.used, p.tissue.variance, np.inf)
    through = np.eye(y.size) - g2 * running(p.tissue)
    line = propagated(found.line, columns, y, weighting, through, p.tissue.variance)
    g3 = found.line.coefficients[2] if k2prime is None else g1 / k2prime

    def of(name: str, value: float, slope: list[float], unit: str, meaning: str) -> Estimate:
        return Estimate(name, float(value), line.error(np.array(slope[:size])), unit, meaning)

    estimates = [of("BPND", -g1 / g2 - 1, [-1 / g2, g1 / g2**2, 0.0], "1", "binding potential")]
    if k2prime is None:
        estimates.append(of("k2prime", g1 / g3, [1 / g3, 0.0, -g1 / g3**2], RATE, "k2', reference tissue to plasma"))
    else:
        estimates.append(Estimate("k2prime", k2prime, 0.0, RATE, "k2', reference tissue to plasma"))
    all_used = bool(np.all(found.used == usable))
    notes = list(p.notes)
    if all_used:
        estimates += [
            of("R1", g3, [0.0, 0.0, 1.0] if k2prime is None else [1 / k2prime, 0.0], "1", "relative delivery K1/K1'"),
            of("k2", g1, [1.0, 0.0, 0.0], RATE, "rate from target tissue to plasma, R1 k2'"),
            of("k2a", -g2, [0.0, -1.0, 0.0], RATE, "apparent rate to plasma, k2/(1 + BPND)"),
        ]
    else:
        notes.append("R1, k2 and k2a are not reported: they need the model to hold from the first frame on")
    term = () if k2prime is None else (f"k2' {k2prime:g} 1/min fixed",)
    points = Points(
        p.tissue.t,
        p.tissue.t,
        y,
        found.line.predicted,
        found.used,
        p.tissue.variance,
        "time [min]",
        f"C [{curve.unit}]",
    )
    return PetResult(
        method=method, subject=curve.subject, region=curve.region, estimates=tuple(estimates), points=points,
        reference="Ichise 2003, doi:10.1097/01.WCB.0000085441.37552.CA", bias=MRTM_BIAS,
        t_star=float("nan") if all_used else found.t_star,
        settings=(*term, *(() if all_used else (found.words,)), *p.settings), notes=tuple(notes),
        warnings=(found.warning,) if found.warning else (),
    )  # fmt: skip
