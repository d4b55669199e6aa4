"""`PopulationFit`: estimates with their uncertainty, the subjects' own parameters, and what speaks against them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import FitError, did_you_mean
from ...model import Model
from ...units import factor
from ..likelihood import Likelihood
from ..protocol import Protocol
from ..slots import Slot
from .crowd import Crowd
from .effects import Effects
from .minimise import Minimum
from .predictions import predictions, shrinkage
from .uncertainty import Information, Matrix

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ..population_file import PopulationModel
    from .diagnosis.goodness import Goodness
    from .diagnosis.prediction_errors import PredictionErrors
    from .diagnosis.profiling import PopulationProfile
    from .diagnosis.visual_check import VisualCheck

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class IndividualFit:
    """One subject's parameters, given the population and its own data.

    Parameters
    ----------
    subject : name [text]
    slots : its parameters
    x : (k,) array, most likely values on the scale of the fit
    covariance : (k, k) array, conditional on the population's estimates
    effects : (q,) array, random effects
    likelihood : its data and model
    """

    subject: str
    slots: tuple[Slot, ...]
    x: Array
    covariance: Array
    effects: Array
    likelihood: Likelihood

    @property
    def values(self) -> dict[str, float]:
        """Parameters in their declared units."""
        return {s.label: float(s.from_scale(v)) / factor(s.unit) for s, v in zip(self.slots, self.x, strict=True)}

    def draw(self, n: int, seed: int = 0) -> Array:
        """Draws of the parameters on the scale of the fit, (n, k), normal about the mode."""
        return np.random.default_rng(seed).multivariate_normal(self.x, self.covariance, size=n, method="eigh")

    def predict(self, times: ArrayLike) -> pd.DataFrame:
        """Observables at other times.

        Parameters
        ----------
        times : (m,) array, increasing [h]

        Returns
        -------
        Table with a column per observable, canonical units; of the first occasion.
        """
        from dataclasses import replace as changed

        import pandas as pd

        block = self.likelihood.blocks[0]
        grid = np.atleast_1d(np.asarray(times, dtype=float))
        problem = changed(block.problem, times=grid)
        run = problem.solve(block.parameters(self.likelihood.values(self.x)))
        return pd.DataFrame(run.observed.T, columns=list(problem.model.observables), index=pd.Index(grid, name="t"))


@dataclass(frozen=True, eq=False)
class PopulationFit:
    """A model fitted to all subjects at once.

    `phi` is on the scale of the fit: typical values, covariate coefficients, Cholesky factors of the covariances (log
    on the diagonal) and log noise, named by `crowd.layout.names`.

    Parameters
    ----------
    model : of the first subject
    crowd : subjects, their data, and where each number lies
    protocol, effects : as asked for
    method : how it was estimated [text]
    minimum : where the search ended
    information : R and S, or None where not asked for
    matrix : which covariance the standard errors come from [text]
    minus_two_log_likelihood : with all constants
    monte_carlo_error : standard error of that number, 0 where no random numbers were used
    warnings : what a reader should know [text]
    """

    model: Model
    crowd: Crowd
    protocol: Protocol
    effects: Effects
    method: str
    minimum: Minimum
    information: Information | None
    matrix: Matrix
    minus_two_log_likelihood: float
    monte_carlo_error: float = 0.0
    warnings: tuple[str, ...] = ()

    # -- numbers -------------------------------------------------------------------------------------------------

    @property
    def phi(self) -> Array:
        """Estimates on the scale of the fit."""
        return self.minimum.phi

    @property
    def points(self) -> int:
        """Values that count, without censored ones."""
        data = self.crowd.data
        return int((data.counted & (data.censored == 0)).sum())

    @property
    def objective(self) -> float:
        """-2 log L without N log(2 pi), as NONMEM prints it."""
        return self.minus_two_log_likelihood - self.points * math.log(2 * math.pi)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names."""
        return tuple(p.name for p in self.crowd.people)

    @property
    def aic(self) -> float:
        """Akaike's criterion, from -2 log L with all constants."""
        return self.minus_two_log_likelihood + 2 * self.phi.size

    @property
    def bic(self) -> float:
        """Bayesian criterion with log of the number of values for every parameter."""
        return self.minus_two_log_likelihood + self.phi.size * math.log(self.crowd.data.points)

    @property
    def bic_mixed(self) -> float:
        """Bayesian criterion for mixed models: subjects count for what varies, values for the rest (Delattre 2014,
        doi:10.1214/14-EJS890)."""
        layout = self.crowd.layout
        varying = {*layout.varying.tolist(), *layout.switching.tolist()}
        random = len(varying) + len(layout.between.entries) + len(layout.occasion.entries)
        random += sum(1 for s in layout.shifts if s.coefficient >= 0 and set(layout.of[s.columns].tolist()) <= varying)
        fixed = self.phi.size - random
        people = len(self.crowd.people)
        return self.minus_two_log_likelihood + random * math.log(people) + fixed * math.log(self.crowd.data.points)

    @cached_property
    def covariance(self) -> Array:
        """Covariance of `phi`; nan where there is none."""
        nothing = np.full((self.phi.size, self.phi.size), np.nan)
        return nothing if self.information is None else self.information.covariance(self.matrix)

    @property
    def standard_errors(self) -> Array:
        """Of `phi`."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.diag(self.covariance))

    @cached_property
    def correlation(self) -> pd.DataFrame:
        """Correlation of the estimates."""
        import pandas as pd

        se, names = self.standard_errors, list(self.crowd.layout.names)
        return pd.DataFrame(self.covariance / np.outer(se, se), index=names, columns=names)

    @property
    def condition_number(self) -> float:
        """Largest over smallest eigenvalue of that correlation."""
        c = self.correlation.to_numpy()
        if not np.isfinite(c).all():
            return math.nan
        values = np.linalg.eigvalsh(c)
        return float(values[-1] / values[0]) if values[0] > 0 else math.inf

    # -- covariances ---------------------------------------------------------------------------------------------

    @property
    def omega(self) -> pd.DataFrame:
        """Covariance between subjects, on the scale of the fit."""
        import pandas as pd

        layout = self.crowd.layout
        names = [layout.slots[k].label for k in layout.varying]
        return pd.DataFrame(layout.omega(self.phi), index=names, columns=names)

    @property
    def occasion_omega(self) -> pd.DataFrame:
        """Covariance between occasions, on the scale of the fit."""
        import pandas as pd

        layout = self.crowd.layout
        names = [layout.slots[k].label for k in layout.switching]
        return pd.DataFrame(layout.occasion_omega(self.phi), index=names, columns=names)

    @property
    def noise(self) -> dict[str, float]:
        """Sizes of the residual error, by name, in the unit of the data."""
        return self.crowd.noise.values(self.crowd.layout.part(self.phi, "noise"))

    @property
    def values(self) -> dict[str, float]:
        """Typical values in their declared units."""
        layout = self.crowd.layout
        theta = layout.part(self.phi, "theta")
        return {s.label: float(s.from_scale(v)) / factor(s.unit) for s, v in zip(layout.slots, theta, strict=True)}

    @cached_property
    def shrinkage(self) -> Mapping[str, float]:
        """Shrinkage of each random effect and of the residuals (``"residuals"``), as a fraction."""
        layout = self.crowd.layout
        between, occasion, eps = shrinkage(
            self.crowd, self.phi, self.minimum.at.b, self.predictions["IWRES"].to_numpy(dtype=float)
        )
        out = {layout.slots[k].label: float(v) for k, v in zip(layout.varying, between, strict=True)}
        out |= {
            f"{layout.slots[k].label} (occasion)": float(v) for k, v in zip(layout.switching, occasion, strict=True)
        }
        return out | {"residuals": eps}

    # -- subjects ------------------------------------------------------------------------------------------------

    @cached_property
    def individual_fits(self) -> dict[str, IndividualFit]:
        """Every subject's most likely parameters with their conditional covariance."""
        layout, at = self.crowd.layout, self.minimum.at
        x = layout.typical(self.phi) + at.b @ layout.design.T
        out = {}
        for i, person in enumerate(self.crowd.people):
            place = layout.place[i]
            spread = layout.design[place] @ at.spread[i] @ layout.design[place].T
            slots = person.likelihood.slots
            out[person.name] = IndividualFit(person.name, slots, x[i, place], spread, at.b[i], person.likelihood)
        return out

    def __getitem__(self, subject: str) -> IndividualFit:
        if subject not in self.individual_fits:
            raise FitError(
                f"no subject {subject!r}{did_you_mean(subject, self.subjects)}; known: {', '.join(self.subjects)}"
            )
        return self.individual_fits[subject]

    @cached_property
    def individuals(self) -> pd.DataFrame:
        """One row per subject: parameters in their declared units (empirical Bayes estimates)."""
        import pandas as pd

        return pd.DataFrame({n: f.values for n, f in self.individual_fits.items()}).T.rename_axis("subject")

    @cached_property
    def etas(self) -> pd.DataFrame:
        """One row per subject: random effects between subjects and their conditional SDs, on the scale of the fit."""
        import pandas as pd

        layout, at = self.crowd.layout, self.minimum.at
        columns: dict[str, Any] = {}
        for n, k in enumerate(layout.varying):
            columns[f"eta {layout.slots[k].label}"] = at.b[:, n]
            columns[f"sd {layout.slots[k].label}"] = np.sqrt(at.spread[:, n, n])
        return pd.DataFrame(columns, index=pd.Index(self.subjects, name="subject"))

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """One row per value: PRED, IPRED, RES, WRES, IRES, IWRES, CPRED, CRES, CWRES (see `predictions`)."""
        return predictions(self.crowd, self.phi, self.minimum.at.b)

    # -- what follows --------------------------------------------------------------------------------------------

    def population(self, source: str = "") -> PopulationModel:
        """What was learned, to be saved and applied to new subjects.

        Parameters
        ----------
        source : where the data come from [text]
        """
        from .transfer import population_of

        return population_of(self, source)

    # -- diagnosis -----------------------------------------------------------------------------------------------

    def gof(self) -> Goodness:
        """Residuals, random effects and covariates, with figures (see `diagnosis.goodness`)."""
        from .diagnosis.goodness import goodness

        return goodness(self)

    def vpc(self, **settings: Any) -> VisualCheck:
        """Visual predictive check, ``corrected=True`` by predictions (see `diagnosis.visual_check`)."""
        from .diagnosis.visual_check import visual_check

        return visual_check(self, **settings)

    def npde(self, **settings: Any) -> PredictionErrors:
        """Normalised prediction distribution errors with tests (see `diagnosis.prediction_errors`)."""
        from .diagnosis.prediction_errors import prediction_errors

        return prediction_errors(self, **settings)

    def individual_plots(self, *subjects: str, **settings: Any) -> list[Figure]:
        """Pages with the data and curves of single subjects, all unless named; ``log=True``, ``rows``, ``columns``."""
        from .diagnosis.individual_curves import individual_curves

        return individual_curves(self, subjects).plot(**settings)

    def profile(self, name: str, **settings: Any) -> PopulationProfile:
        """Likelihood profile of a population parameter, with interval (see `diagnosis.profiling`)."""
        from .diagnosis.profiling import profile

        return profile(self, name, **settings)

    @property
    def table(self) -> pd.DataFrame:
        """Typical values and coefficients with SE, RSE, 95 % interval, spread between subjects and shrinkage."""
        from .table import parameters

        return parameters(self)

    def __str__(self) -> str:
        from .table import as_text

        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from .table import as_html

        return as_html(self)
