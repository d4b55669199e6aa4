"""The largest activity per cycle that keeps the probability of passing any limit at or below a stated level.

No root finding: for each draw the activity at which an organ meets its limit has a closed form (linear for absorbed
dose, a quadratic for BED), and an activity A passes a limit in exactly the draws whose allowed activity is below A.
The plan is therefore a quantile of the smallest allowed activity. Every cycle is taken to repeat the measured one:
same dose per activity, same kinetics.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DoseError
from ..units import convert, factor
from .limits import Limit
from .present import html_list, html_table, round_down, show, text_list, text_table
from .radiobiology import organ_g
from .result import Doses
from .values import canonical, spread

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

RESEARCH_USE = "for research; not a medical device and not a prescription"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycles:
    """One number of cycles of a plan.

    `activity` is per cycle [MBq]; `allowed` (limits, draws) holds the activity at which each limit is met [MBq];
    `organ_activity` the largest activity if that limit were the only one [MBq]; `with_missing` the activity if all the
    dose that is not included were really there [MBq], nan where its bound is not known.
    """

    number: int
    activity: float
    limiting: str
    organ_activity: tuple[float, ...]
    with_missing: float
    allowed: Floats = field(repr=False)

    def exceeded(self, activity: float) -> tuple[float, tuple[float, ...]]:
        """Probability that any limit, and that each limit, is exceeded at `activity` per cycle [MBq]."""
        over = activity * (1.0 - 1e-12) > self.allowed
        return float(over.any(axis=0).mean()), tuple(float(x) for x in over.mean(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Plan:
    """Largest activity per cycle for each number of cycles, what limits it, and the doses to expect.

    `best` is the number of cycles with the largest total activity (the fewest where that is equal). Where
    `counts_measured`, the schedules are what may follow the measured administration.
    """

    doses: Doses
    limits: tuple[Limit, ...]
    schedules: tuple[Cycles, ...]
    probability: float
    interval: float
    interval_text: str
    activity_unit: str
    counts_measured: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def best(self) -> Cycles:
        """Schedule with the largest total activity; differences below 0.1 % count as equal."""
        top = max(x.number * x.activity for x in self.schedules)
        return next(x for x in self.schedules if x.number * x.activity >= top * 0.999)

    @property
    def regimen(self) -> str:
        """Text of the best schedule, for example ``"7.4 GBq every 8 wk x 4"``; the activity is rounded down."""
        return self._regimen(self.best)

    def _amount(self, schedule: Cycles) -> str:
        return f"{show(convert(schedule.activity, 'MBq', self.activity_unit))} {self.activity_unit}"

    def _regimen(self, schedule: Cycles) -> str:
        amount = f"{round_down(convert(schedule.activity, 'MBq', self.activity_unit))} {self.activity_unit}"
        return f"{amount} once" if schedule.number == 1 else f"{amount} every {self.interval_text} x {schedule.number}"

    def schedule(self, cycles: int) -> Cycles:
        """Schedule with that number of cycles."""
        for one in self.schedules:
            if one.number == cycles:
                return one
        raise DoseError(f"the plan has no {cycles} cycles; it has: {', '.join(str(x.number) for x in self.schedules)}")

    def exceedance(self, activity: float | str, cycles: int | None = None) -> float:
        """Probability that any limit is exceeded at `activity` per cycle, a number [MBq] or text."""
        schedule = self.best if cycles is None else self.schedule(cycles)
        return schedule.exceeded(canonical(activity, "MBq", "activity per cycle"))[0]

    def table(self) -> pd.DataFrame:
        """One row per number of cycles: activity per cycle and in total, what limits, and each limit's probability."""
        import pandas as pd

        unit, rows = self.activity_unit, []
        for one in self.schedules:
            any_limit, each = one.exceeded(one.activity)
            row: dict[str, Any] = {
                "cycles": one.number,
                f"per cycle [{unit}]": convert(one.activity, "MBq", unit),
                f"total [{unit}]": convert(one.number * one.activity, "MBq", unit),
                "limited by": one.limiting,
                "P(any)": any_limit,
            }
            row |= {f"P({x.organ} {x.kind})": p for x, p in zip(self.limits, each, strict=True)}
            row[f"if all missing dose were real [{unit}]"] = convert(one.with_missing, "MBq", unit)
            rows.append(row)
        return pd.DataFrame(rows).set_index("cycles")

    def expected(self, cycles: int | None = None) -> pd.DataFrame:
        """Absorbed dose of every organ and tumour over all cycles of a schedule, with 95 % interval [Gy]."""
        import pandas as pd

        one = self.best if cycles is None else self.schedule(cycles)
        total, rows = one.number * one.activity / 1000.0, []
        for organ in self.doses.organs:
            data = self.doses.data.sel(organ=organ)
            sd, low, high = spread(total * data["dose_per_activity"].to_numpy())
            value = total * float(data["dose_per_activity_point"])
            rows.append({"organ": organ, "dose [Gy]": value, "sd": sd, "2.5 %": low, "97.5 %": high})
        return pd.DataFrame(rows).set_index("organ")

    def against_limits(self, cycles: int | None = None) -> pd.DataFrame:
        """Give the expected value of each limited quantity in the kind of its limit, with 95 % interval [Gy]."""
        import pandas as pd

        one, rows = (self.best if cycles is None else self.schedule(cycles)), []
        for limit in self.limits:
            counts = self.counts_measured
            point = _reached(self.doses, limit, one, self.interval, point=True, measured=counts)
            sd, low, high = spread(_reached(self.doses, limit, one, self.interval, point=False, measured=counts))
            row = {"value [Gy]": float(point), "sd": sd, "2.5 %": low, "97.5 %": high, "limit [Gy]": limit.value}
            rows.append({"limit": f"{limit.organ} {limit.kind}", **row})
        return pd.DataFrame(rows).set_index("limit")

    def _heading(self) -> str:
        return (
            f"Plan ({RESEARCH_USE}): {self.regimen}\n"
            f"limited by {self.best.limiting}; P(any limit exceeded) <= {self.probability:g}; "
            f"limits: {'; '.join(map(str, self.limits))}"
        )

    def _tables(self) -> list[tuple[str, list[str], list[list[Any]]]]:
        tables = []
        for title, frame in (
            ("Largest activity per number of cycles", self.table()),
            (f"Expected absorbed dose over {self.best.number} x {self._amount(self.best)}", self.expected()),
            ("Expected value of what is limited", self.against_limits()),
        ):
            rows = [[str(i), *row] for i, row in zip(frame.index, frame.to_numpy(), strict=True)]
            tables.append((title, [str(frame.index.name), *map(str, frame.columns)], rows))
        return tables

    def __str__(self) -> str:
        parts = [f"\n{title}\n{text_table(header, rows)}" for title, header, rows in self._tables()]
        return self._heading() + "\n" + "\n".join(parts) + text_list(self.warnings)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "<p>" + html.escape(self._heading()).replace("\n", "<br>") + "</p>"
        tables = (html_table(header, rows, caption=title) for title, header, rows in self._tables())
        return head + "".join(tables) + html_list(self.warnings)


