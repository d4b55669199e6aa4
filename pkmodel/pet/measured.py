"""What a scanner saw of a region, and what it would see of any signal: averages over frames, or values at midpoints.

The operational equations of all methods here are linear in C(t) and its integrals, so averaging both sides over each
frame keeps them exact; with ``mode="midpoint"`` values stand for the middle of their frame and lines join them, as in
programs that do so. Times are minutes and rates 1/min, as PET reports them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..formats.curve import Curve, decay_factor
from ..nuclides import nuclide
from .signal import Signal, through_frames, through_samples
from .variance import variance_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]
Mode = Literal["frame", "midpoint"]
MINUTES = 60.0  # in an hour, the unit of a curve's times


class Forcing(Protocol):
    """A fitted input: knows its curve at any time."""

    def curve(self, times: ArrayLike | None = None) -> Curve:
        """The input as a Curve."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One region as it was measured, decay-corrected, without rows before injection."""

    curve: Curve
    start: Array  # (n,) [min]
    end: Array  # (n,) [min]
    value: Array  # (n,) in the curve's unit
    variance: Array  # (n,) of the values up to one factor, infinite: not counted
    mode: Mode
    notes: tuple[str, ...] = ()

    @property
    def t(self) -> Array:
        """(n,) middle of each frame [min]."""
        return np.asarray(0.5 * (self.start + self.end), dtype=float)

    @property
    def duration(self) -> Array:
        """(n,) [min]."""
        return self.end - self.start

    def signal(self) -> Signal:
        """The measured values as a function of time."""
        framed = self.end > self.start
        if self.mode == "frame" and framed.all():
            return through_frames(self.start, self.end, self.value)
        t, value = self.t, self.value
        if t[0] > 0:
            t, value = np.append(0.0, t), np.append(0.0, value)
        return through_samples(t, value)

    def of(self, signal: Signal, times: int = 0) -> Array:
        """What these frames would show of a signal, or of its integral repeated `times` times, (n,)."""
        return self.average(lambda t, more: signal.integral(t, times + more))

    def average(self, integral: Callable[[Array, int], Array]) -> Array:
        """Average over each frame from a function's integral, or its value at each midpoint, (n,)."""
        if self.mode == "midpoint":
            return integral(self.t, 0)
        long = self.end > self.start
        width = np.where(long, self.duration, 1.0)
        area = integral(self.end, 1) - integral(self.start, 1)
        return np.where(long, area / width, integral(self.start, 0))

    def with_value(self, value: Array) -> Seen:
        """The same frames with other values."""
        return replace(self, value=value)


def check_curve(given: object) -> None:
    """Refuse what carries neither unit nor decay flag."""
    if not isinstance(given, Curve):
        raise DataError(
            f"a {type(given).__name__} is not one curve; take one of a scan, as scan['thalamus'], or make it with "
            "pkmodel.pet.frames or pkmodel.pet.samples"
        )


def see(
    curve: Curve,
    *,
    variance: str | ArrayLike = "uniform",
    mode: Mode | None = None,
    nuclide_of: Curve | None = None,
    unit: str | None = None,
) -> Seen:
    """A region's curve made ready: decay-corrected, in one unit, in order, not overlapping.

    Parameters
    ----------
    curve : tissue or reference region
    variance : see `pkmodel.pet.variance.variance_of`
    mode : "frame" (default where there are frames) or "midpoint" [text]
    nuclide_of : another curve that must be of the same nuclide
    unit : convert to this unit [text]

    Raises
    ------
    DataError
        Frames overlap or are not in order, values are not finite, units or nuclides do not fit.
    """
    if mode not in (None, "frame", "midpoint"):
        raise DataError(f"{curve.who}: mode {mode!r}; allowed: 'frame', 'midpoint'")
    check_curve(curve)
    spread = variance_of(curve, variance)
    if not curve.decay_corrected and curve.nuclide:
        spread = spread * decay_factor(nuclide(curve.nuclide).decay_constant, curve.t_start, curve.t_end) ** 2
    corrected, notes = _corrected(curve, nuclide_of, unit)
    start, end, value = corrected.t_start * MINUTES, corrected.t_end * MINUTES, corrected.value
    if not np.all(np.isfinite(value)):
        raise DataError(f"{curve.who}: {_row(curve, ~np.isfinite(value))} is not finite; leave the row out")
    if len(curve) < 3:
        raise DataError(f"{curve.who}: {len(curve)} values; needed: 3 or more")
    if not np.any(value > 0):
        raise DataError(f"{curve.who}: no value is above zero, so there is nothing to analyse; check unit and region")
    if np.ptp(value) == 0:
        notes.append(f"every value of {curve.region} is {value[0]:g} {corrected.unit}: it does not change in time")
    wrong = np.append(False, (start[1:] < end[:-1] - 1e-6 * (1 + end[:-1])) | (end[1:] <= end[:-1]))
    if wrong.any():
        raise DataError(
            f"{curve.who}: {_row(curve, wrong)} starts before the one above it ends; frames may not overlap"
        )
    chosen: Mode = mode or ("frame" if corrected.framed else "midpoint")
    if chosen == "frame" and not corrected.framed:
        raise DataError(f"{curve.who}: these are samples, not frames; use mode='midpoint'")
    keep = np.ones(value.size, dtype=bool)
    if chosen == "frame" and end[0] == start[0]:
        keep[0] = False  # the row at injection that many tables begin with
        if not np.all(end[1:] > start[1:]):
            raise DataError(f"{curve.who}: frames and samples are mixed; use mode='midpoint' for all of them")
    gaps = (start[1:] - end[:-1])[corrected.framed & (start[1:] - end[:-1] > 1e-3 * end[:-1])]
    if chosen == "frame" and gaps.size and gaps.max() > 1.0:
        notes.append(f"a pause of {gaps.max():.3g} min between frames is bridged by a straight line")
    trimmed = corrected if keep.all() else corrected.take(keep)
    return Seen(trimmed, start[keep], end[keep], value[keep], spread[keep], chosen, tuple(notes))


