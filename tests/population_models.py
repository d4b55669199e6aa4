"""Small populations whose likelihood is known, for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from synthetic import Array, curve, curves, protocol

from pkmodel.data import Curves
from pkmodel.inference.noise import Noise, Scatter, Size
from pkmodel.inference.population.crowd import Crowd, gather_crowd
from pkmodel.inference.population.effects import Effects
from pkmodel.inference.population.people import bind_people
from pkmodel.model import Model
from pkmodel.model_file import model_from_toml
from pkmodel.regimen import Regimen

# Wang 2007, doi:10.1007/s10928-007-9060-6: values at 0 and 1 h
WANG = (10.68, 3.6837, 10.402, 6.454, 9.8814, 5.8565, 9.3408, 5.6209, 10.082, 6.7583, 9.8938, 6.5049, 9.8908, 6.9557,
        10.234, 6.4488, 9.9882, 6.7112, 9.6736, 6.6402)  # fmt: skip

_DECAY = """
name = "decay"
title = "one exponential"
[parameters]
ke = { value = 0.5, unit = "1/h", lower = 0, meaning = "rate", source = "made up", status = "assumed" }
V = { value = 1, unit = "L", lower = 0, meaning = "volume", source = "made up", status = "assumed" }
[compartments]
central = { unit = "nmol", region = "blood" }
[administration]
injection = { central = "1" }
[[flows]]
from = "central"
rate = "ke*central"
[observables]
plasma = { formula = "central/V", unit = "nmol/L", meaning = "concentration" }
"""


_LINE = """
name = "line"
title = "linear in its free parameters"
[parameters]
ke = { value = 0.5, unit = "1/h", lower = 0, meaning = "rate", source = "made up", status = "assumed" }
level = { value = 2, unit = "nmol", meaning = "level", source = "made up", status = "assumed" }
share = { value = 1, unit = "1", meaning = "share", source = "made up", status = "assumed" }
[compartments]
central = { unit = "nmol", region = "blood" }
[administration]
injection = { central = "1" }
[[flows]]
from = "central"
rate = "ke*central"
[observables]
plasma = { formula = "level + share*central", unit = "nmol", meaning = "what is measured" }
"""


def line_model() -> Model:
    """A level and a share of 10 exp(-0.5 t): its population likelihood is a normal density."""
    return model_from_toml(_LINE)


def decay_model() -> Model:
    """One exponential with volume."""
    return model_from_toml(_DECAY)


def samples(
    subject: str,
    t: Sequence[float] | Array,
    y: Sequence[float] | Array,
    *,
    unit: str = "nmol/L",
    occasion: str = "",
    dose: float = 10.0,
    censored: Sequence[int] | None = None,
    **covariates: float | str,
) -> Curves:
    """Plasma samples of one subject after a bolus."""
    cut = {} if censored is None else {"censored": np.array(censored, dtype=np.int8)}
    one = curve(
        "plasma", t, y, unit=unit, nuclide="", decay_corrected=True, kind="plasma", injected_activity=None, **cut
    )
    return curves(one, subject=subject, regimen=Regimen(f"{dose} nmol once"), occasion=occasion, covariates=covariates)


def noise_of(additive: float = 0.0, proportional: float = 0.0, kind: str = "normal") -> Noise:
    """Noise of one endpoint."""
    sizes = [Size(n, v) for n, v in (("additive", additive), ("proportional", proportional)) if v]
    names = [s.name for s in sizes]
    where = [names.index(n) if n in names else -1 for n in ("additive", "proportional")]
    return Noise(("plasma",), (Scatter(kind, *where),), tuple(sizes))  # type: ignore[arg-type]


def wang_crowd(values: Sequence[float], *, additive: float = 0.0, proportional: float = 0.0) -> Crowd:
    """Subjects with a value at 0 and at 1 h each."""
    data = [samples(str(i + 1), [0.0, 1.0], values[2 * i : 2 * i + 2]) for i in range(len(values) // 2)]
    effects = Effects(between={"ke": 0.2})
    people, _ = bind_people(decay_model(), data, protocol("ke"), effects)
    return gather_crowd(people, effects, noise_of(additive, proportional))