def plan(
    doses: Doses,
    limits: Mapping[str, str | float] | Sequence[Limit],
    *,
    cycles: int | Iterable[int] = 4,
    interval: float | str = "8 wk",
    probability: float = 0.05,
    already: Mapping[str, float | str] | None = None,
    maximum_activity: float | str | None = None,
    activity_unit: str = "GBq",
    count_measured: bool = False,
) -> Plan:
    """Find the largest activity per cycle with P(any limit exceeded) at or below `probability`.

    Parameters
    ----------
    doses : result of `dose`, of one administration
    limits : organ -> text such as ``"23 Gy"`` or ``"40 Gy BED (a/b 2.5 Gy, repair 2.8 h)"``, or Limit objects; they
        hold for all cycles together
    cycles : number of cycles, or several to compare [1]
    interval : from one cycle to the next, number [h] or text
    probability : accepted probability that any limit is exceeded, above 0 and below 1 [1]
    already : organ -> received earlier, in the kind of its limit, such as ``"12 Gy BED"``
    maximum_activity : per cycle, number [MBq] or text; None: only the limits count
    activity_unit : for tables and text [text]
    count_measured : the limits hold for the measured administration and the planned cycles together; in each draw it
        counts with its own dose, and its damage is repaired when the next cycle starts [bool]

    Returns
    -------
    Plan

    Raises
    ------
    DoseError
        A limit names an organ that is not in `doses`, lacks tissue parameters, has no dose to limit, or its kinetics
        are not known; or a number is out of its range.
    """
    if not 0 < probability < 1:
        raise DoseError(f"probability {probability!r}; allowed: above 0 and below 1, for example 0.05 for 5 %")
    factor(activity_unit, "activity unit")
    spacing = canonical(interval, "h", "interval between cycles")
    numbers = [cycles] if isinstance(cycles, int) else list(cycles)
    if not numbers or any(isinstance(n, bool) or int(n) != n or n < 1 for n in numbers):
        raise DoseError(f"cycles: found {cycles!r}; allowed: whole numbers, 1 or more")
    checked = _checked_limits(doses, limits, already or {})
    most = np.inf if maximum_activity is None else canonical(maximum_activity, "MBq", "maximum activity")
    schedules = tuple(
        _schedule(doses, checked, int(n), spacing, probability, most, count_measured) for n in sorted(set(numbers))
    )
    text = interval.strip() if isinstance(interval, str) else f"{spacing:g} h"
    return Plan(
        doses=doses,
        limits=checked,
        schedules=schedules,
        probability=probability,
        interval=spacing,
        interval_text=text,
        activity_unit=activity_unit,
        counts_measured=count_measured,
        warnings=_plan_warnings(doses, checked, schedules, probability, activity_unit),
    )


