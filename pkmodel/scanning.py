"""Virtual scans: what a camera would have measured of virtual patients, and their true time-integrated activity.

They are for planning and for tests of a method against a truth. A value measured is the true activity times
``1 + noise * e``, e standard normal; a value that noise makes negative is left out, as no scanner reports one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .data import Curves
from .errors import SimulationError, did_you_mean
from .model import Model
from .nuclides import nuclide
from .pet.samples import samples
from .regimen import Regimen
from .simulation import simulate
from .units import dimension, factor

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
HALF_LIVES = 25.0  # after the last scan, until which the truth is followed: 3e-8 of the activity is left


def virtual_scans(
    model: Model,
    activity: str,
    patients: pd.DataFrame,
    times: ArrayLike,
    *,
    regions: Sequence[str],
    noise: float | Mapping[str, float],
    seed: int | np.random.Generator,
    amount: str | None = None,
) -> tuple[list[Curves], pd.DataFrame]:
    """Scan virtual patients after one injection.

    Parameters
    ----------
    model : labelled, with observables in units of activity or amount
    activity : what each is given, as ``"7.4 GBq"`` [text]
    patients : one row a patient, one column a parameter, as `cohort` draws them
    times : (m,) array of the scans, increasing [h]
    regions : observables that are scanned [text]
    noise : relative SD of one value, one for all or region -> SD [1]
    seed : of the noise, or a generator to go on with [1]
    amount : ligand given, where the model follows it, as ``"100 nmol"`` [text]

    Returns
    -------
    One `Curves` a patient (activity present at the scan, not decay-corrected), and the true TIA: subjects as index,
    regions as columns [MBq h].

    Raises
    ------
    SimulationError
        The model is not labelled, has no such region, or a patient could not be solved.

    Examples
    --------
    >>> people = cohort("psma617_siebinga2023", 20, seed=1)
    >>> scans, truth = virtual_scans(model, "6 GBq", people, [24, 72, 168], regions=["kidneys"], noise=0.1, seed=1)
    """
    import pandas as pd

    if not isinstance(model, Model):
        raise SimulationError(f"model={model!r}; give a labelled model: label(load_model(name), 'Lu-177')")
    if isinstance(regions, str):
        raise SimulationError(f"regions={regions!r} is one name; give a list: regions=[{regions!r}]")
    if not model.nuclide:
        raise SimulationError(f"{model.who}: not labelled, so a camera sees nothing; use label(model, 'Lu-177')")
    for region in regions:
        if region not in model.observables:
            hint = did_you_mean(region, model.observables)
            raise SimulationError(
                f"{model.who}: no region {region!r}{hint} to scan; known: {', '.join(model.observables)}"
            )
        if dimension(model.observables[region].unit) != dimension("MBq"):
            raise SimulationError(f"{model.who}: {region} is in {model.observables[region].unit!r}, not an activity")
    sizes = _sizes(model.who, noise, regions)
    rng = np.random.default_rng(seed)
    scans = np.atleast_1d(np.asarray(times, dtype=float))
    if not scans.size:
        raise SimulationError(f"{model.who}: no times to scan at; give hours after the injection, as [4, 24, 96]")
    regimen = Regimen(f"{activity} once", amount=amount)
    end = float(scans[-1]) + HALF_LIVES * np.log(2) / nuclide(model.nuclide).decay_constant
    wanted = [*regions, *(f"integral_{r}" for r in regions)]
    run = simulate(model, regimen, [0.0, *scans.tolist(), end], parameters=patients, observables=wanted, rtol=1e-8)
    failed = np.flatnonzero(run["status"].to_numpy())
    if failed.size:
        raise SimulationError(f"{model.who}: {failed.size} patients could not be solved, first {int(failed[0])}")
    names = [f"P{i:03d}" for i in range(len(patients))]
    unit = {r: factor(model.observables[r].unit) for r in regions}
    truth = pd.DataFrame({r: run[f"integral_{r}"].to_numpy()[:, -1] * unit[r] for r in regions}, index=names)
    values = {r: run[r].to_numpy()[:, 1:-1] * unit[r] for r in regions}
    people = []
    for i, name in enumerate(names):
        members = []
        for r in regions:
            measured = values[r][i] * (1 + sizes[r] * rng.standard_normal(scans.size))
            kept = measured > 0
            members.append(
                samples(
                    scans[kept], measured[kept], unit="MBq", time_unit="h", nuclide=model.nuclide,
                    decay_corrected=False, kind="tissue", region=r, subject=name, injected_activity=regimen.activity,
                )
            )  # fmt: skip
        people.append(
            Curves(
                subject=name,
                study=f"virtual patients of {model.name}",
                nuclide=model.nuclide,
                agent=model.name,
                curves=tuple(members),
                injected_activity=regimen.activity,
            )
        )
    return people, truth


def _sizes(who: str, noise: float | Mapping[str, float], regions: Sequence[str]) -> dict[str, float]:
    """Relative SD of each region."""
    given = noise if isinstance(noise, Mapping) else dict.fromkeys(regions, noise)
    if missing := [r for r in regions if r not in given]:
        raise SimulationError(
            f"{who}: no noise for {', '.join(missing)}; give noise={{{missing[0]!r}: 0.1}}, or one SD"
        )
    for r in regions:
        sd = given[r]
        if isinstance(sd, bool) or not isinstance(sd, int | float) or not 0 <= sd < np.inf:
            raise SimulationError(
                f"{who}: noise of {r} is {sd!r}; allowed: a relative SD of 0 or more, as 0.1 for 10 %"
            )
    return {r: float(given[r]) for r in regions}
