"""Calling machine code by its address, from compiled code.

A driver is compiled once for all models, so it cannot name a model's kernels: it is told where they lie. Every kernel
is a C function ``void f(double *, double *, ...)``; `call` turns an integer into such a function and passes pointers::

    call(address, (y.ctypes.data, q.ctypes.data, f.ctypes.data))

A wrong address is a crash, not an exception: only the compiler's libraries hand addresses out.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types  # type: ignore[import-untyped, unused-ignore]
from numba.extending import intrinsic as _intrinsic  # type: ignore[import-untyped, unused-ignore]

# numba's own extension interface has no types, whether or not a stub package is installed.
intrinsic: Any = _intrinsic


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
