"""Graphical and multilinear methods with plasma input: Logan, Patlak, MA1, MA2 and the multilinear Logan equation.

For the tissue curve C, free of blood, and parent plasma Cp (all integrals from injection):

* Logan: ``int C / C = VT int Cp / C + b`` from t* on (doi:10.1038/jcbfm.1990.127)
* Patlak: ``C / Cp = Ki int Cp / Cp + V0`` from t* on (doi:10.1038/jcbfm.1983.1)
* MA1: ``C = -(VT/b) int Cp + (1/b) int C`` from t* on; MA2: the two-tissue model as four linear terms with double
  integrals (doi:10.1097/01.WCB.0000038000.34930.4E)
* multilinear Logan: ``int C = VT int Cp + b C``

Averaged over a frame each of these stays what it is, so terms are averages over frames (see `pkmodel.pet.measured`).
Rates are 1/min; VT and Ki are per volume of tissue without blood where vB is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..formats.curve import Curve
from .linear_phase import MAX_DEVIATION, Mask, choose
from .lines import (
    INFLUX,
    RATE,
    VOLUME,
    Errors,
    Prepared,
    Where,
    accumulated,
    carried_over,
    divided_by,
    prepare,
    ratio_plot,
    running,
)
from .measured import Forcing, Mode
from .regression import Line, propagated, regress
from .result import Estimate, PetResult, Points

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]

LOGAN_BIAS = (
    "noise in C, which divides both axes, lowers VT, the more the higher noise and VT (PMC2830275); an early t* "
    "biases it too. Compare with ma1 or a compartment model"
)
PATLAK_BIAS = (
    "Ki is too low where tracer leaves the tissue again (k4 > 0) and too high where t* is early; noise alone does not "
    "bias it"
)
MA1_BIAS = (
    "less noise bias than Logan's plot, but the integral of the noisy C is still a regressor; VT depends on t* and is "
    "too low where equilibrium is not reached"
)
MA2_BIAS = (
    "needs no t*, but K1, k2, k3 and k4 from four correlated terms are unstable under noise; VT is the robust one"
)


def logan(
    tissue: Curve,
    plasma: Curve | Forcing,
    *,
    t_star: float | str = "auto",
    frames: int | None = None,
    variance: str | ArrayLike | None = None,
    errors_in: Errors = "residual",
    vB: float = 0.0,
    blood: Curve | Forcing | None = None,
    delay: float = 0.0,
    mode: Mode | None = None,
    max_deviation: float = MAX_DEVIATION,
) -> PetResult:
    """Logan's plot: distribution volume VT of a reversible tracer (doi:10.1038/jcbfm.1990.127).

    Parameters
    ----------
    tissue : curve of one region
    plasma : parent tracer in arterial plasma, a Curve or a fitted input
    t_star : first time on the line, or "auto" (see `pkmodel.pet.linear_phase.choose`) [min or text]
    frames : the last so many frames instead of t_star [1]
    variance : None for the ordinary least squares of the original method; otherwise the variance of C, "duration",
        "counts", ... or (n,) array (see `pkmodel.pet.variance.variance_of`), carried over to the plot [unit^2]
    errors_in : with `variance`: errors of C in both axes, "residual", or only in the "ordinate" [text]
    vB : blood fraction of the tissue, needs `blood` [1]
    blood : whole blood
    delay : how much later the tissue sees the blood [min]
    mode : "frame" averages or "midpoint" values; default: frames where there are any [text]
    max_deviation : of points from the line for t_star="auto", relative [1]

    Raises
    ------
    FitError, DataError
        Too few points, or curves that do not fit together; the message says what to change.
    """
    p = prepare(tissue, plasma, variance=variance, vB=vB, blood=blood, delay=delay, mode=mode)
    c, area = p.tissue.value, p.tissue.of(p.own, 1)
    drive = p.tissue.of(p.plasma, 1)
    carry = None if variance is None else carried_over(p.tissue, c, area, drive, errors_in)
    return ratio_plot(
        "Logan plot", p, area, drive, c, carry, (t_star, frames, max_deviation),
        ("VT", VOLUME, "total distribution volume"), ("intercept", "min", "intercept of the line"),
        ("int Cp / C [min]", "int C / C [min]"), LOGAN_BIAS, "Logan 1990, doi:10.1038/jcbfm.1990.127",
    )  # fmt: skip


def patlak(
    tissue: Curve,
    plasma: Curve | Forcing,
    *,
    t_star: float | str = "auto",
    frames: int | None = None,
    variance: str | ArrayLike | None = None,
    vB: float = 0.0,
    blood: Curve | Forcing | None = None,
    delay: float = 0.0,
    mode: Mode | None = None,
    max_deviation: float = MAX_DEVIATION,
) -> PetResult:
    """Patlak's plot: net influx Ki of a tracer that is trapped (doi:10.1038/jcbfm.1983.1).

    Parameters are those of `logan`; the plasma is taken as free of error.

    Raises
    ------
    FitError, DataError
        Too few points, or curves that do not fit together.
    """
    p = prepare(tissue, plasma, variance=variance, vB=vB, blood=blood, delay=delay, mode=mode)
    cp = p.tissue.of(p.plasma)
    carry = None if variance is None else divided_by(cp)
    return ratio_plot(
        "Patlak plot", p, p.tissue.value, p.tissue.of(p.plasma, 1), cp, carry, (t_star, frames, max_deviation),
        ("Ki", INFLUX, "net influx rate"), ("intercept", VOLUME, "intercept: volume in exchange with plasma"),
        ("int Cp / Cp [min]", "C / Cp [mL/cm3]"), PATLAK_BIAS, "Patlak 1983, doi:10.1038/jcbfm.1983.1",
    )  # fmt: skip


def ma1(
    tissue: Curve,
    plasma: Curve | Forcing,
    *,
    t_star: float | str = "auto",
    frames: int | None = None,
    variance: str | ArrayLike = "uniform",
    vB: float = 0.0,
    blood: Curve | Forcing | None = None,
    delay: float = 0.0,
    mode: Mode | None = None,
    max_deviation: float = MAX_DEVIATION,
) -> PetResult:
    """Multilinear analysis 1: VT without noise in the denominators (doi:10.1097/01.WCB.0000038000.34930.4E).

    Parameters are those of `logan`; `variance` is that of C.

    Raises
    ------
    FitError, DataError
        Too few points, or curves that do not fit together.
    """
    p = prepare(tissue, plasma, variance=variance, vB=vB, blood=blood, delay=delay, mode=mode)
    columns = np.column_stack([p.tissue.of(p.plasma, 1), p.tissue.of(p.own, 1)])
    return _multilinear("MA1", p, columns, p.tissue.value, (t_star, frames, max_deviation), MA1_BIAS, "C")


def logan_multilinear(
    tissue: Curve,
    plasma: Curve | Forcing,
    *,
    t_star: float | str = "auto",
    frames: int | None = None,
    variance: str | ArrayLike | None = None,
    vB: float = 0.0,
    blood: Curve | Forcing | None = None,
    delay: float = 0.0,
    mode: Mode | None = None,
    max_deviation: float = MAX_DEVIATION,
) -> PetResult:
    """Logan's equation multiplied by C: ``int C = VT int Cp + b C``, fitted as two terms.

    Parameters are those of `logan`.

    Raises
    ------
    FitError, DataError
        Too few points, or curves that do not fit together.
    """
    p = prepare(tissue, plasma, variance=variance, vB=vB, blood=blood, delay=delay, mode=mode)
    columns = np.column_stack([p.tissue.of(p.plasma, 1), p.tissue.value])
    spread = p.tissue.variance if variance is None else accumulated(p.tissue)
    where = (t_star, frames, max_deviation)
    return _multilinear("multilinear Logan", p, columns, p.tissue.of(p.own, 1), where, LOGAN_BIAS, "int C", spread)


def ma2(
    tissue: Curve,
    plasma: Curve | Forcing,
    *,
    variance: str | ArrayLike = "uniform",
    vB: float = 0.0,
    blood: Curve | Forcing | None = None,
    delay: float = 0.0,
    mode: Mode | None = None,
) -> PetResult:
    """Multilinear analysis 2: the two-tissue model as four linear terms (doi:10.1097/01.WCB.0000038000.34930.4E).

    ``C = g1 int int Cp + g2 int int C + g3 int C + g4 int Cp``; VT = -g1/g2, K1 = g4, k2 = -g3 - g1/g4, k4 = -g2/k2,
    k3 = -g3 - k2 - k4. Parameters are those of `logan`; all frames are used.

    Raises
    ------
    FitError, DataError
        Too few points, or curves that do not fit together.
    """
    p = prepare(tissue, plasma, variance=variance, vB=vB, blood=blood, delay=delay, mode=mode)
    of, y = p.tissue.of, p.tissue.value
    columns = np.column_stack([of(p.plasma, 2), of(p.own, 2), of(p.own, 1), of(p.plasma, 1)])
    weighting = np.where(p.counted, p.tissue.variance, np.inf)
    line = regress(columns, y, weighting, f"MA2 of {tissue.who}")
    g1, g2, g3, g4 = line.coefficients
    area = running(p.tissue)
    through = np.eye(y.size) - g3 * area - g2 * area @ area
    line = propagated(line, columns, y, weighting, through, p.tissue.variance)
    k2 = -g3 - g1 / g4
    k4 = -g2 / k2
    k3 = -g3 - k2 - k4
    dk2 = np.array([-1 / g4, 0.0, -1.0, g1 / g4**2])
    dk4 = np.array([0.0, -1 / k2, 0.0, 0.0]) + g2 / k2**2 * dk2
    dk3 = np.array([0.0, 0.0, -1.0, 0.0]) - dk2 - dk4
    dvt = np.array([-1 / g2, g1 / g2**2, 0.0, 0.0])
    dvnd = np.array([0.0, 0.0, 0.0, 1 / k2]) - g4 / k2**2 * dk2
    rows: list[tuple[str, float, Array, str, str]] = [
        ("VT", -g1 / g2, dvt, VOLUME, "total distribution volume"),
        ("K1", g4, np.array([0.0, 0.0, 0.0, 1.0]), INFLUX, "rate from plasma to tissue"),
        ("k2", k2, dk2, RATE, "rate from tissue to plasma"),
        ("k3", k3, dk3, RATE, "rate of specific binding"),
        ("k4", k4, dk4, RATE, "rate of release"),
        ("VND", g4 / k2, dvnd, VOLUME, "nondisplaceable distribution volume, K1/k2"),
        ("VS", -g1 / g2 - g4 / k2, dvt - dvnd, VOLUME, "specific distribution volume, VT - VND"),
    ]
    estimates = tuple(Estimate(n, float(v), line.error(d), u, m) for n, v, d, u, m in rows)
    negative = [e.name for e in estimates if e.value <= 0]
    warnings = (f"{', '.join(negative)} not above zero: the data do not carry four terms",) if negative else ()
    t = p.tissue.t
    points = Points(t, t, y, line.predicted, p.counted, p.tissue.variance, "time [min]", f"C [{p.tissue.curve.unit}]")
    return PetResult(
        method="MA2", subject=tissue.subject, region=tissue.region, estimates=estimates, points=points,
        reference="Ichise 2002, doi:10.1097/01.WCB.0000038000.34930.4E", bias=MA2_BIAS, settings=p.settings,
        notes=p.notes, warnings=warnings,
    )  # fmt: skip


def _multilinear(
    method: str,
    p: Prepared,
    columns: Array,
    y: Array,
    where: Where,
    bias: str,
    what: str,
    variance: Array | None = None,
) -> PetResult:
    """VT from two terms: of ``C = a int Cp + b int C`` (-a/b), or of ``int C = a int Cp + b C`` (a)."""
    curve = p.tissue.curve
    who = f"{method} of {curve.who}"
    spread = p.tissue.variance if variance is None else variance
    usable = p.counted & (p.tissue.t > 0)

    def solve(used: Mask) -> Line:
        return regress(columns, y, np.where(used, spread, np.inf), who)

    t_star, frames, max_deviation = where
    found = choose(solve, p.tissue.t, y, usable, t_star=t_star, frames=frames, max_deviation=max_deviation, who=who)
    a, b = found.line.coefficients
    ratio, area = what == "C", running(p.tissue)
    through = np.eye(y.size) - b * area if ratio else area - b * np.eye(y.size)
    line = propagated(found.line, columns, y, np.where(found.used, spread, np.inf), through, p.tissue.variance)
    value, slope = (-a / b, np.array([-1 / b, a / b**2])) if ratio else (a, np.array([1.0, 0.0]))
    level, dlevel = (1 / b, np.array([0.0, -1 / b**2])) if ratio else (b, np.array([0.0, 1.0]))
    unit = curve.unit if ratio else f"{curve.unit} min"
    return PetResult(
        method=method, subject=curve.subject, region=curve.region, bias=bias, t_star=found.t_star,
        estimates=(
            Estimate("VT", float(value), line.error(slope), VOLUME, "total distribution volume"),
            Estimate("intercept", float(level), line.error(dlevel), "min", "intercept b of Logan's equation"),
        ),
        points=Points(
            p.tissue.t, p.tissue.t, y, found.line.predicted, found.used, spread, "time [min]", f"{what} [{unit}]"
        ),
        reference="Ichise 2002, doi:10.1097/01.WCB.0000038000.34930.4E" if ratio else "Logan 1990, multiplied by C",
        warnings=(found.warning,) if found.warning else (), settings=(found.words, *p.settings), notes=p.notes,
    )  # fmt: skip
