"""Elementary functions on vectors, as polynomials after a reduction of the range.

``exp``: x = n log 2 + r with |r| <= log(2)/2, where log 2 is the sum of a short number, whose product with n is exact,
and a small one (Cody & Waite 1980, "Software Manual for the Elementary Functions", chapter 6); exp(r) is its Taylor
polynomial, and 2^n is made of exponent bits, in two factors, so that results below 2^-1022 and above the largest
number come out right.

``log``: x = 2^k m with m between sqrt(1/2) and sqrt(2), and log m = 2 artanh(s) = 2s + 2s^3/3 + ..., s = (m-1)/(m+1)
(Muller 2016, "Elementary Functions", 3rd ed., doi:10.1007/978-1-4899-7983-4, chapter 11).

``pow``: exp(y log x), where the logarithm carries an error term, since the exponential multiplies its absolute error by
y log x, up to 745. Error terms of products are exact by fused multiplication; of sums by the two-sum of Knuth (Dekker
1971, doi:10.1007/BF01397083). Special cases are those of C (ISO/IEC 9899:2018, F.10.4.4).

``tanh``: t/(t + 2) with t = exp(2|x|) - 1, computed without cancellation.

Functions that no model calls often (`LIBRARY`) are called lane by lane from the C library.
"""

from __future__ import annotations

import math

from .assembly import EXACT, FUSED, Module, Writer

LIBRARY = ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh")
VECTOR = ("exp", "log", "tanh", "pow")

_LOG2_SHORT = 6.93147180369123816490e-01  # log 2 to 33 bits
_LOG2_REST = 1.90821492927058770002e-10  # log 2 minus that
_ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to a whole number, which then stands in the low bits
_ROUND_BITS = 0x4338000000000000
_ROOT_HALF_BITS = 0x3FE6A09E667F3BCD  # sqrt(1/2)
_TINY = 2.2250738585072014e-308  # smallest normal number


def vector_function(module: Module, code: str, lanes: int) -> str:
    """Name of the function of the module that computes `code` on vectors, written there at first use."""
    name = f"math.{code}.{lanes}"
    write = {"exp": _exp, "log": _log, "tanh": _tanh, "pow": _pow}.get(code)
    if write is not None:
        return module.once(name, lambda: write(module, name, lanes))
    return module.once(name, lambda: _library(module, name, lanes, code))


def library_symbol(code: str) -> str:
    """Name under which a function of the C library is known to the machine code."""
    return f"pkmodel_{code}"


def _polynomial(w: Writer, x: str, coefficients: list[float]) -> str:
    """c0 + c1 x + c2 x^2 + ..., even and odd powers apart (Estrin 1960), so that fewer steps wait for others."""
    if len(coefficients) == 1:
        return w.number(coefficients[0])
    if len(coefficients) == 2:
        return w.add(w.mul(x, w.number(coefficients[1]), FUSED), w.number(coefficients[0]), FUSED)
    square = w.mul(x, x, EXACT)
    even = _polynomial(w, square, coefficients[::2])
    odd = _polynomial(w, square, coefficients[1::2])
    return w.add(w.mul(x, odd, FUSED), even, FUSED)


def _reduce(w: Writer, x: str) -> tuple[str, str, str]:
    """n and r of x = n log 2 + r, and n as a whole number in the low bits of a word."""
    shifted = w.add(w.mul(x, w.number(1.0 / math.log(2.0)), EXACT), w.number(_ROUND), EXACT)
    n = w.sub(shifted, w.number(_ROUND), EXACT)
    r = w.sub(x, w.mul(n, w.number(_LOG2_SHORT), EXACT), EXACT)
    r = w.sub(r, w.mul(n, w.number(_LOG2_REST), FUSED), FUSED)
    return n, r, w.on_bits("sub", w.bits(shifted), w.integer(_ROUND_BITS))


def _expm1_reduced(w: Writer, r: str) -> str:
    """exp(r) - 1 for |r| <= log(2)/2; the first term left out is r^14/14!, 4e-18."""
    tail = _polynomial(w, r, [1.0 / math.factorial(k) for k in range(2, 14)])
    return w.add(w.mul(w.mul(r, r, EXACT), tail, FUSED), r, FUSED)


def _power_of_two(w: Writer, n: str) -> str:
    """2^n from its exponent bits; -1022 <= n <= 1023."""
    return w.from_bits(w.on_bits("shl", w.on_bits("add", n, w.integer(1023)), w.integer(52)))


