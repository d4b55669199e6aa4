"""Stepwise search of covariate effects: forward, then backward (Jonsson & Karlsson 1998, doi:10.1023/A:1011970125687).

Forward, the candidate that lowers -2 log L most significantly is added while its p (likelihood ratio) is below a stated
one, or while it lowers the Bayesian criterion for mixed models. Backward, the effect that is missed least is taken out
while its p is above a stricter one. The p values are those of single tests: after a search they are optimistic.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from ....errors import FitError
from ....progress import progress
from ..crowd import Crowd, gather_crowd
from ..effects import Relation
from ..judged import judge
from ..linearised import APPROXIMATIONS, Approximation
from ..minimise import minimise
from ..uncertainty import information
from .candidates import Candidate, candidate, candidates_of, check_occasions
from .search_log import SearchLog, digest_of, key_of, open_log
from .shown import markup, text

if TYPE_CHECKING:
    import pandas as pd

    from ..result import PopulationFit

Array = NDArray[np.float64]
FORWARD, BACKWARD = 0.05, 0.01


@dataclass(frozen=True, eq=False)
class CovariateSearch:
    """What was tried, and what remained.

    Parameters
    ----------
    fit : the final model, with the standard errors of the first fit's kind
    table : one row per fit: step, direction, candidate, objective, change against the model of the step before, degrees
        of freedom, p, change of BIC, chosen, remark
    chosen : effects in the final model [text]
    criterion : in words [text]
    interrupted : whether it was stopped; with a log it goes on from there
    notes : what a reader should know [text]
    """

    fit: PopulationFit
    table: pd.DataFrame
    chosen: tuple[str, ...]
    criterion: str
    interrupted: bool
    notes: tuple[str, ...]

    def _title(self) -> list[str]:
        return [f"covariate search, {self.criterion}: {', '.join(self.chosen) or 'no effect remains'}"]

    def __str__(self) -> str:
        return text(self._title(), [self.table], self.notes)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return markup(self._title(), [self.table], self.notes)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """A model of the search: its candidates and where its minimum lies."""

    chosen: tuple[Candidate, ...]
    objective: float
    phi: Array
    names: tuple[str, ...]
    modes: Array | None = None
    remark: str = ""


class _Stopped(Exception):
    """The user's wish, not an error."""