def _checked_limits(
    doses: Doses, limits: Mapping[str, str | float] | Sequence[Limit], already: Mapping[str, float | str]
) -> tuple[Limit, ...]:
    if isinstance(limits, Mapping):
        read = []
        for organ, text in limits.items():
            given = text if isinstance(text, str) else f"{float(text)!r} Gy"
            read.append(Limit.parse(organ, given, already=already.get(organ, 0.0)))
    else:
        read = list(limits)
        if already:
            raise DoseError("already: with Limit objects, give what was received in each Limit, as already=...")
    if not read:
        raise DoseError("no limit was given; write for example {'kidneys': '23 Gy'}")
    stray = [x for x in already if x not in {one.organ for one in read}]
    if stray:
        raise DoseError(
            f"already names {', '.join(map(repr, stray))}, which has no limit; "
            f"limits are set for: {', '.join(x.organ for x in read)}"
        )
    for limit in read:
        if limit.organ not in doses.organs:
            raise DoseError(
                f"limit of {limit.organ!r}: no such organ in the doses; they have: {', '.join(doses.organs)}"
            )
        if not float(doses.data["dose_point"].sel(organ=limit.organ)) > 0:
            raise DoseError(f"limit of {limit.organ}: its dose is zero, so no activity reaches the limit; leave it out")
    return tuple(read)


def _measured(doses: Doses, limit: Limit, *, point: bool = False, extra: float = 0.0) -> Floats:
    """Give what the measured administration gave of the limited quantity, with `extra` Gy of missing dose [Gy]."""
    data = doses.data.sel(organ=limit.organ)
    given = np.asarray(data["dose_point" if point else "dose"].to_numpy() + extra, dtype=float)
    if limit.kind != "dose":
        ratio, repair = _tissue(limit)
        given = given * (1.0 + organ_g(doses, limit.organ, repair, point=point) * given / ratio)
        if limit.kind == "EQD2":
            given = given / (1.0 + 2.0 / ratio)
    return np.asarray(given, dtype=float)


def _allowed(
    doses: Doses, limit: Limit, cycles: int, interval: float, *, measured: bool = False, missing: bool = False
) -> Floats:
    """Activity per cycle at which the limit is met, for each draw [MBq]: linear for dose, quadratic for BED."""
    data = doses.data.sel(organ=limit.organ)
    per_mbq = data["dose_per_activity"].to_numpy() / 1000.0
    extra = float(data["cross_bound"]) if missing else 0.0
    per_mbq = per_mbq + extra / doses.injected_activity
    left = np.asarray(limit.value - limit.already)
    if measured:
        left = left - _measured(doses, limit, extra=extra)
    if limit.kind != "dose":
        ratio, repair = _tissue(limit)
        g = organ_g(doses, limit.organ, repair, cycles=cycles, interval=interval)
        if limit.kind == "EQD2":
            left = left * (1.0 + 2.0 / ratio)
        # positive root of D + G D^2/(a/b) = left, in the form that does not cancel for small G
        # (negative where the measured administration alone passed the limit: no activity is allowed)
        left = 2.0 * left / (1.0 + np.sqrt(1.0 + 4.0 * g * np.maximum(left, 0.0) / ratio))
    with np.errstate(divide="ignore"):
        return np.asarray(left / (cycles * per_mbq), dtype=float)


