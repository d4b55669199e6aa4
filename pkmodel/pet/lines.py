"""What the graphical and multilinear methods share: curves made ready, and the line through their points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError
from ..formats.curve import Curve
from .linear_phase import Mask, choose
from .measured import Forcing, Mode, Seen, see, source
from .regression import Line, propagated, regress
from .result import Estimate, PetResult, Points
from .signal import Signal

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]
Where = tuple[float | str, int | None, float]  # t_star, frames, max_deviation
Errors = Literal["residual", "ordinate"]
VOLUME, INFLUX, RATE = "mL/cm3", "mL/cm3/min", "1/min"


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Tissue without blood, its integral in every frame, plasma, and what was done."""

    tissue: Seen
    own: Signal
    plasma: Signal
    settings: tuple[str, ...]
    notes: tuple[str, ...]
    counted: Mask


def prepare(
    tissue: Curve,
    plasma: Curve | Forcing,
    *,
    variance: str | ArrayLike | None,
    vB: float,
    blood: Curve | Forcing | None,
    delay: float,
    mode: Mode | None,
) -> Prepared:
    """Curves of one method in one unit, corrected for blood in the tissue."""
    seen = see(tissue, variance="uniform" if variance is None else variance, mode=mode)
    cp, _, notes = source(plasma, seen, "plasma", delay)
    if not 0 <= vB < 1:
        raise FitError(f"{tissue.who}: vB={vB!r}; allowed: 0 to below 1")
    settings = [f"delay {delay:g} min"] if delay else []
    if vB:
        if blood is None:
            raise FitError(f"{tissue.who}: vB={vB:g} needs the whole-blood curve; pass blood=, or vB=0")
        cb, _, more = source(blood, seen, "blood", delay)
        notes += [x for x in more if x not in notes]
        settings.append(f"vB {vB:g} fixed")
        seen = seen.with_value((seen.value - vB * seen.of(cb)) / (1.0 - vB))
    settings.append(f"{seen.mode} values")
    counted = np.isfinite(seen.variance)
    return Prepared(seen, seen.signal(), cp, tuple(settings), (*seen.notes, *notes), counted)


def _spans(tissue: Seen) -> Array:
    """(n,) time that each value stands for in an integral [min]."""
    return tissue.duration if np.all(tissue.duration > 0) else np.gradient(tissue.t)


def running(tissue: Seen) -> Array:
    """(n, n) derivative of the integral of C, as each frame sees it, by each value of C [min]."""
    spans = _spans(tissue)
    return np.tril(np.broadcast_to(spans, (spans.size, spans.size)), -1) + np.diag(0.5 * spans)


def accumulated(tissue: Seen) -> Array:
    """Variance of the integral of C up to the middle of each frame, all frames before it included."""
    single = np.where(np.isfinite(tissue.variance), tissue.variance, 0.0) * _spans(tissue) ** 2
    total = np.cumsum(single) - 0.75 * single  # half of its own frame: a quarter of its variance
    return np.where(np.isfinite(tissue.variance), total, np.inf)


Carry = Callable[[float], tuple[Array, Array]]
"""Slope of a plot -> derivatives of its points' residuals by each value of C, (n, n): those that weigh, and all."""


def carried_over(tissue: Seen, c: Array, area: Array, drive: Array, errors_in: str) -> Carry:
    """How errors of C reach the residuals of Logan's plot (delta method)."""
    if errors_in not in ("residual", "ordinate"):
        raise FitError(f"Logan plot: errors_in={errors_in!r}; allowed: 'residual', 'ordinate'")
    safe = np.where(np.isfinite(tissue.variance) & (c > 0), c, np.inf)
    through_area = running(tissue) / safe[:, None]

    def jacobians(slope: float) -> tuple[Array, Array]:
        whole = through_area - np.diag((area - slope * drive) / safe**2)
        return (whole if errors_in == "residual" else through_area - np.diag(area / safe**2)), whole

    return jacobians


def divided_by(below: Array) -> Carry:
    """How errors of C reach the residuals of Patlak's plot, whose denominator is taken as exact."""
    diagonal = np.diag(1.0 / np.where(below > 0, below, np.inf))
    return lambda _: (diagonal, diagonal)


def _spread(jacobian: Array, tissue: Seen) -> Array:
    """Variance of each residual; infinite where C does not count."""
    known = np.where(np.isfinite(tissue.variance), tissue.variance, 0.0)
    total = (jacobian**2) @ known
    return np.where(np.isfinite(tissue.variance) & (total > 0), total, np.inf)


def ratio_plot(
    method: str,
    p: Prepared,
    above: Array,
    drive: Array,
    below: Array,
    carry: Carry | None,
    where: Where,
    slope_is: tuple[str, str, str],
    intercept_is: tuple[str, str, str],
    labels: tuple[str, str],
    bias: str,
    reference: str,
    more: Callable[[Line], tuple[Estimate, ...]] = lambda _: (),
    settings: tuple[str, ...] = (),
) -> PetResult:
    """A straight line through ``above/below`` over ``drive/below``."""
    curve = p.tissue.curve
    who = f"{method} of {curve.who}"
    usable = p.counted & (below > 0) & (p.tissue.t > 0)
    notes = list(p.notes)
    if np.any(p.counted & (below <= 0) & (p.tissue.t > 0)):
        notes.append(
            f"{np.sum(p.counted & (below <= 0))} points were left out: the denominator is not above zero there"
        )
    safe = np.where(usable, below, np.nan)
    x, y = drive / safe, above / safe
    columns = np.column_stack([np.where(usable, x, 0.0), np.ones(x.size)])
    ordinate = np.where(usable, y, 0.0)

    def solve(used: Mask) -> Line:
        line = regress(columns, ordinate, np.where(used, 1.0, np.inf), who)
        for _ in range(0 if carry is None else 20):
            assert carry is not None
            spread = np.where(used, _spread(carry(float(line.coefficients[0]))[0], p.tissue), np.inf)
            before, line = line, regress(columns, ordinate, spread / np.min(spread), who)
            if abs(line.coefficients[0] - before.coefficients[0]) <= 1e-10 * abs(line.coefficients[0]):
                break
        return line

    t_star, frames, max_deviation = where
    found = choose(
        solve, p.tissue.t, ordinate, usable, t_star=t_star, frames=frames, max_deviation=max_deviation, who=who
    )
    line, spread = found.line, np.ones(x.size)
    if carry is None:
        notes.append(
            "plain least squares: points share the noise of earlier frames, so the errors stated are too small; give "
            "variance= for errors that count it"
        )
    else:
        weigh, whole = carry(float(line.coefficients[0]))
        spread = _spread(weigh, p.tissue)
        line = propagated(line, columns, ordinate, np.where(found.used, spread, np.inf), whole, p.tissue.variance)
    slope = Estimate(slope_is[0], float(line.coefficients[0]), line.error(np.array([1.0, 0.0])), *slope_is[1:])
    level = Estimate(intercept_is[0], float(line.coefficients[1]), line.error(np.array([0.0, 1.0])), *intercept_is[1:])
    fitted = np.where(usable, line.predicted, np.nan)
    points = Points(p.tissue.t, x, y, fitted, found.used, spread, *labels)
    return PetResult(
        method=method, subject=curve.subject, region=curve.region, estimates=(slope, *more(line), level), points=points,
        reference=reference, bias=bias, t_star=found.t_star, settings=(*settings, found.words, *p.settings),
        notes=tuple(notes), warnings=(found.warning,) if found.warning else (), straight=True,
    )  # fmt: skip