def search_covariates(
    fit: PopulationFit,
    candidates: Sequence[Candidate | Relation] | None = None,
    *,
    forward: float | Literal["bic"] = FORWARD,
    backward: float | None = BACKWARD,
    log: str | Path | None = None,
) -> CovariateSearch:
    """Search covariate effects, beginning with a fit without them.

    Parameters
    ----------
    fit : the base; a fit by "saem" or "importance" is searched with the FOCE-I objective
    candidates : relations (see `relation`) or `Candidate`; default `candidates_of` the fit
    forward : p below which an effect is added (0.05: fall of more than 3.84 for one parameter), or "bic" [1 or text]
    backward : p above which an effect is taken out again (0.01: rise of less than 6.63); None leaves all in. With
        "bic" an effect is taken out where that lowers the criterion [1]
    log : file that every fit is written to at once; a search of the same data goes on from it

    Raises
    ------
    FitError
        There is no candidate, or one is of no use.
    """
    import pandas as pd

    bic = forward == "bic"
    for p in () if bic else (forward, *((backward,) if backward is not None else ())):
        if isinstance(p, str) or not 0 < p < 1:
            raise FitError(f"criterion {p!r} is not known; allowed: a p value between 0 and 1, or forward='bic'")
    asked = candidates if candidates is not None else candidates_of(fit)
    if isinstance(asked, str) or (wrong := [c for c in asked if not isinstance(c, Candidate | Relation)]):
        found = asked if isinstance(asked, str) else wrong[0]
        raise FitError(f"candidate {found!r} is no relation; write for example relation('CL', 'weight')")
    open_ = [candidate(c) for c in asked]
    there = {(s.relation.parameter, s.relation.covariate) for s in fit.crowd.layout.shifts}
    if twice := [c.name for c in open_ if c.pair in there]:
        raise FitError(
            f"{', '.join(twice)} is already in the fit; leave the candidate out, or begin with a fit without"
        )
    if not open_:
        raise FitError("no candidate: no covariate differs between subjects; give covariates= to the fit")
    check_occasions(fit.crowd, open_)
    work = _Work(fit, open_log(log))
    for c in open_:
        work.crowd([c])  # a wrong name or a covariate that is missing is said before anything is computed
    rows: list[dict[str, Any]] = []
    interrupted = False
    state = _State((), math.nan, fit.phi, fit.crowd.layout.names)
    try:
        state = work.at((), state)
        rows.append({"step": 0, "direction": "base", "candidate": "", "objective": state.objective, "chosen": True})
        step = 0
        while open_:
            step += 1
            tried = _tried(work, state, [(c, (*state.chosen, c)) for c in open_], f"covariates, step {step}")
            best = _judge(work, rows, step, "forward", state, tried, None if bic else float(forward))
            if best is None:
                break
            state = best
            pairs = {c.pair for c in state.chosen}
            open_ = [c for c in open_ if c.pair not in pairs]
        while backward is not None and state.chosen:
            step += 1
            out = [(c, tuple(k for k in state.chosen if k is not c)) for c in state.chosen]
            tried = _tried(work, state, out, f"covariates, step {step} backward")
            best = _judge(work, rows, step, "backward", state, tried, None if bic else backward)
            if best is None:
                break
            state = best
    except _Stopped:
        interrupted = True
    notes = [
        "interrupted: give log= to go on from there" if log is None else f"interrupted: run it again with log={log}"
    ]
    notes = notes if interrupted else []
    if fit.method not in APPROXIMATIONS:
        notes.append(f"the base is by {fit.method}; the search and its final fit are by FOCE-I")
    kept = tuple(c.name for c in state.chosen)
    if kept:
        notes.append("p values and effects after a search are optimistic; confirm them with other data or simulation")
    words = (
        "by BIC for mixed models"
        if bic
        else f"forward p < {forward:g}" + (f", backward p < {backward:g}" if backward is not None else "")
    )
    final = work.final(state, interrupted) if kept else fit
    return CovariateSearch(final, pd.DataFrame(rows), kept, words, interrupted, tuple(notes))


