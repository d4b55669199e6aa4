"""What the main job is held against: a simpler model, integrals of daily practice, numbers published from the same
data, and the published tolerance doses that stand in where a user gives no limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import Curves, Study
from .dosimetry.absorbed import Mass, read_mass
from .dosimetry.limits import Limit, published_limits
from .dosimetry.practice import haenscheid, madsen, mono_exponential, trapezoid
from .dosimetry.result import TIA, Doses
from .errors import DoseError, FitError, PkmodelError
from .inference.compare import Comparison, compare
from .inference.fitting import fit as fit_curves
from .inference.protocol import load_protocol
from .units import convert

if TYPE_CHECKING:
    from .dosimetry.practice import PracticeTIA
    from .inference.result import Fit

REFERENCE_BODY = 60_000.0  # woman of ICRP 89 [g]
ADULT_ORGANS = 1_000.0  # measured organs that weigh more than this together are an adult's [g]
TOLERANCE_NOTE = (
    "limits are published tolerance values, some of them from external beams, used here for illustration; "
    "they are not a recommendation for radionuclide therapy"
)

SIMPLER = "serial_spect_1_phase"  # the protocol that others are compared with

# Organ of a result -> tissue of tables/tissue_response.csv
_TISSUES = {
    "kidney": ("kidney", "kidneys", "kidney_left", "kidney_right"),
    "liver": ("liver",),
    "lung": ("lung", "lungs", "lung_left", "lung_right"),
    "heart": ("heart",),
    "brain": ("brain",),
    "red_marrow": ("red_marrow", "bone_marrow"),
    "salivary_gland": (
        *("salivary_gland", "salivary_glands", "parotid_glands", "parotid_left", "parotid_right"),
        *("submandibular_glands", "submandibular_left", "submandibular_right"),
    ),
}

# Population mean effective half-lives for Madsen's method [h]: (nuclide, part of the agent's name, tissue)
_HALF_LIVES = {
    ("Lu-177", "DOTATATE", "kidney"): (
        56.0,
        "mean of 107 cycles of 31 patients, Spink et al. 2024, doi:10.1186/s40658-024-00665-9",
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Practice:
    """TIA of one organ by a method of daily practice [MBq h], and how far it is from the fitted model's [1]."""

    organ: str
    method: str
    tia: float
    difference: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """A number published from the same data and what was found here; `difference` is relative to the published [1]."""

    organ: str
    quantity: str
    unit: str
    expected: float
    got: float
    method: str
    source: str

    @property
    def difference(self) -> float:
        """(got - expected) / expected [1]."""
        return self.got / self.expected - 1.0 if self.expected else math.nan


def tissue_of(organ: str) -> str:
    """Tissue whose tolerance belongs to an organ, or nothing."""
    return next((tissue for tissue, names in _TISSUES.items() if organ in names), "")


def body_for_bound(
    given: float | str | None, curves: Curves, masses: Mapping[str, Mass]
) -> tuple[float | str | None, list[str]]:
    """Body mass [g] for the bound on missing cross-dose, and what was assumed.

    Where neither the user nor the data say it and the organs are of an adult's size, the lighter reference adult of
    ICRP 89 (woman, 60 kg): the lighter the body, the more its activity adds, so the bound stays one.
    """
    if given is not None or curves.body_mass is not None:
        return (given if given is not None else curves.body_mass), []
    if sum(read_mass(o, m, None)[0] for o, m in masses.items()) < ADULT_ORGANS:
        return None, []
    note = "body mass is not in the data: the bound on missing cross-dose takes 60 kg, the lighter reference adult of "
    return REFERENCE_BODY, [f"{note}ICRP Publication 89, Table 2.8 (2002); give body_mass to replace it"]


