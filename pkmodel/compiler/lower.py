"""SymPy expressions to operations of a tape, everything that stands still computed beforehand.

A rate is written as a sum of cores with coefficients, ``sum_j c_j core_j``: a core is made of what moves (states), a
coefficient of parameters only. So q (P/Vp - V/Vv) becomes (q/Vp) P - (q/Vv) V: two multiplications by numbers known
per patient instead of two divisions, a subtraction and a multiplication; and those numbers are the entries of the
Jacobian too. `Constants` keeps them behind the parameters in the array q, shared by all programs of a system.

What is common to several expressions is found by the tape, which writes equal operations once. SymPy's `cse` searches
further, but on expressions as they stand: it leaves 480 operations in the rates of the benchmark P2 (74 states) where
collecting leaves 428, and takes longer than everything here together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import sympy as sp

from ..errors import ModelError
from .powers import OneSided
from .tape import Builder, Tape

ONE, ZERO = sp.Integer(1), sp.Integer(0)
_LARGEST_PRODUCT = 64  # the largest power written as products
_FUNCTIONS: dict[type, str] = {
    sp.exp: "exp", sp.log: "log", sp.tanh: "tanh", sp.Abs: "abs", sp.sin: "sin", sp.cos: "cos", sp.tan: "tan",
    sp.asin: "asin", sp.acos: "acos", sp.atan: "atan", sp.sinh: "sinh", sp.cosh: "cosh", sp.floor: "floor",
    sp.ceiling: "ceil",
}  # fmt: skip
_CHAINS: dict[type, str] = {sp.Min: "min", sp.Max: "max", sp.And: "and", sp.Or: "or"}
_RELATIONS: dict[type, str] = {
    sp.StrictLessThan: "lt", sp.LessThan: "le", sp.StrictGreaterThan: "gt", sp.GreaterThan: "ge",
    sp.Equality: "eq", sp.Unequality: "ne",
}  # fmt: skip

Place = tuple[str, int]  # array and index
Terms = dict[sp.Expr, sp.Expr]  # core -> coefficient


class Lowering:
    """Writes expressions onto a tape as they are; `places` says where each symbol lies."""

    def __init__(self, builder: Builder, places: Mapping[sp.Symbol, Place]) -> None:
        self.builder = builder
        self.places = places
        self.done: dict[sp.Basic, int] = {}

    def number(self, e: sp.Basic) -> int:
        """Number of the operation that computes an expression.

        Raises
        ------
        ModelError
            It contains what no operation computes, or a symbol that lies nowhere.
        """
        found = self.done.get(e)
        if found is None:
            found = self.done[e] = self._lower(e)
        return found

    def _lower(self, e: sp.Basic) -> int:
        apply, number, kind = self.builder.apply, self.number, type(e)
        if e.is_Symbol:
            if e not in self.places:
                raise ModelError(f"the equations use {e}, which is neither a state nor a parameter")
            return self.builder.load(*self.places[e])
        if e.is_Add:
            return self._sum(e)
        if e.is_Mul:
            return self._product(e)
        if e.is_Pow:
            return self._power(e.base, e.exp)
        if kind is OneSided:
            return number(e.written)
        if e.is_Number or e.is_NumberSymbol:
            return self.builder.const(float(e))
        if kind in _FUNCTIONS:
            return apply(_FUNCTIONS[kind], number(e.args[0]))
        if kind in _CHAINS:
            first, *others = (number(a) for a in e.args)
            for other in others:
                first = apply(_CHAINS[kind], first, other)
            return first
        if kind in _RELATIONS:
            return apply(_RELATIONS[kind], number(e.lhs), number(e.rhs))
        if kind is sp.Not:
            return apply("not", number(e.args[0]))
        if kind is sp.Piecewise:
            return self._choice(e)
        raise ModelError(f"no code can be written for {e}")

    def _choice(self, e: sp.Piecewise) -> int:
        """The first value whose condition holds; NaN where none does."""
        pieces = list(e.args)
        result = self.number(pieces.pop()[0]) if pieces[-1][1] == sp.true else self.builder.const(float("nan"))
        for value, condition in reversed(pieces):
            result = self.builder.apply("select", self.number(condition), self.number(value), result)
        return result

    def _power(self, base: sp.Expr, power: sp.Expr) -> int:
        apply, b = self.builder.apply, self.number(base)
        twice = 2 * power if isinstance(power, sp.Rational) else sp.nan
        if not twice.is_Integer or abs(power) > _LARGEST_PRODUCT:
            return apply("pow", b, self.number(power))
        if power.is_Integer and power < 0:  # the reciprocal first, so that it is shared
            return self._whole(apply("div", self.builder.const(1.0), b), -int(power))
        whole = self._whole(b, abs(int(twice)) // 2)
        if twice % 2:
            root = apply("sqrt", b)
            whole = root if whole < 0 else apply("mul", whole, root)
        return whole if power > 0 else apply("div", self.builder.const(1.0), whole)

    def _whole(self, x: int, power: int) -> int:
        """x to a whole power by repeated squaring; -1 for the power 0."""
        result = -1
        while power:
            if power & 1:
                result = x if result < 0 else self.builder.apply("mul", result, x)
            power >>= 1
            if power:
                x = self.builder.apply("mul", x, x)
        return result

    def _sum(self, e: sp.Expr) -> int:
        return self.added(self.number(a) for a in e.args)

    def _product(self, e: sp.Expr) -> int:
        above, below = [], []
        for a in e.args:
            if a.is_Pow and isinstance(a.exp, sp.Rational) and a.exp < 0:
                below.append(self.number(ONE / a))
            else:
                above.append(self.number(a))
        top = self.multiplied(above)
        return self.builder.apply("div", top, self.multiplied(below)) if below else top

    def added(self, numbers: Iterable[int]) -> int:
        """Sum of results, those with a plus sign first."""
        signed = [self.builder.signed(k) for k in numbers]
        order = [k for s, k in signed if s > 0] + [self.builder.apply("neg", k) for s, k in signed if s < 0]
        result = order[0] if order else self.builder.const(0.0)
        for k in order[1:]:
            result = self.builder.apply("add", result, k)
        return result

    def multiplied(self, numbers: Iterable[int]) -> int:
        """Product of results, the oldest first, so that products with common factors share them."""
        order = sorted(numbers)
        result = order[0] if order else self.builder.const(1.0)
        for k in order[1:]:
            result = self.builder.apply("mul", result, k)
        return result


class Constants:
    """The array q: parameters, then every expression of parameters that some program needs.

    Programs ask for indices while they are written; `tape` then computes what was asked for. A `copy` goes on where
    the original stands: its first entries are the same, so programs of the original may run on the longer array.
    """

    def __init__(self, parameters: Iterable[sp.Symbol]) -> None:
        self.parameters = tuple(parameters)
        self._among = frozenset(self.parameters)
        self._builder = Builder()
        self._lowering = Lowering(self._builder, {s: ("q", i) for i, s in enumerate(self.parameters)})
        self._index: dict[int, int] = {}  # operation of the tape -> index in q
        self._still: dict[sp.Basic, bool] = {}
        for i in range(len(self.parameters)):
            self._index[self._builder.load("q", i)] = i

    @property
    def size(self) -> int:
        """Length of q so far."""
        return len(self._index)

    def copy(self) -> Constants:
        """A table that begins with this one."""
        other = Constants(self.parameters)
        other._builder.operations[:] = self._builder.operations
        other._builder.known.update(self._builder.known)
        other._lowering.done.update(self._lowering.done)
        other._index, other._still = dict(self._index), dict(self._still)
        return other

    def still(self, e: sp.Basic) -> bool:
        """Whether an expression is made of numbers and parameters only."""
        known = self._still.get(e)
        if known is None:
            known = e in self._among if e.is_Symbol else all(self.still(a) for a in e.args)
            self._still[e] = known
        return known

    def number(self, e: sp.Expr, builder: Builder) -> int:
        """Number, on another tape, of the load of a constant; its sign stays outside, so that -c shares c."""
        sign, found = self._builder.signed(self._lowering.number(e))
        value = self._builder.value(found)
        if value is not None:
            return builder.const(sign * value)
        sign, found = self._known(sign, found)
        at = builder.load("q", self._index.setdefault(found, len(self._index)))
        return at if sign > 0 else builder.apply("neg", at)

    def _known(self, sign: int, found: int) -> tuple[int, int]:
        """a - b is the negative of b - a, where that one is kept already."""
        o = self._builder.operations[found]
        if o.code == "sub" and found not in self._index:
            other = self._builder.known.get(o._replace(operands=o.operands[::-1]))
            if other is not None and other in self._index:
                return -sign, other
        return sign, found

    def tape(self) -> Tape:
        """The program ``constants(q)``: fills q behind the parameters."""
        final = Builder(operations=self._builder.operations)
        for number, at in self._index.items():
            if at >= len(self.parameters):
                final.store("q", at, number)
        return final.tape("constants", "q")


class Hoisting(Lowering):
    """Writes expressions with everything that stands still taken from q.

    `whole` are sums that stay as they are (see `shared_sums`); others are multiplied out by their coefficients.
    """

    def __init__(
        self,
        builder: Builder,
        places: Mapping[sp.Symbol, Place],
        constants: Constants,
        whole: frozenset[sp.Expr] = frozenset(),
    ) -> None:
        super().__init__(builder, places)
        self.constants = constants
        self.whole = whole

    def _lower(self, e: sp.Basic) -> int:
        if isinstance(e, sp.Expr) and self.constants.still(e):
            return self.constants.number(e, self.builder)
        return super()._lower(e)

    def _sum(self, e: sp.Expr) -> int:
        return self.combined(terms(e, self.constants, self.whole))

    def _product(self, e: sp.Expr) -> int:
        return self.combined(terms(e, self.constants, self.whole))

    def combined(self, parts: Terms) -> int:
        """A sum of cores with coefficients; cores with one coefficient are added before they are multiplied."""
        alike: dict[int, list[int]] = {}
        single: list[int] = []
        apply = self.builder.apply
        for core, coefficient in parts.items():
            c = self.number(coefficient)
            if core == 1:
                single.append(c)
                continue
            sign, size = self.builder.signed(c)
            x = self._core(core)
            if self.builder.value(size) != 1.0:
                alike.setdefault(size, []).append(x if sign > 0 else apply("neg", x))
            else:
                single.append(apply("mul", c, x))
        return self.added(single + [apply("mul", size, self._difference(xs)) for size, xs in alike.items()])

    def _difference(self, numbers: list[int]) -> int:
        """A sum whose oldest part is positive inside, so that a - b and b - a share one subtraction."""
        signed = [self.builder.signed(k) for k in numbers]
        if min(signed, key=lambda part: part[1])[0] > 0:
            return self.added(numbers)
        return self.builder.apply("neg", self.added(self.builder.apply("neg", k) for k in numbers))

    def _core(self, core: sp.Expr) -> int:
        """A product of moving factors, or any one of them."""
        if not core.is_Mul:
            return super()._sum(core) if core in self.whole else self.number(core)
        found = self.done.get(core)
        if found is None:
            found = self.done[core] = self.multiplied(self.number(a) for a in core.args)
        return found


def terms(e: sp.Expr, constants: Constants, whole: frozenset[sp.Expr] = frozenset()) -> Terms:
    """An expression as a sum of cores with coefficients; what stands still is the coefficient of the core 1.

    Parameters
    ----------
    e : of states and parameters
    constants : knows what stands still
    whole : sums not to be multiplied out
    """
    parts: dict[sp.Expr, list[sp.Expr]] = {}

    def add(e: sp.Expr, coefficient: sp.Expr) -> None:
        if constants.still(e):
            parts.setdefault(ONE, []).append(coefficient * e)
        elif e.is_Add and e not in whole:
            for a in e.args:
                add(a, coefficient)
        elif e.is_Mul:
            still = [a for a in e.args if constants.still(a)]
            moving = [a for a in e.args if not constants.still(a)]
            if still:
                coefficient = sp.Mul(coefficient, *still)
            if len(moving) == 1:
                add(moving[0], coefficient)
            else:
                parts.setdefault(sp.Mul(*moving) if still else e, []).append(coefficient)
        else:
            parts.setdefault(e, []).append(coefficient)

    add(e, ONE)
    summed = {core: c[0] if len(c) == 1 else sp.Add(*c) for core, c in parts.items()}
    return {core: c for core, c in summed.items() if c != 0}


def shared_sums(expressions: Iterable[sp.Expr], constants: Constants) -> frozenset[sp.Expr]:
    """Sums of three or more moving terms that occur in several places: cheaper computed once than multiplied out."""
    count: Counter[sp.Expr] = Counter()

    def visit(e: sp.Expr) -> None:
        if e.is_Mul:
            for a in e.args:
                if a.is_Add and sum(not constants.still(x) for x in a.args) >= 3:
                    count[a] += 1
        if e.is_Add or e.is_Mul:
            for a in e.args:
                visit(a)

    for e in expressions:
        visit(e)
    return frozenset(e for e, times in count.items() if times > 1)