def source(given: Curve | Forcing, tissue: Seen, what: str, delay: float = 0.0) -> tuple[Signal, Curve, list[str]]:
    """Blood or plasma as a signal in the unit of the tissue, decay-corrected, `delay` minutes later.

    Returns
    -------
    signal, curve, notes

    Raises
    ------
    DataError
        Unit or nuclide do not fit the tissue, or values are negative, not finite, or not increasing in time.
    """
    curve = given.curve() if hasattr(given, "curve") else given
    check_curve(curve)
    if curve.kind == "parent_fraction":
        raise DataError(f"{curve.who}: a parent fraction is no {what}; make one with pkmodel.pet.arterial_input")
    corrected, notes = _corrected(curve, tissue.curve, tissue.curve.unit)
    t, value = corrected.t * MINUTES, corrected.value
    if not np.all(np.isfinite(value)):
        raise DataError(f"{curve.who}: {_row(curve, ~np.isfinite(value))} is not finite; leave the row out")
    if np.any(np.diff(t) <= 0) or t.size < 2:
        raise DataError(f"{curve.who}: {what} needs two or more samples at increasing times")
    if np.any(value < 0):
        notes.append(
            f"{what}: {np.sum(value < 0)} values are below zero ({_row(curve, value < 0)}) and used as they are; "
            "pkmodel.pet.arterial_input(negative='zero') sets them to zero"
        )
    framed = corrected.t_end > corrected.t_start
    if framed[1:].all():  # an image-derived input; a row at injection without duration is left out
        edges = corrected.t_start[framed] * MINUTES, corrected.t_end[framed] * MINUTES
        made = through_frames(*edges, value[framed])
    else:
        made = through_samples(t, value)
    beyond = float(tissue.end[-1] - delay - made.knots[-1])
    if beyond > 0.01:
        notes.append(f"{what} ends {beyond:.3g} min before the last frame does and is held level after that")
    return made.shifted(delay), corrected, notes


def _corrected(curve: Curve, other: Curve | None, unit: str | None) -> tuple[Curve, list[str]]:
    if other is not None and curve.nuclide != other.nuclide:
        raise DataError(f"{curve.who}: measured with {curve.nuclide}, but {other.region} with {other.nuclide}")
    notes = (
        [] if curve.decay_corrected or not curve.nuclide else [f"{curve.region} was corrected for decay to injection"]
    )
    corrected = curve.decay_correct()
    if unit is not None and corrected.unit != unit:
        notes.append(f"{curve.region} was converted from {curve.unit} to {unit}")
        corrected = corrected.to_unit(unit)
    return corrected, notes


def _row(curve: Curve, wrong: NDArray[np.bool_]) -> str:
    """How a message names the first wrong row."""
    k = int(np.argmax(wrong))
    where = f"row {curve.rows[k]}" if len(curve.rows) == len(curve) else f"value {k + 1}"
    return f"{where} ({curve.value[k]:g} {curve.unit} at {curve.t[k] * MINUTES:g} min)"