def practice_methods(curves: Curves, tia: TIA) -> tuple[Practice, ...]:
    """Every organ of a TIA by every method of daily practice that its data allow.

    Parameters
    ----------
    curves : of the subject the TIA belongs to
    tia : of the fitted model

    Returns
    -------
    tuple of Practice; `tia` is nan and `note` says why where a method cannot be used
    """
    found = []
    for organ in tia.organs:
        curve = curves[organ].decay_uncorrect().to_unit("MBq")
        model = float(tia.data["tia_point"].to_numpy()[tia.organs.index(organ)])
        for method, make in _methods(curve.t, curve.value, curves, organ):
            try:
                one = make()
            except DoseError as error:
                found.append(Practice(organ=organ, method=method, tia=math.nan, difference=math.nan, note=str(error)))
                continue
            note = "; ".join(x for x in (one.source, *one.warnings) if x)
            difference = one.value / model - 1.0 if model > 0 else math.nan
            found.append(Practice(organ=organ, method=method, tia=one.value, difference=difference, note=note))
    return tuple(found)


def _methods(t: Any, a: Any, curves: Curves, organ: str) -> Iterator[tuple[str, Any]]:
    """Name and computation of each method, for one curve not decay-corrected [h], [MBq]."""
    name = curves.nuclide
    yield "trapezoid, physical tail", lambda: trapezoid(t, a, name)
    yield "trapezoid, effective tail", lambda: trapezoid(t, a, name, tail="effective")
    yield "mono-exponential, all scans", lambda: mono_exponential(t, a, name)
    for time, value in zip(t, a, strict=True):

        def one_point(time: float = float(time), value: float = float(value)) -> PracticeTIA:
            return haenscheid(time, value)

        yield f"Haenscheid, scan at {time:.0f} h", one_point
    known = _half_life(curves, organ)
    if known is not None:
        prior, source = known
        # Madsen's error is smallest near one mean life
        k = int(np.argmin(np.abs(np.asarray(t) - prior / math.log(2.0))))
        label = f"Madsen, scan at {t[k]:.0f} h, half-life {prior:g} h"
        yield (
            label,
            lambda: replace(one := madsen(float(t[k]), float(a[k]), prior, name), source=f"{one.source}; {source}"),
        )


def _half_life(curves: Curves, organ: str) -> tuple[float, str] | None:
    for (nuclide, agent, tissue), known in _HALF_LIVES.items():
        if nuclide == curves.nuclide and agent in curves.agent and tissue_of(organ) == tissue:
            return known
    return None


def published_comparison(study: Study, curves: Curves, tia: TIA, doses: Doses) -> tuple[Against, ...]:
    """Numbers published from the same data beside those found here, for the organs that were fitted.

    Parameters
    ----------
    study, curves : the data and the subject
    tia, doses : what was found
    """
    rows = []
    for one in study.published:
        if one.subject != curves.subject or one.region not in tia.organs:
            continue
        found = _found(one.region, one.quantity, tia, doses)
        if found is None:
            continue
        value, unit = found
        try:
            expected = one.value if unit == one.unit else float(convert(one.value, one.unit, unit))
        except PkmodelError:
            continue  # the same word for another kind of quantity
        rows.append(
            Against(
                organ=one.region,
                quantity=one.quantity,
                unit=unit,
                expected=expected,
                got=value,
                method=one.method,
                source=one.source,
            )
        )
    return tuple(rows)


def _found(organ: str, quantity: str, tia: TIA, doses: Doses) -> tuple[float, str] | None:
    """Our number for a published quantity, with its unit."""
    data, dose = tia.data.sel(organ=organ), doses.data.sel(organ=organ)
    plain = {
        "TIA": (data["tia_point"], "MBq h"),
        "TIAC": (data["tiac_point"], "h"),
        "dose": (dose["dose_point"], "Gy"),
        "dose_per_activity": (dose["dose_per_activity_point"], "Gy/GBq"),
    }
    if quantity in plain:
        value, unit = plain[quantity]
        return float(value), unit
    if quantity in ("A", "l1", "l2"):
        return _bi_exponential(data, quantity)
    return None