@dataclass(slots=True)
class _Work:
    """Fits models of the search, or finds them in the log."""

    fit: PopulationFit
    log: SearchLog
    digest: str = ""

    def __post_init__(self) -> None:
        self.digest = digest_of(self.fit)

    @property
    def kind(self) -> Approximation:
        return self.fit.method if self.fit.method in APPROXIMATIONS else "focei"

    def crowd(self, chosen: Sequence[Candidate]) -> Crowd:
        """The subjects with some effects added."""
        if not chosen:
            return self.fit.crowd
        added = tuple(r for c in chosen for r in c.relations)
        effects = self.fit.effects.replace(covariates=(*self.fit.effects.covariates, *added))
        return gather_crowd(self.fit.crowd.people, effects, self.fit.crowd.noise)

    def at(self, chosen: Sequence[Candidate], begin: _State) -> _State:
        """The minimum of a model, searched from that of another."""
        chosen = tuple(chosen)
        key = key_of(self.digest, [r for c in chosen for r in c.relations])
        if known := self.log.known.get(key):
            return _State(
                chosen, known["objective"], np.array(known["phi"]), tuple(known["names"]), None, known["remark"]
            )
        began = time.perf_counter()
        crowd = self.crowd(chosen)
        try:
            old = dict(zip(begin.names, begin.phi.tolist(), strict=True))
            names = crowd.layout.names
            start = np.array([old.get(n, s) for n, s in zip(names, crowd.layout.start, strict=True)])
            modes = begin.modes if begin.modes is not None else self.fit.minimum.at.b
            found = minimise(crowd, start, kind=self.kind, modes=modes)
        except KeyboardInterrupt:
            raise _Stopped from None
        except FitError as error:
            state = _State(chosen, math.nan, begin.phi, begin.names, None, f"failed: {error}")
        else:
            if found.interrupted:
                raise _Stopped
            remark = "" if found.converged else found.message
            state = _State(chosen, found.at.value, found.phi, names, found.at.b, remark)
        self.log.add(
            key,
            {
                "model": [c.name for c in chosen], "objective": state.objective, "remark": state.remark,
                "names": list(state.names), "phi": state.phi.tolist(), "seconds": time.perf_counter() - began,
            },
        )  # fmt: skip
        return state

    def cost(self, c: Candidate) -> float:
        """What the Bayesian criterion for mixed models takes for an effect (Delattre 2014, doi:10.1214/14-EJS890)."""
        layout = self.fit.crowd.layout
        varying = {*layout.varying.tolist(), *layout.switching.tolist()}
        own = {k for k, s in enumerate(layout.slots) if c.pair[0] in (s.parameter, s.label)}
        n = len(self.fit.crowd.people) if own <= varying else self.fit.crowd.data.points
        return len(c.relations) * math.log(n)

    def final(self, state: _State, interrupted: bool) -> PopulationFit:
        """The last model as a fit."""
        crowd = self.crowd(state.chosen)
        minimum = minimise(crowd, state.phi, kind=self.kind, modes=state.modes)
        found = None
        if self.fit.information is not None and not (interrupted or minimum.interrupted):
            found = information(crowd, minimum.phi, minimum.at.b, self.kind)
        added = tuple(r for c in state.chosen for r in c.relations)
        new = replace(
            self.fit, crowd=crowd, effects=self.fit.effects.replace(covariates=(*self.fit.effects.covariates, *added)),
            method=self.kind, minimum=minimum, information=found, monte_carlo_error=0.0, warnings=(),
            minus_two_log_likelihood=minimum.at.value + self.fit.points * math.log(2 * math.pi),
        )  # fmt: skip
        old = set(judge(self.fit))
        return replace(new, warnings=(*(w for w in self.fit.warnings if w not in old), *judge(new)))


Tried = list[tuple[Candidate, _State]]


def _tried(work: _Work, state: _State, models: list[tuple[Candidate, tuple[Candidate, ...]]], what: str) -> Tried:
    """Each model of a step, searched from the present one."""
    out: Tried = []
    with progress(what, len(models)) as done:
        for moved, chosen in models:
            out.append((moved, work.at(chosen, state)))
            done(1)
    return out


def _judge(
    work: _Work, rows: list[dict[str, Any]], step: int, direction: str, state: _State, tried: Tried, p: float | None
) -> _State | None:
    """Write the rows of a step, and the model that it goes on with, if any.

    Parameters
    ----------
    p : criterion, or None for the Bayesian one
    """
    ahead = direction == "forward"
    scores: list[tuple[float, float]] = []
    for moved, new in tried:
        change = new.objective - state.objective
        df = len(moved.relations)
        chance = float(chi2.sf(max(-change if ahead else change, 0.0), df)) if math.isfinite(change) else math.nan
        bic = change + (1 if ahead else -1) * work.cost(moved)
        rows.append(
            {
                "step": step, "direction": direction, "candidate": moved.name, "objective": new.objective,
                "change": change, "df": df, "p": chance, "change of BIC": bic, "chosen": False, "remark": new.remark,
            }
        )  # fmt: skip
        good = math.isfinite(change) and (bic < 0 if p is None else chance < p if ahead else chance >= p)
        order = bic if p is None else (chance if ahead else -chance)
        scores.append((order, -abs(change) if ahead else abs(change)) if good else (math.inf, math.inf))
    best = min(range(len(scores)), key=lambda k: scores[k], default=-1)
    if best < 0 or scores[best] == (math.inf, math.inf):
        return None
    rows[len(rows) - len(tried) + best]["chosen"] = True
    return tried[best][1]
