"""Input functions from the image: a blood pool's curve, corrected for partial volume and spill-in, scaled by samples.

``ROI = recovery blood + spill_in tissue``, so blood = (ROI - spill_in tissue)/recovery. What can go wrong with it is
reviewed in doi:10.1038/jcbfm.2011.107: an image knows neither plasma nor metabolites, and few tracers allow it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError
from ..formats.curve import Curve
from .measured import MINUTES, Mode, see, source
from .result import Estimate

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class ImageInput:
    """Whole blood from an image, with what was corrected.

    Parameters
    ----------
    blood : framed curve of kind "blood", decay-corrected
    estimates : recovery, spill_in and scale; error 0 where given
    at_samples : (m,) image-derived values at the times of the blood samples, empty without samples [unit]
    """

    blood: Curve
    estimates: tuple[Estimate, ...]
    samples: Curve | None
    at_samples: Array
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> float:
        return next(e.value for e in self.estimates if e.name == name)

    def curve(self, times: object = None) -> Curve:
        """The blood curve, so that this can stand where a curve is asked for."""
        return self.blood

    def __str__(self) -> str:
        lines = [f"Image-derived blood of {self.blood.subject}, {len(self.blood)} frames [{self.blood.unit}]"]
        for e in self.estimates:
            lines.append(f"{e.name:9} {e.value:8.4g} {'given' if e.se == 0 else f'+- {e.se:.2g}'}  {e.meaning}")
        return "\n".join([*lines, *(f"note: {x}" for x in self.notes), *(f"warning: {x}" for x in self.warnings)])

    __repr__ = __str__


def image_derived_input(
    pool: Curve,
    *,
    recovery: float | None = None,
    spill_in: float | None = None,
    tissue: Curve | None = None,
    samples: Curve | None = None,
    rescale: bool = False,
    mode: Mode | None = None,
) -> ImageInput:
    """Blood curve from a region in the left ventricle, the aorta or a carotid artery.

    Parameters
    ----------
    pool : curve of the blood pool
    recovery : part of the blood's activity seen in the region; None: from `samples`, or 1 without them [1]
    spill_in : part of the tissue's activity seen in the region; None: from `samples`, or 0 without `tissue` [1]
    tissue : curve of the tissue around the pool, such as myocardium
    samples : late whole-blood samples, for unknown recovery and spill_in (by least squares)
    rescale : with `recovery` given, multiply the curve so that it meets the samples in the mean of their ratios [bool]
    mode : as for `pkmodel.pet.logan`

    Raises
    ------
    FitError
        A factor is not possible, or there are too few samples to find those that are unknown.
    DataError
        Units, nuclides or times do not fit together.
    """
    roi = see(pool, mode=mode)
    spill = None if tissue is None else see(tissue, mode=roi.mode, nuclide_of=pool, unit=roi.curve.unit)
    if spill is None and spill_in:
        raise FitError(f"{pool.who}: spill_in={spill_in:g} needs tissue=, the curve that spills in")
    if recovery is not None and not 0 < recovery <= 1.5:
        raise FitError(f"{pool.who}: recovery={recovery!r}; allowed: above 0 to 1.5")
    if spill_in is not None and not 0 <= spill_in < 1:
        raise FitError(f"{pool.who}: spill_in={spill_in!r}; allowed: 0 to below 1")
    notes, warnings = list(roi.notes), []
    around = np.zeros(roi.value.size) if spill is None else roi.of(spill.signal())
    times, measured = np.empty(0), np.empty(0)
    if samples is not None:
        _, ready, said = source(samples, roi, "samples")
        notes += [x for x in said if "held level" not in x]
        times, measured = ready.t * MINUTES, ready.value
        if times[-1] > roi.end[-1] + 1e-6 or times[0] < roi.start[0]:
            raise FitError(f"{samples.who}: samples lie outside the scan ({roi.start[0]:g} to {roi.end[-1]:g} min)")
    elif rescale:
        raise FitError(f"{pool.who}: rescale=True needs samples=")
    elif recovery is None:
        notes.append("no recovery given and no samples: the region is taken as pure blood")
    given = {"recovery": recovery, "spill_in": 0.0 if spill is None and spill_in is None else spill_in}
    errors = {"recovery": 0.0, "spill_in": 0.0, "scale": 0.0}
    if samples is not None and not rescale and None in given.values():
        other = np.zeros(times.size) if spill is None else spill.signal()(times)
        found = _from_samples(roi.signal()(times), {"recovery": measured, "spill_in": other}, given, pool.who)
        errors |= {n: se for n, (_, se) in found.items()}
        given |= {n: v for n, (v, _) in found.items()}
        if times.size == len(found):
            warnings.append("as many samples as unknowns: errors are unknown")
    seen_part = 1.0 if given["recovery"] is None else given["recovery"]
    spilt = 0.0 if given["spill_in"] is None else given["spill_in"]
    value = np.asarray((roi.value - spilt * around) / seen_part, dtype=float)
    scale = 1.0
    if rescale:
        ratios = measured / roi.with_value(value).signal()(times)
        scale = float(ratios.mean())
        errors["scale"] = float(ratios.std(ddof=1) / np.sqrt(ratios.size)) if ratios.size > 1 else float("nan")
        value = value * scale
    if np.any(value < 0):
        warnings.append(f"{np.sum(value < 0)} frames are below zero after the corrections")
    nothing = np.full(value.size, np.nan)
    blood = roi.curve.replace(value=value, kind="blood", region="image_derived_blood", sd=nothing, weights=nothing)
    return ImageInput(
        blood=blood, samples=samples, at_samples=roi.with_value(value).signal()(times), notes=tuple(notes),
        estimates=(
            Estimate("recovery", seen_part, errors["recovery"], "1", "part of the blood's activity seen"),
            Estimate("spill_in", spilt, errors["spill_in"], "1", "part of the tissue's activity seen"),
            Estimate("scale", scale, errors["scale"], "1", "factor to meet the samples"),
        ),
        warnings=tuple(warnings),
    )  # fmt: skip


def _from_samples(
    roi: Array, columns: dict[str, Array], given: dict[str, float | None], who: str
) -> dict[str, tuple[float, float]]:
    """Value and error of those of recovery and spill-in that are not given, by least squares at the samples."""
    unknown = [n for n, v in given.items() if v is None]
    target = roi - sum(((v or 0.0) * columns[n] for n, v in given.items()), np.zeros(roi.size))
    matrix = np.column_stack([columns[n] for n in unknown])
    if roi.size < len(unknown):
        raise FitError(f"{who}: {roi.size} samples for {' and '.join(unknown)}; give one of them or more samples")
    x, _, rank, _ = np.linalg.lstsq(matrix, target, rcond=1e-10)
    if rank < len(unknown):
        raise FitError(f"{who}: the samples do not tell recovery and spill-in apart; give one of them")
    left, free = target - matrix @ x, roi.size - len(unknown)
    noise = float(left @ left) / free if free else float("nan")
    se = np.sqrt(noise * np.diag(np.linalg.inv(matrix.T @ matrix)))
    out = {n: (float(v), float(e)) for n, v, e in zip(unknown, x, se, strict=True)}
    if not 0.05 < out.get("recovery", (1.0, 0.0))[0] < 1.5 or not -0.05 < out.get("spill_in", (0.0, 0.0))[0] < 1.0:
        said = ", ".join(f"{n} {v:.3g}" for n, (v, _) in out.items())
        raise FitError(f"{who}: {said} from the samples is not possible; check units, delay and region")
    return out
