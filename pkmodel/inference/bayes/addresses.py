"""Arrays that compiled code finds by their address: no copy, and no constant for the compiler to chew on.

The addresses are part of the machine code, which is therefore never kept on disk; the arrays must live as long as it.
"""

from __future__ import annotations

from typing import Any

from ...solve.call import intrinsic, ir, numba, types


def _to_pointer(kind: Any) -> Any:
    def made(context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.intp), codegen

    return intrinsic(made)


doubles: Any = _to_pointer(types.float64)
integers: Any = _to_pointer(types.int64)
small_integers: Any = _to_pointer(types.int8)

SIGNATURE: Any = types.void(*[types.CPointer(types.float64)] * 4)


def function(run: Any) -> Any:
    """Machine code of ``run(x, value, tangent, good)``, whose address is `.address`; of this process only."""
    return numba.cfunc(SIGNATURE, error_model="numpy")(run)


def linked(compiled: Any) -> Any:
    """A compiled function of one signature, to be called with a tuple of its arguments by its address.

    Called by its name it would be compiled once more, with all that it calls, into whatever calls it.

    Parameters
    ----------
    compiled : numba function; what it returns is a whole number or nothing
    """
    result = next(iter(compiled.overloads.values()))
    signature, library = result.signature, result.library
    address = library.get_pointer_to_function(result.fndesc.mangled_name)

    def made(context: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, _: Any, args: Any) -> Any:
            kind = context.call_conv.get_function_type(signature.return_type, signature.args)
            target = builder.inttoptr(ir.Constant(ir.IntType(64), address), kind.as_pointer())
            values = [builder.extract_value(args[0], k) for k in range(len(signature.args))]
            _status, found = context.call_conv.call_function(
                builder, target, signature.return_type, signature.args, values
            )
            return context.get_dummy_value() if signature.return_type == types.void else found

        back = types.void if signature.return_type in (types.void, types.none) else signature.return_type
        return back(types.Tuple(signature.args)), codegen

    return intrinsic(made)