def _within(w: Writer, x: str, low: float, high: float) -> str:
    """x, not below `low` and not above `high`; NaN stays."""
    x = w.select(w.compare("ogt", x, w.number(high)), w.number(high), x)
    return w.select(w.compare("olt", x, w.number(low)), w.number(low), x)


def _exp_of_sum(w: Writer, x: str, rest: str = "") -> str:
    """exp(x + rest), `rest` far smaller than one; -746 <= x <= 710."""
    _, r, n = _reduce(w, x)
    if rest:
        r = w.add(r, rest, EXACT)
    value = w.add(_expm1_reduced(w, r), w.number(1.0), EXACT)
    # n in two halves; 2048 is added while shifting, for there the sign has no meaning
    half = w.on_bits("sub", w.on_bits("lshr", w.on_bits("add", n, w.integer(2048)), w.integer(1)), w.integer(1024))
    value = w.mul(value, _power_of_two(w, half), EXACT)
    return w.mul(value, _power_of_two(w, w.on_bits("sub", n, half)), EXACT)


def _split(w: Writer, x: str) -> tuple[str, str]:
    """k (as a number) and m of x = 2^k m, for positive finite x."""
    small = w.compare("olt", x, w.number(_TINY))
    x = w.select(small, w.mul(x, w.number(2.0**54), EXACT), x)
    bits = w.bits(x)
    biased = w.on_bits("sub", bits, w.integer(_ROOT_HALF_BITS))
    biased = w.on_bits("lshr", w.on_bits("add", biased, w.integer(1 << 62)), w.integer(52))  # k + 1024
    k = w.sub(w.from_bits(w.on_bits("or", biased, w.integer(0x4330000000000000))), w.number(2.0**52 + 1024.0), EXACT)
    shift = w.on_bits("shl", w.on_bits("sub", biased, w.integer(1024)), w.integer(52))
    m = w.from_bits(w.on_bits("sub", bits, shift))
    return w.select(small, w.sub(k, w.number(54.0), EXACT), k), m


def _exp(module: Module, name: str, lanes: int) -> None:
    w = Writer(module, name, lanes, vectors=["x"], internal=True)
    w.end(_exp_of_sum(w, _within(w, "%x", -746.0, 710.0)))


# 2 artanh(s) = 2s + s z (c1 + c2 z + ...), z = s^2, to 2^-58 for |s| <= 0.1716; FreeBSD msun, e_log.c (Sun 1993)
_ARTANH = [
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
    1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01,
]  # fmt: skip


def _log(module: Module, name: str, lanes: int) -> None:
    w = Writer(module, name, lanes, vectors=["x"], internal=True)
    k, m = _split(w, "%x")
    f = w.sub(m, w.number(1.0), EXACT)
    s = w.div(f, w.add(f, w.number(2.0), EXACT), EXACT)
    z = w.mul(s, s, EXACT)
    series = w.mul(z, _polynomial(w, z, _ARTANH), EXACT)
    # log(1 + f) = f - (f^2/2 - s (f^2/2 + series)): the large terms are exact or nearly so
    half = w.mul(w.mul(f, f, EXACT), w.number(0.5), EXACT)
    inner = w.mul(s, w.add(half, series, EXACT), EXACT)
    inner = w.add(inner, w.mul(k, w.number(_LOG2_REST), EXACT), EXACT)
    tail = w.sub(w.sub(half, inner, EXACT), f, EXACT)
    value = w.sub(w.mul(k, w.number(_LOG2_SHORT), EXACT), tail, EXACT)
    w.end(_log_special(w, value))


def _log_special(w: Writer, value: str) -> str:
    infinite = w.number(math.inf)
    value = w.select(w.compare("ueq", "%x", infinite), "%x", value)  # infinity and NaN
    value = w.select(w.compare("oeq", "%x", w.number(0.0)), w.number(-math.inf), value)
    return w.select(w.compare("olt", "%x", w.number(0.0)), w.number(math.nan), value)


def _tanh(module: Module, name: str, lanes: int) -> None:
    w = Writer(module, name, lanes, vectors=["x"], internal=True)
    size = w.intrinsic("fabs", "%x")
    size = w.select(w.compare("ogt", size, w.number(22.0)), w.number(22.0), size)  # tanh(22) rounds to one
    _, r, n = _reduce(w, w.add(size, size, EXACT))
    two_n = _power_of_two(w, n)
    # 2^n e^r - 1 = 2^n (e^r - 1) + (2^n - 1)
    t = w.add(w.mul(_expm1_reduced(w, r), two_n, FUSED), w.sub(two_n, w.number(1.0), EXACT), FUSED)
    w.end(w.intrinsic("copysign", w.div(t, w.add(t, w.number(2.0), EXACT), EXACT), "%x"))


