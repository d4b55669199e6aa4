"""Rates and outputs of a model as a straight line of sums, products, quotients, roots, exponentials and logarithms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sympy as sp

from ..errors import ModelError
from ..expressions import TIME, symbol, to_text

SURROGATES = (2, 3)  # stand-ins of a broken power where its base starts at zero


@dataclass(frozen=True, slots=True)
class Step:
    """One series in terms of earlier ones; `weights` are the constants of a sum, the last without a series."""

    op: str
    args: tuple[int, ...]
    weights: tuple[sp.Expr, ...] = ()


@dataclass
class Plan:
    """Straight-line form of rates and outputs: states first, then inputs, time, and what is computed from them."""

    states: tuple[sp.Symbol, ...]
    inputs: tuple[sp.Symbol, ...]
    starts_empty: frozenset[sp.Symbol]
    known: frozenset[sp.Symbol]
    who: str
    steps: list[Step] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    _known: dict[sp.Expr, int] = field(default_factory=dict)
    _empty: set[int] = field(default_factory=set)  # series whose first coefficient is zero
    _moving: set[sp.Symbol] = field(default_factory=set)

    def __post_init__(self) -> None:
        for op, names in (("state", self.states), ("input", self.inputs), ("time", (symbol(TIME),))):
            for s in names:
                self._known[s] = self._step(op, (), empty=op == "time" or s in self.starts_empty)
                self._moving.add(s)

    def series(self, e: sp.Expr) -> int:
        """Number of the series of an expression, added where it is new.

        Raises
        ------
        ModelError
            The expression has no power series just after a dose.
        """
        if e not in self._known:
            self._known[e] = self._build(e)
        return self._known[e]

    def _step(self, op: str, args: tuple[int, ...], weights: tuple[sp.Expr, ...] = (), empty: bool = False) -> int:
        self.steps.append(Step(op, args, weights))
        if empty:
            self._empty.add(len(self.steps) - 1)
        return len(self.steps) - 1

    def _is_constant(self, e: sp.Expr) -> bool:
        return not e.free_symbols & self._moving

    def _split(self, e: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
        """Constant factor and what moves."""
        factors = sp.Mul.make_args(e)
        fixed = [f for f in factors if self._is_constant(f)]
        return sp.Mul(*fixed), sp.Mul(*(f for f in factors if f not in fixed))

    def _build(self, e: sp.Expr) -> int:
        if self._is_constant(e) or isinstance(e, sp.Add) or self._split(e)[0] != 1:
            terms = [self._split(t) for t in sp.Add.make_args(e)]
            fixed = sp.Add(*(c for c, rest in terms if rest == 1))
            moving = [(c, self.series(rest)) for c, rest in terms if rest != 1]
            args = tuple(a for _, a in moving)
            empty = fixed == 0 and all(a in self._empty for a in args)
            return self._step("sum", args, (*(c for c, _ in moving), fixed), empty)
        if isinstance(e, sp.Mul):
            top = [f for f in e.args if not (isinstance(f, sp.Pow) and f.exp.is_number and f.exp < 0)]
            bottom = [1 / f for f in e.args if f not in top]
            result = self._product([self.series(f) for f in top]) if top else -1
            return self._over(result, self._product([self.series(f) for f in bottom]), e) if bottom else result
        if isinstance(e, sp.Pow):
            return self._power(e)
        if isinstance(e, sp.exp):
            return self._step("exp", (self.series(e.args[0]),))
        if isinstance(e, sp.log):
            return self._log(e.args[0], e)
        if isinstance(e, sp.tanh):
            twice = sp.exp(2 * e.args[0])
            return self.series((twice - 1) / (twice + 1))
        if isinstance(e, sp.Max) and len(e.args) == 2 and sp.Integer(0) in e.args:
            self.notes["amounts are taken as positive"] = None
            return self.series(next(a for a in e.args if a != 0))
        if isinstance(e, sp.Piecewise):
            return self._branch(e)
        raise ModelError(
            f"{self.who}: {to_text(e)!r} has no power series in general; write the branch that holds just after a dose"
        )

    def _product(self, args: Sequence[int]) -> int:
        result = args[0]
        for a in args[1:]:
            result = self._step("mul", (result, a), empty=result in self._empty or a in self._empty)
        return result

    def _over(self, top: int, bottom: int, e: sp.Expr) -> int:
        if bottom in self._empty:
            raise ModelError(f"{self.who}: {to_text(e)!r} divides by what is zero just after a dose")
        if top < 0:
            top = self.series(sp.Integer(1))
        return self._step("div", (top, bottom), empty=top in self._empty)

    def _power(self, e: sp.Pow) -> int:
        base, power = e.base, e.exp
        if self._is_constant(base):
            return self.series(sp.exp(power * sp.log(base), evaluate=False))
        if power.is_Integer:
            b = self.series(base)
            whole = self._product([b] * abs(int(power)))
            return whole if power > 0 else self._over(-1, whole, e)
        b = self.series(base)
        if b not in self._empty and (2 * power).is_Integer:
            root = self._step("root", (b,))
            self._known[sp.sqrt(base)] = root
            return root if power == sp.Rational(1, 2) else self.series(sp.Pow(sp.sqrt(base), 2 * power, evaluate=False))
        if b not in self._empty:
            return self._step("exp", (self.series(power * sp.log(base, evaluate=False)),))
        if unsure := sorted(s.name for s in power.free_symbols - self.known):
            raise ModelError(
                f"{self.who}: {to_text(e)!r} has no power series where {to_text(base)!r} is zero, just after a dose; "
                f"call it known: known={unsure}"
            )
        if power.is_number and power < 0:
            raise ModelError(f"{self.who}: {to_text(e)!r} divides by what is zero just after a dose")
        whole_power = SURROGATES[int(bool(power.is_number and power > 2))]
        self.notes[f"the power {to_text(power)} of what starts at zero was examined as {whole_power}"] = None
        return self._product([b] * whole_power)

    def _log(self, argument: sp.Expr, e: sp.Expr) -> int:
        a = self.series(argument)
        if a in self._empty:
            raise ModelError(f"{self.who}: {to_text(e)!r} is the logarithm of what is zero just after a dose")
        return self._step("log", (a,))

    def _branch(self, e: sp.Piecewise) -> int:
        clock = symbol(TIME)
        for value, condition in e.args:
            if condition.free_symbols & (self._moving - {clock}):
                raise ModelError(
                    f"{self.who}: {to_text(e)!r} switches on a state; write the branch that holds just after a dose"
                )
            holds = condition.subs(clock, sp.Rational(1, 10**9))
            if holds == sp.false:
                continue
            if holds != sp.true:
                raise ModelError(f"{self.who}: {to_text(e)!r} switches at a time that is a parameter; give it a number")
            self.notes["of what switches in time, only what holds just after a dose was examined"] = None
            return self.series(value)
        raise ModelError(f"{self.who}: {to_text(e)!r} has no value just after a dose")


def active(e: sp.Expr, values: Mapping[sp.Symbol, float]) -> sp.Expr:
    """Replace min, max, abs and where of parameters alone by the branch that holds at their values.

    Parameters
    ----------
    e : expression
    values : of the parameters that have one [canonical]
    """
    if not e.has(sp.Min, sp.Max, sp.Abs, sp.Piecewise):
        return e
    parts = [active(a, values) if isinstance(a, sp.Expr) else a for a in e.args]
    if isinstance(e, sp.Min | sp.Max | sp.Abs | sp.Piecewise) and e.free_symbols <= values.keys():
        if isinstance(e, sp.Piecewise):
            return next(active(value, values) for value, condition in e.args if condition.subs(values) == sp.true)
        if isinstance(e, sp.Abs):
            return parts[0] if parts[0].subs(values) >= 0 else -parts[0]
        return (max if isinstance(e, sp.Max) else min)(parts, key=lambda a: float(a.subs(values)))
    return e.func(*parts)