def _bi_exponential(data: Any, quantity: str) -> tuple[float, str] | None:
    """A, l1, l2 of A (exp(-l1 t) - exp(-l2 t)), where the fitted curve has that form."""
    rate, share = data["rate_point"].to_numpy(), data["share_point"].to_numpy()
    used = np.abs(share) > 0
    if not np.all(np.isfinite(rate)) or used.sum() != 2:
        return None
    rate, share = rate[used], share[used]
    amplitude = float(data["tia_point"]) * rate * share
    slow, fast = np.argsort(rate)
    if abs(amplitude[slow] + amplitude[fast]) > 1e-6 * abs(amplitude[slow]):
        return None  # the curve does not start at zero
    known = {"A": (amplitude[slow], "MBq"), "l1": (rate[slow], "1/h"), "l2": (rate[fast], "1/h")}
    value, unit = known[quantity]
    return float(value), unit


def with_simpler(result: Fit, curves: Curves, seed: int) -> tuple[Comparison | None, list[str]]:
    """Compare an organ model with the one that has a single washout phase and no uptake."""
    rules = load_protocol(SIMPLER)
    name = result.protocol.model or result.model.name
    if result.model.scope != "region" or name == rules.model or result.model.inputs:
        return None, []
    # one exponential has one minimum: two further starts are enough to see it
    error, observation = result.protocol.error, result.protocol.observation
    same = rules.replace(error=error, observation=observation, starts=min(rules.starts, 3))
    try:
        return compare([result, fit_curves(rules.model, curves, same, seed=seed)]), []
    except FitError as error:
        return None, [f"no comparison with {rules.model}: {error}"]


def choice_of_model(comparison: Comparison | None, tia: TIA, simpler: TIA | None) -> list[str]:
    """Say it where an information criterion prefers the model that was not used, and what that would change."""
    if comparison is None or simpler is None:
        return []
    used, other = comparison.fits
    scores = {c: (getattr(used, c), getattr(other, c)) for c in ("aic", "aicc", "bic")}
    against = [c for c, (a, b) in scores.items() if b < a]
    if not against:
        return []
    pro = [c for c, (a, b) in scores.items() if a < b]
    change = simpler.data["tia_point"].to_numpy() / tia.data["tia_point"].to_numpy() - 1.0
    spelled = {"aic": "AIC", "aicc": "AICc", "bic": "BIC"}

    def votes(criteria: list[str], name: str) -> str:
        return f"{' and '.join(spelled[c] for c in criteria)} {'prefers' if len(criteria) == 1 else 'prefer'} {name}"

    first = votes(against, other.model.name)
    second = f"; {votes(pro, used.model.name)}" if pro else ""
    why = f"{used.points} points for {used.estimated} estimated numbers are few to judge by"
    return [
        f"{first}{second} ({why}). The doses rest on {used.model.name}; with the simpler model "
        f"the TIA would be {100 * change.min():+.1f} to {100 * change.max():+.1f} % different"
    ]


def default_limits(organs: Sequence[str]) -> tuple[Limit, ...]:
    """Published tolerance doses of organs that have one; nothing unverified, none that needs a tissue parameter.

    Of each tissue the first row that was read in its source, or else in a table that quotes it; a limit in absorbed
    dose before one for external beams, whose lower end is taken as an absorbed dose.

    Parameters
    ----------
    organs : names in a dose result [text]
    """
    table = published_limits()
    table = table[(table["quantity"] == "tolerance") & (table["status"] != "unverified") & (table["kind"] != "BED")]
    found = []
    for organ in organs:
        rows = table[table["tissue"] == tissue_of(organ)]
        if rows.empty:
            continue
        order = sorted(
            rows.to_dict("records"), key=lambda r: (r["kind"] != "absorbed dose", r["status"] != "published")
        )
        row = order[0]
        value = float(row["value"] if not math.isnan(row["value"]) else row["lower"])
        quoted = "" if row["status"] == "published" else ", original not read"
        source = f"{row['meaning']}; {row['kind']}; {row['source']}{quoted}"
        found.append(Limit(organ=organ, value=value, source=source))
    return tuple(found)