def _reached(
    doses: Doses, limit: Limit, schedule: Cycles, interval: float, *, point: bool, measured: bool = False
) -> Floats:
    """Value of the limited quantity after all cycles, with what was received before [Gy]."""
    data = doses.data.sel(organ=limit.organ)
    per_gbq = data["dose_per_activity_point" if point else "dose_per_activity"].to_numpy()
    total = np.asarray(schedule.number * schedule.activity / 1000.0 * per_gbq, dtype=float)
    if limit.kind != "dose":
        ratio, repair = _tissue(limit)
        g = organ_g(doses, limit.organ, repair, cycles=schedule.number, interval=interval, point=point)
        total = total * (1.0 + g * total / ratio)
        if limit.kind == "EQD2":
            total = total / (1.0 + 2.0 / ratio)
    before = _measured(doses, limit, point=point) if measured else 0.0
    return np.asarray(total + limit.already + before)


def _tissue(limit: Limit) -> tuple[float, float]:
    assert limit.alpha_beta is not None and limit.repair_half_life is not None  # __post_init__ saw to it
    return limit.alpha_beta, limit.repair_half_life


def _quantile(values: Floats, probability: float) -> float:
    """Largest A of which at most the part `probability` of `values` lies strictly below."""
    return float(np.sort(values)[min(int(np.floor(probability * values.size + 1e-9)), values.size - 1)])


def _schedule(
    doses: Doses,
    limits: tuple[Limit, ...],
    cycles: int,
    interval: float,
    probability: float,
    most: float,
    measured: bool,
) -> Cycles:
    allowed = np.stack([_allowed(doses, x, cycles, interval, measured=measured) for x in limits])
    each = tuple(_quantile(row, probability) for row in allowed)
    together = _quantile(allowed.min(axis=0), probability)
    with_missing = np.stack(
        [_allowed(doses, x, cycles, interval, measured=measured, missing=True) for x in limits]
    ).min(axis=0)
    known = bool(np.all(np.isfinite(with_missing)))
    limiting = limits[int(np.argmin(each))]
    return Cycles(
        number=cycles,
        activity=max(min(together, most), 0.0),
        limiting="maximum activity" if most < together else f"{limiting.organ} ({limiting.kind})",
        organ_activity=each,
        with_missing=max(min(_quantile(with_missing, probability), most), 0.0) if known else float("nan"),
        allowed=allowed,
    )


def _plan_warnings(
    doses: Doses, limits: tuple[Limit, ...], schedules: tuple[Cycles, ...], probability: float, unit: str
) -> tuple[str, ...]:
    warnings = list(doses.warnings)
    draws = schedules[0].allowed.shape[1]
    if draws == 1:
        warnings.append("the doses carry no uncertainty: the plan only says where the point estimates meet the limits")
    elif draws * probability < 5:
        warnings.append(
            f"{draws} draws are few for a probability of {probability:g}; use {int(5 / probability) + 1} or more"
        )
    unlimited = [x for x in doses.organs if x not in {limit.organ for limit in limits}]
    if unlimited:
        warnings.append(f"no limit was set for: {', '.join(unlimited)}")
    low, high = schedules[0].activity, schedules[0].with_missing
    if low <= 0:
        warnings.append("no activity keeps the limits at this probability: what was given already uses them up")
    if np.isfinite(high) and high < low:
        less = show(100.0 * (1.0 - high / low), 2)
        warnings.append(f"if all the dose that is not included were real, the activity would be {less} % lower")
    given = doses.injected_activity
    ratios = [x.activity / given for x in schedules]
    if max(ratios) > 2 or min(ratios) < 0.5:
        text = f"{show(convert(given, 'MBq', unit))} {unit}"
        warnings.append(
            f"planned activities differ more than twofold from the measured {text}: saturable uptake may not scale"
        )
    warnings.append("every cycle is taken to repeat the measured one: same dose per activity and same kinetics")
    return tuple(dict.fromkeys(warnings))