def _log_with_rest(w: Writer, x: str) -> tuple[str, str]:
    """log x as a number and its error term; together to about 2^-60."""
    k, m = _split(w, x)
    f = w.sub(m, w.number(1.0), EXACT)
    under = w.add(f, w.number(2.0), EXACT)
    under_rest = w.sub(f, w.sub(under, w.number(2.0), EXACT), EXACT)
    s = w.div(f, under, EXACT)
    # s_rest = (f - s (under + under_rest)) / under
    missing = w.intrinsic("fma", w.neg(s), under, f)
    missing = w.intrinsic("fma", w.neg(s), under_rest, missing)
    s_rest = w.div(missing, under, EXACT)
    z = w.mul(s, s, EXACT)
    series = _polynomial(w, z, [2.0 / (2 * j + 1) for j in range(1, 12)])
    rest = w.add(w.add(s_rest, s_rest, EXACT), w.mul(w.mul(s, z, EXACT), series, FUSED), FUSED)
    rest = w.add(rest, w.mul(k, w.number(_LOG2_REST), FUSED), FUSED)
    value, error = _two_sum(w, w.mul(k, w.number(_LOG2_SHORT), EXACT), w.add(s, s, EXACT))
    return _two_sum(w, value, w.add(rest, error, EXACT))


def _two_sum(w: Writer, a: str, b: str) -> tuple[str, str]:
    """a + b, rounded, and what rounding took away."""
    total = w.add(a, b, EXACT)
    back = w.sub(total, a, EXACT)
    return total, w.add(w.sub(a, w.sub(total, back, EXACT), EXACT), w.sub(b, back, EXACT), EXACT)


def _pow(module: Module, name: str, lanes: int) -> None:
    w = Writer(module, name, lanes, vectors=["x", "y"], internal=True)
    zero, one, infinite = w.number(0.0), w.number(1.0), w.number(math.inf)
    size = w.intrinsic("fabs", "%x")
    y = _within(w, "%y", -1e25, 1e25)  # beyond, the result is 0, 1 or infinite anyway, and no product overflows
    high, low = _log_with_rest(w, size)
    product = w.mul(y, high, EXACT)
    rest = w.add(w.intrinsic("fma", y, high, w.neg(product)), w.mul(y, low, EXACT), EXACT)
    inside = _within(w, product, -746.0, 710.0)
    rest = w.select(w.compare("oeq", inside, product), rest, zero)
    value = _exp_of_sum(w, inside, rest)
    # zero and infinite base
    falling = w.compare("olt", "%y", zero)
    value = w.select(w.compare("oeq", size, zero), w.select(falling, infinite, zero), value)
    value = w.select(w.compare("oeq", size, infinite), w.select(falling, zero, infinite), value)
    # negative base: the sign of an odd power, no real value for a broken one
    whole = w.compare("oeq", w.intrinsic("floor", y), y)
    half = w.mul(y, w.number(0.5), EXACT)
    odd = w.logic("and", whole, w.compare("une", w.intrinsic("floor", half), half))
    value = w.select(odd, w.intrinsic("copysign", value, "%x"), value)
    broken = w.logic("and", w.compare("olt", "%x", zero), w.negate(whole))
    broken = w.logic("and", broken, w.compare("one", size, infinite))
    value = w.select(broken, w.number(math.nan), value)
    value = w.select(
        w.logic("or", w.compare("uno", "%x", "%x"), w.compare("uno", "%y", "%y")), w.number(math.nan), value
    )
    certain = w.logic("or", w.compare("oeq", "%y", zero), w.compare("oeq", "%x", one))
    w.end(w.select(certain, one, value))


def _library(module: Module, name: str, lanes: int, code: str) -> None:
    """A function of the C library, lane after lane."""
    outer = module.declare(library_symbol(code), f"declare double @{library_symbol(code)}(double)")
    w = Writer(module, name, lanes, vectors=["x"], internal=True)
    if lanes == 1:
        w.end(w.write(f"call double @{outer}(double %x)"))
        return
    value = "poison"
    for lane in range(lanes):
        one = w.write(f"extractelement {w.type} %x, i64 {lane}")
        one = w.write(f"call double @{outer}(double {one})")
        value = w.write(f"insertelement {w.type} {value}, double {one}, i64 {lane}")
    w.end(value)
