"""Calling machine code by its address, from compiled code; and compiled functions that can be called so.

A driver is compiled once for all models, so it cannot name a model's kernels: it is told where they lie. Every kernel
is a C function ``void f(double *, double *, ...)``; `call` turns an integer into such a function and passes pointers::

    call(address, (y.ctypes.data, q.ctypes.data, f.ctypes.data))

A wrong address is a crash, not an exception: only the compiler's libraries hand addresses out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as _numba  # type: ignore[import-untyped, unused-ignore]
from llvmlite import ir as _ir  # type: ignore[import-untyped, unused-ignore]
from numba.core import cgutils as _cgutils  # type: ignore[import-untyped, unused-ignore]
from numba.extending import intrinsic as _intrinsic  # type: ignore[import-untyped, unused-ignore]

# Neither library has types of its own; whether a stub package is installed must not matter.
numba: Any = _numba
ir: Any = _ir
cgutils: Any = _cgutils
intrinsic: Any = _intrinsic
types = numba.types
carray = numba.carray


def _call(context: Any, address: Any, pointers: Any) -> Any:
    """Typing and code of `call`: as many pointers as the tuple is long."""
    count = len(pointers)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        double = ir.DoubleType().as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [double] * count)
        function = builder.inttoptr(args[0], kind.as_pointer())
        arguments = [builder.inttoptr(builder.extract_value(args[1], k), double) for k in range(count)]
        builder.call(function, arguments)
        return context.get_dummy_value()

    return types.void(types.intp, types.UniTuple(types.intp, count)), codegen


call: Any = intrinsic(_call)


FLUSH = -1


def _denormals(context: Any, mode: Any) -> Any:
    """Typing and code of `denormals`, by the register of the processor that says how to round and what to flush."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        triple, word = builder.module.triple, ir.IntType(64)

        def llvm(name: str, kind: Any, *values: Any) -> Any:
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}"), values)

        def wanted(before: Any, flags: int) -> Any:
            flush = builder.icmp_signed("==", args[0], ir.Constant(word, FLUSH))
            return builder.select(flush, builder.or_(before, ir.Constant(word, flags)), args[0])

        if triple.startswith(("x86_64", "amd64", "i686")):
            half, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
            kind = ir.FunctionType(ir.VoidType(), [pointer])
            place = cgutils.alloca_once(builder, half)
            llvm("x86.sse.stmxcsr", kind, builder.bitcast(place, pointer))
            before = builder.zext(builder.load(place), word)
            builder.store(builder.trunc(wanted(before, 0x8040), half), place)  # flush to zero, denormals are zero
            llvm("x86.sse.ldmxcsr", kind, builder.bitcast(place, pointer))
            return before
        if triple.startswith(("aarch64", "arm64")):
            before = llvm("aarch64.get.fpcr", ir.FunctionType(word, []))
            llvm("aarch64.set.fpcr", ir.FunctionType(ir.VoidType(), [word]), wanted(before, 1 << 24))
            return before
        return ir.Constant(word, 0)

    return types.int64(types.int64), codegen


denormals: Any = intrinsic(_denormals)
"""``before = denormals(FLUSH)``: this thread takes numbers below 2.2e-308 for zero, until ``denormals(before)``.

An amount that has decayed so far means nothing, and processors compute with it a hundred times more slowly.
"""


def kernel(pointers: int, *, cache: bool = True) -> Callable[[Callable[..., None]], Any]:
    """Decorator that compiles a kernel written in Python; its ``.address`` is what `call` takes.

    Parameters
    ----------
    pointers : number of arguments, each a pointer to doubles
    cache : whether to keep the machine code on disk, as for `jit.njit`
    """
    signature = types.void(*[types.CPointer(types.float64)] * pointers)
    decorator: Callable[[Callable[..., None]], Any] = numba.cfunc(signature, cache=cache, error_model="numpy")
    return decorator
