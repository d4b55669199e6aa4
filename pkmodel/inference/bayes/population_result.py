"""`BayesPopulation`: what a population's draws say, and the `PopulationModel` they leave behind."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...units import factor
from ..population.crowd import Crowd
from ..population_file import PopulationModel
from ..population_parts import CovariateEffect, EndpointNoise, PopulationDraws
from ..protocol import Protocol
from ..slots import Slot
from .judged import judge, judge_data, verdict
from .priors import AUXILIARY, Prior

if TYPE_CHECKING:
    import pandas as pd

type Floats = NDArray[np.float64]
KEPT = 2000  # draws that a population file keeps at most


@dataclass(frozen=True)
class BayesPopulation:
    """The posterior of a population; tables in declared units, `x` of the tree on the scale of the fit.

    Parameters
    ----------
    crowd : subjects and where their parameters are
    tree : xarray.DataTree of ArviZ
    priors : of all numbers of the population, by name
    quality : R-hat, effective draws, divergences, E-BFMI
    how, seconds : how it was computed [text], and how long compiling and sampling took [s]
    """

    crowd: Crowd
    tree: Any
    protocol: Protocol
    priors: Mapping[str, Prior]
    quality: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    how: str = ""
    seconds: tuple[float, float] = (0.0, 0.0)
    method: str = "bayes"

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Parameters of the typical subject."""
        return self.crowd.layout.slots

    @property
    def posterior(self) -> Any:
        """Draws as a Dataset over chain and draw."""
        return self.tree["posterior"].to_dataset()

    @property
    def names(self) -> list[str]:
        """Numbers of the population: typical values, covariate effects, spreads, noise."""
        return [str(n) for n, v in self.posterior.data_vars.items() if v.ndim == 2]

    def _draws(self, name: str) -> Floats:
        """All draws of one variable, (d, ...)."""
        v = self.posterior[name].transpose("chain", "draw", ...).to_numpy()
        return np.asarray(v.reshape(-1, *v.shape[2:]), dtype=float)

    @cached_property
    def x(self) -> Floats:
        """Everybody's parameters on the scale of the fit, (d, people, columns)."""
        return self._draws("x")

    @cached_property
    def shrinkage(self) -> dict[str, float]:
        """Of each varying parameter, 1 - SD of the subjects' posterior means / SD that they should have [%].

        Means over the occasions of a subject: they should vary as the spread between subjects and, over the root of
        their number, that between occasions.
        """
        layout, out = self.crowd.layout, {}
        visits = float(np.mean([len(p.occasions) for p in self.crowd.people]))
        middle = self._centres()
        for j, k in enumerate(layout.varying):
            name = layout.slots[k].label
            if f"omega {name}" in self.posterior:
                variance = self._draws(f"omega {name}") ** 2
                if f"occasion {name}" in self.posterior:
                    variance = variance + self._draws(f"occasion {name}") ** 2 / visits
                spread = float(np.sqrt(np.median(variance)))
                out[name] = 100 * (1 - float(middle[:, :, j].mean(axis=0).std(ddof=1)) / spread)
        return out

    def _centres(self) -> Floats:
        """Deviation of each subject from the typical one, (d, people, m), occasions averaged."""
        layout = self.crowd.layout
        out = []
        for k in layout.varying:
            at = np.flatnonzero(layout.of == k)
            used = layout.used[:, at]
            mean = (self.x[:, :, at] * used).sum(axis=2) / np.maximum(used.sum(axis=1), 1)
            slot = layout.slots[k]
            typical = np.asarray(slot.to_scale(self._draws(slot.label) * factor(slot.unit)))
            out.append(mean - typical[:, None])
        return np.stack(out, axis=2)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per number of the population: median, SD, 95 % interval, spread as CV, shrinkage, R-hat, draws."""
        import pandas as pd

        units = {s.label: s.unit for s in self.slots} | {s.name: s.unit for s in self.crowd.noise.sizes}
        rows = []
        for n in self.names:
            v = self._draws(n)
            low, value, high = np.quantile(v, [0.025, 0.5, 0.975])
            q = self.quality["parameters"][n]
            varies = f"omega {n}" in self.posterior
            cv = 100 * np.sqrt(np.expm1(np.median(self._draws(f"omega {n}")) ** 2)) if varies else np.nan
            shrunk = self.shrinkage.get(n, np.nan)
            worth = min(q["ess_bulk"], q["ess_tail"])
            rows.append([n, value, v.std(ddof=1), low, high, cv, shrunk, q["rhat"], worth, units.get(n, "")])
        columns = ["label", "value", "sd", "low", "high", "bsv_cv_percent", "shrinkage_percent", "rhat", "ess", "unit"]
        return pd.DataFrame(rows, columns=columns).set_index("label")

    @cached_property
    def individuals(self) -> pd.DataFrame:
        """One row per subject, occasion and parameter: median, SD and 95 % interval, in declared units."""
        import pandas as pd

        layout, rows = self.crowd.layout, []
        for i, person in enumerate(self.crowd.people):
            for c, slot in enumerate(layout.columns):
                if not layout.used[i, c]:
                    continue
                v = np.asarray(slot.from_scale(self.x[:, i, c])) / factor(slot.unit)
                low, value, high = np.quantile(v, [0.025, 0.5, 0.975])
                visit = person.occasions[int(slot.occasion) - 1] if slot.occasion else ""
                label = layout.slots[layout.of[c]].label
                rows.append([person.name, visit, label, value, v.std(ddof=1), low, high, slot.unit])
        columns = ["subject", "occasion", "parameter", "value", "sd", "low", "high", "unit"]
        return pd.DataFrame(rows, columns=columns)

    def loo(self) -> Any:
        """PSIS-LOO over single values (Vehtari et al. 2017, doi:10.1007/s11222-016-9696-4)."""
        import arviz as az

        return az.loo(self.tree, pointwise=True)

    def population(self, *, source: str = "") -> PopulationModel:
        """What is known of the population, with draws, to be saved and used for the next patient.

        Parameters
        ----------
        source : where the data come from [text]
        """
        layout, first = self.crowd.layout, self.crowd.people[0].likelihood
        k = len(layout.slots)
        columns = [np.asarray(s.to_scale(self._draws(s.label) * factor(s.unit))) for s in layout.slots]
        theta = np.stack(columns, axis=1)
        every = np.linspace(0, len(theta) - 1, min(KEPT, len(theta))).astype(int)
        omega, visits = (np.zeros((len(theta), k, k)) for _ in range(2))
        for word, which, out in (("omega", layout.varying, omega), ("occasion", layout.switching, visits)):
            start = (layout.between if word == "omega" else layout.occasion).start
            for j, n in enumerate(which):
                name = f"{word} {layout.slots[n].label}"
                out[:, n, n] = self._draws(name) ** 2 if name in self.posterior else start[j, j] ** 2
        self._correlate(omega)
        sizes = {s.name: s.start for s in self.crowd.noise.sizes}
        sizes |= {n: float(np.median(self._draws(n))) for n in sizes if n in self.posterior}
        named = list(sizes)
        noise = {}
        for e, (endpoint, scatter) in enumerate(
            zip(self.crowd.noise.endpoints, self.crowd.noise.scatters, strict=True)
        ):
            additive = sizes[named[scatter.additive]] if scatter.additive >= 0 else 0.0
            proportional = sizes[named[scatter.proportional]] if scatter.proportional >= 0 else 0.0
            unit = self.crowd.data.units[e] if additive else ""
            noise[endpoint] = EndpointNoise(kind=scatter.kind, additive=additive, proportional=proportional, unit=unit)
        model, block = first.model, first.blocks[0]
        free = set(block.indices) | {f for f, _ in block.ties}
        names = block.problem.compiled.parameters
        fixed = {
            n: f"{v / factor(model.parameters[n].unit)!r} {model.parameters[n].unit}"
            for i, (n, v) in enumerate(zip(names, block.values.tolist(), strict=True))
            if i not in free
        }
        effects = tuple(
            CovariateEffect(
                parameter=label, covariate=s.relation.covariate, kind=s.relation.kind,
                coefficient=self._coefficient(s), reference=s.relation.reference, unit=s.relation.unit,
                level=s.relation.level,
            )
            for s in layout.shifts
            for label in dict.fromkeys(layout.slots[layout.of[c]].label for c in s.columns)
        )  # fmt: skip
        return PopulationModel(
            model=model.name, digest=model.digest, slots=layout.slots, theta=theta.mean(axis=0),
            omega=np.median(omega, axis=0), noise=noise, nuclide=model.nuclide or "",
            theta_covariance=np.atleast_2d(np.cov(theta, rowvar=False)), occasion_omega=np.median(visits, axis=0),
            fixed=fixed, covariates=effects, subjects=len(self.crowd.people), source=source,
            method=f"Bayes ({self.how})", draws=PopulationDraws(theta[every], omega[every], visits[every]),
        )  # fmt: skip

    def _coefficient(self, shift: Any) -> float:
        r = shift.relation
        name = f"{r.covariate} on {r.parameter}{f' ({r.level})' if r.level else ''}"
        return float(np.median(self._draws(name))) if name in self.posterior else r.coefficient

    def _correlate(self, omega: Floats) -> None:
        """Covariances from the correlations drawn."""
        from .correlations import groups_of

        for n, members in enumerate(groups_of(self.crowd.layout.between.entries)):
            found = self._draws(f"correlation {n}")
            at = [int(self.crowd.layout.varying[i]) for i in members]
            for a, i in enumerate(at):
                for b, j in enumerate(at):
                    if i != j:
                        omega[:, i, j] = found[:, a, b] * np.sqrt(omega[:, i, i] * omega[:, j, j])

    def to_netcdf(self, path: str | Path) -> None:
        """Write the tree as NetCDF; ``arviz.from_netcdf`` reads it."""
        from .groups import plain

        plain(self.tree).to_netcdf(path, engine="h5netcdf")

    def _title(self) -> str:
        people, posterior = self.crowd.people, self.posterior
        return (
            f"Population of {people[0].likelihood.model.name}: {len(people)} subjects, {self.crowd.data.points} "
            f"values, {posterior.sizes['chain']} chains of {posterior.sizes['draw']} draws\n"
            f"{verdict(dict(self.quality), posterior.sizes['chain'])}; {self.how}"
        )

    def _printed(self) -> pd.DataFrame:
        t = self.table.reset_index()
        t["95 % interval"] = [f"{a:.4g} to {b:.4g}" for a, b in zip(t["low"], t["high"], strict=True)]
        for c, form in (("value", "{:.4g}"), ("sd", "{:.2g}"), ("rhat", "{:.3f}"), ("ess", "{:.0f}")):
            t[c] = t[c].map(form.format)
        for c, name in (("bsv_cv_percent", "between subjects CV %"), ("shrinkage_percent", "shrinkage %")):
            t[name] = ["" if np.isnan(v) else f"{v:.1f}" for v in t[c]]
        t = t.rename(columns={"label": "parameter", "value": "median", "rhat": "R-hat", "ess": "draws worth"})
        order = "parameter,median,sd,95 % interval,between subjects CV %,shrinkage %,R-hat,draws worth,unit"
        return t[order.split(",")]

    def __str__(self) -> str:
        from ..words import aligned

        lines = [self._title(), "", *aligned(self._printed())]
        return "\n".join([*lines, *(f"warning: {w}" for w in self.warnings)])

    def _repr_html_(self) -> str:
        title = "<br>".join(html.escape(self._title()).split("\n"))
        notes = "".join(f"<li>{html.escape(w)}</li>" for w in self.warnings)
        return f"<p>{title}</p>{self._printed().to_html(index=False, border=0)}<ul>{notes}</ul>"


def finished(
    crowd: Crowd,
    tree: Any,
    typical: Mapping[str, Prior],
    spreads: Mapping[str, Prior],
    sizes: Mapping[str, Prior],
    *,
    warnings: tuple[str, ...],
    how: str,
    seconds: tuple[float, float],
    protocol: Protocol,
) -> BayesPopulation:
    """Judge the draws and put everything together."""
    posterior = tree["posterior"].to_dataset()
    unwanted = ("raw ", "subjects", "occasions")
    kept = [n for n in posterior.data_vars if not str(n).startswith(unwanted)]
    kept = [n for n in kept if not str(n).endswith((*AUXILIARY, "__"))]
    tree["posterior"] = posterior[kept]
    numbers = [str(n) for n in kept if posterior[n].ndim == 2]
    said, quality = judge(tree, [*numbers, "x"])
    quality["parameters"] = {n: v for n, v in quality["parameters"].items()}
    return BayesPopulation(
        crowd, tree, protocol, {**typical, **spreads, **sizes}, quality, (*warnings, *judge_data(crowd.data), *said),
        how, seconds,
    )  # fmt: skip
