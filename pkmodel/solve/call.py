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
from numba.extending import intrinsic as _intrinsic  # type: ignore[import-untyped, unused-ignore]

# Neither library has types of its own; whether a stub package is installed must not matter.
numba: Any = _numba
ir: Any = _ir
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
