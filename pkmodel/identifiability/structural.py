"""Which parameters the planned measurements can determine at all, before there are data: `identify`.

Structural local identifiability: whether two parameter sets that are close together give the same curves, if these
were known without error and at every time. Everything the curves can tell is in their derivatives just after each
dose; the rank of the matrix of the parameter derivatives of these is the number of parameter combinations that are
determined, and its null space says which parameters are not (Sedoglavic 2002, doi:10.1006/jsco.2002.0532; Karlsson,
Anguelova & Jirstrand, IFAC symposium on system identification, 2012). The matrix is computed exactly modulo a prime at
random points: by bad luck a rank may come out too small, never too large, and the best of several points is taken.
Local means that finitely many alternatives may remain (absorption and elimination may be swapped).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from ..errors import ModelError, did_you_mean
from ..expressions import parse, symbol, to_text
from ..model import Model
from ..units import dimension
from .combinations import Free, combinations_of
from .doses import Dose, experiments_of, in_words
from .plan import Plan, active
from .residues import PRIMES, Echelon, Point
from .series import MOST, Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifiability:
    """What `identify` found; true when every parameter is determined."""

    model: str
    observed: tuple[str, ...]
    doses: tuple[str, ...]
    """Each experiment in words."""
    parameters: tuple[str, ...]
    """What was asked for: every free parameter, unknown scales and unknown doses."""
    rank: int
    """How many independent combinations of them are determined."""
    identifiable: tuple[str, ...]
    not_identifiable: tuple[str, ...]
    no_effect: tuple[str, ...]
    """Those of `not_identifiable` that change nothing that is observed."""
    combinations: tuple[sp.Expr, ...]
    """Combinations of the others that are determined."""
    complete: bool
    """Whether `combinations` are all there are."""
    helps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What else could be observed -> the parameters that this would determine."""
    orders: int = 0
    """How many derivatives of the curves were used."""
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every parameter is determined."""
        return not self.not_identifiable

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        verdict = "all identifiable" if self.ok else f"{self.rank} of {len(self.parameters)} determined"
        lines = [f"{self.model}: {verdict} (locally), from {', '.join(self.observed)} after {'; '.join(self.doses)}"]
        lines.append(f"  identifiable      {', '.join(self.identifiable) or 'none'}")
        hidden = [n for n in self.not_identifiable if n not in self.no_effect]
        if hidden:
            lines.append(f"  not identifiable  {', '.join(hidden)}")
        if self.no_effect:
            lines.append(f"  without effect    {', '.join(self.no_effect)}")
        if self.combinations:
            more = "" if self.complete else " (and more that were not found)"
            lines.append(f"  but               {', '.join(to_text(c) for c in self.combinations)}{more}")
        elif not self.complete:
            lines.append("  but               combinations of them that were not found")
        lines += [f"  observing {what} determines {', '.join(names)}" for what, names in self.helps.items()]
        lines += [f"  note {n}" for n in self.notes]
        return "\n".join(lines)


def identify(
    model: Model,
    observed: Iterable[str | sp.Expr] | str | None = None,
    doses: Any = None,
    *,
    known: Iterable[str] = (),
    scale_unknown: bool | Iterable[str] = False,
    seed: int = 0,
) -> Identifiability:
    """Find which parameters the observed curves determine, from the equations alone.

    Parameters
    ----------
    model : labelled or not; its values play no role but for fixed parameters, which are known
    observed : names of observables or compartments, or formulas such as ``"free + bound"``; default every observable
    doses : a route, a `Dose`, a list of either, or a Regimen; default one known bolus by the first route. Doses at
        different times count as experiments that each begin in the initial state
    known : parameters that are known beside those the model fixes [text]
    scale_unknown : True, or which of `observed` are known up to a factor only
    seed : of the random points [1]

    Returns
    -------
    Identifiability
        Printable; ``bool(result)`` says whether all is determined.

    Raises
    ------
    ModelError
        A name is unknown, or a rate has no power series just after a dose (the message says what to do).

    Examples
    --------
    >>> import pkmodel as pk
    >>> print(pk.identify(pk.load_model("two_compartment"), ["plasma"], "injection"))
    """
    names, outputs = _outputs(model, observed)
    experiments = experiments_of(model, doses)
    scaled = names if scale_unknown is True else () if scale_unknown is False else tuple(scale_unknown)
    if unknown := [s for s in scaled if s not in names]:
        raise ModelError(f"{model.who}: {', '.join(unknown)} is not observed; observed: {', '.join(names)}")
    given = set(known)
    if unknown := sorted(given - set(model.parameters)):
        raise ModelError(
            f"{model.who}: {', '.join(unknown)}: no such parameter{did_you_mean(unknown[0], model.parameters)}; "
            f"known: {', '.join(model.parameters)}"
        )
    if formulas := sorted(given - set(model.primary)):
        raise ModelError(f"{model.who}: {', '.join(formulas)} is a formula; say what of its parameters is known")
    problem = _Problem(model, names, outputs, experiments, scaled, given)
    first = problem.trial(PRIMES[0], f"{seed} 0", problem.orders)
    again = [problem.trial(prime, f"{seed} {prime}", first.enough) for prime in PRIMES[1:]]
    trials = [first, *again]
    best = max(t.rank for t in trials)
    return problem.report([t for t in trials if t.rank == best])


def _outputs(model: Model, observed: Iterable[str | sp.Expr] | str | None) -> tuple[tuple[str, ...], list[sp.Expr]]:
    wanted = [observed] if isinstance(observed, str) else list(model.observables if observed is None else observed)
    if not wanted:
        raise ModelError(f"{model.who}: nothing is observed; name an observable or a formula")
    found = []
    for o in wanted:
        if isinstance(o, str) and o in model.observables:
            found.append(model.observables[o].expression)
        else:
            found.append(parse(o, model.symbols, f"{model.who}: observed") if isinstance(o, str) else o)
    return tuple(o if isinstance(o, str) else to_text(o) for o in wanted), [e.xreplace(model.resolved) for e in found]


@dataclass(frozen=True)
class _Trial:
    """What was found at one random point."""

    basis: Echelon  # of the derivatives of everything observed
    point: Point
    orders: int
    enough: int  # orders after which the rank did not grow any more
    helps: dict[str, tuple[int, ...]]

    @property
    def rank(self) -> int:
        return self.basis.rank


class _Problem:
    """A model with what is seen and given, ready to be examined at random points."""

    def __init__(
        self,
        model: Model,
        names: tuple[str, ...],
        outputs: list[sp.Expr],
        experiments: list[list[Dose]],
        scaled: Sequence[str],
        known: set[str],
    ):
        self.model, self.names, self.experiments = model, names, experiments
        late = {i.delay for i in model.inputs.values()} - {""}
        fixed = {n for n in model.primary if model.parameters[n].fixed}
        self.free = [n for n in model.primary if n not in known | late | fixed]
        self.exact = {
            symbol(n): sp.Rational(str(model.parameters[n].canonical))
            for n in fixed - known
            if model.parameters[n].value is not None
        }
        self.scale = {n: sp.Dummy(f"scale of {n}") for n in scaled}
        self.amounts = {
            (e, k): sp.Dummy(f"dose into {d.into}") for e, ex in enumerate(experiments) for k, d in enumerate(ex)
        }
        unsure = [s for (e, k), s in self.amounts.items() if not experiments[e][k].known]
        self.columns = [*map(symbol, self.free), *self.scale.values(), *unsure]
        self.labels = [s.name for s in self.columns]
        self.values = {symbol(n): p.canonical for n, p in model.parameters.items() if p.value is not None}
        self.initial = [self._plain(c.initial) for c in model.compartments.values()]
        states = tuple(symbol(c) for c in model.compartments)
        rates = [self._plain(model.rate_of_change(c)) for c in model.compartments]
        derived = {symbol(n): d.formula for n, d in model.derived.items() if d.formula is not None}
        self.formulas = {s: self._plain(e) for s, e in {**model.resolved, **derived}.items()}
        self.plans = []
        for e in range(len(experiments)):
            start, _ = self._given(e)
            empty = frozenset(s for s, x in zip(states, start, strict=True) if x == 0)
            sure = frozenset(symbol(n) for n in known | fixed)
            plan = Plan(states, tuple(symbol(i) for i in model.inputs), empty, sure, model.who)
            seen = [self.scale.get(n, sp.Integer(1)) * self._plain(o) for n, o in zip(names, outputs, strict=True)]
            others = {o.name: self._plain(o.expression) for o in model.observables.values()}
            others |= {c: symbol(c) for c in model.compartments}
            extra = {n: plan.series(x) for n, x in others.items() if n not in names and x not in outputs}
            self.plans.append((plan, [plan.series(r) for r in rates], [plan.series(o) for o in seen], extra))
        self.notes = list(dict.fromkeys(n for plan, *_ in self.plans for n in plan.notes))
        if len(experiments) > 1:
            self.notes.append("doses at different times were examined as experiments that each begin anew")
        if late:
            self.notes.append(f"delays were not examined: {', '.join(sorted(late))}")
        if model.timing:
            self.notes.append("lags and durations of routes were not examined")
        if model.events:
            self.notes.append("events were not examined")
        n, m = len(states), len(self.columns)
        self.orders = max(2 * n, n + m) + 4
        if self.orders > MOST:
            self.notes.append(f"{MOST} derivatives were examined; {self.orders} would be certain to be enough")
            self.orders = MOST

    def _plain(self, e: sp.Expr) -> sp.Expr:
        """An expression in primary parameters, with the branches of min, max and where at the model's own values."""
        return active(e.xreplace(self.model.resolved), self.values)

    def _given(self, experiment: int) -> tuple[list[sp.Expr], dict[int, sp.Expr]]:
        """States just after the doses of an experiment, and what flows in at a constant rate."""
        start, inflow = list(self.initial), dict[int, sp.Expr]()
        position = {c: k for k, c in enumerate(self.model.compartments)}
        for k, d in enumerate(self.experiments[experiment]):
            amount = self.amounts[experiment, k]
            share = self.model.resolved.get(symbol(d.fraction), symbol(d.fraction)) if d.fraction else sp.Integer(1)
            cold = self.model.routes.get(f"{d.into}_cold", {})
            parts = [*self.model.routes[d.into].items()]
            parts += [(c, e * sp.Symbol(f"cold part of {amount.name}")) for c, e in cold.items()]
            for c, e in parts:
                one = amount * share * self._plain(sp.sympify(e))
                at = position[c]
                if d.infusion:
                    inflow[at] = inflow.get(at, sp.Integer(0)) + one
                else:
                    start[at] += one
        return start, inflow

    def trial(self, prime: int, seed: str, orders: int) -> _Trial:
        """The matrix at one random point; another point where the first divides by zero."""
        for again in range(20):
            try:
                return self._trial(prime, f"{seed} {again}", orders)
            except ZeroDivisionError:
                continue
        raise ModelError(
            f"{self.model.who}: a rate divides by zero just after a dose, whatever the parameters; check its formula"
        )

    def _trial(self, prime: int, seed: str, orders: int) -> _Trial:
        point = Point(prime, seed, self.columns, self.exact)
        runs: list[tuple[Series, list[int], dict[str, int]]] = []
        for e, (plan, rates, seen, extra) in enumerate(self.plans):
            start, inflow = self._given(e)
            initial = [point.constant(x) for x in start]
            flows = {k: point.constant(x) for k, x in inflow.items()}
            runs.append((Series(plan, point, rates, initial, flows, orders), seen, extra))
        m = len(self.columns)
        basis = Echelon(m, prime)
        done = enough = 0
        while done <= orders and basis.rank < m:
            before = basis.rank
            for series, seen, _ in runs:
                series.advance()
                for s in seen:
                    basis.add(series.coefficient(s)[1:])
            done += 1
            enough = done if basis.rank > before else enough
        helps = self._helps(basis, runs) if orders == self.orders and basis.rank < m else {}
        return _Trial(basis, point, done, enough, helps)

    def _helps(
        self, basis: Echelon, runs: list[tuple[Series, list[int], dict[str, int]]]
    ) -> dict[str, tuple[int, ...]]:
        """What else could be seen and which parameters it would determine; compartments where no observable does."""
        found: dict[str, tuple[int, ...]] = {}
        open_ = set(range(len(self.columns))) - set(basis.determined())
        names = [*runs[0][2]]
        for name in [n for n in names if n in self.model.observables] + [
            n for n in names if n in self.model.compartments
        ]:
            if name in self.model.compartments and name not in self.model.observables and not open_:
                break
            wider = basis.copy()
            for series, _, extra in runs:
                for row in series.all_orders(extra[name]):
                    wider.add(row[1:])
            new = tuple(j for j in wider.determined() if j not in basis.determined())
            if name in self.model.observables or open_ & {*new}:
                found[name] = new
            open_ -= {*new}
        return {name: new for name, new in found.items() if new}

    def report(self, trials: list[_Trial]) -> Identifiability:
        """Words for the trials of highest rank."""
        first = trials[0]
        m = len(self.columns)
        null = [t.basis.complement() for t in trials]
        determined = [j for j in range(m) if not any(v[:, j].any() for v in null)]
        rest = [j for j in range(m) if j not in determined]
        silent = [j for j in rest if not first.basis.rows[:, j].any()]
        involved = [j for j in rest if j not in silent]
        names = [self.columns[j] for j in involved]
        wanted = first.rank - len(determined)
        combos = combinations_of(
            names,
            [
                Free(Echelon(len(involved), t.point.p, v[:, involved]), involved, t.point)
                for v, t in zip(null, trials, strict=True)
            ],
            wanted,
            [n for n in names if n.name in self.free and dimension(self.model.parameters[n.name].unit).exponents == ()],
            [self.columns[j] for j in determined],
            {s: e for s, e in self.formulas.items() if e.free_symbols & {*names}},
        )
        plain = {s: symbol(n.replace(" ", "_")) for s, n in zip(self.columns, self.labels, strict=True)}
        helps: dict[tuple[str, ...], str] = {}
        for name, new in trials[0].helps.items():
            if gained := tuple(self.labels[j] for j in sorted(new) if j in rest):
                helps.setdefault(gained, name)
        return Identifiability(
            model=self.model.name,
            observed=self.names,
            doses=tuple(in_words(e, self.model) for e in self.experiments),
            parameters=tuple(self.labels),
            rank=first.rank,
            identifiable=tuple(self.labels[j] for j in determined),
            not_identifiable=tuple(self.labels[j] for j in rest),
            no_effect=tuple(self.labels[j] for j in silent),
            combinations=tuple(c.xreplace(plain) for c in combos),
            complete=len(combos) == wanted,
            helps={name: gained for gained, name in helps.items()},
            orders=max(t.orders for t in trials),
            notes=tuple(self.notes),
        )
