"""The compiled functions a model hands to `stiff`: their form, and the object that carries them.

A kernel is a numba function with one of the two signatures below, which fixes its machine-level form. The
driver in `esdirk` receives addresses and is compiled once for all models; a new model compiles only its kernels::

    @njit(RHS_SIGNATURE)                 # pkmodel.solve.jit.njit
    def rhs(t, y, u, p, out):            # out (n,)
        out[0] = -p[0] * y[0] + u[0]

    @njit(JAC_SIGNATURE)
    def jac(t, y, u, p, out):            # out (n, n), df_i/dy_j; likewise dfdp (n, np) and dfdu (n, q)
        out[0, 0] = -p[0]

Rules: `out` arrives filled with zeros the first time and is never shared, so a matrix kernel writes its structural
nonzeros only, the same ones at every call, and reads none. An exception cannot leave a kernel, so the option
`error_model="numpy"`, which `jit.njit` sets, is required: a division by zero must be an infinity, which the driver
reports as NOT_FINITE. The constant rate of a segment is added by the driver, not by the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pkmodel.errors import SimulationError

_ARGUMENTS = "float64, float64[::1], float64[::1], float64[::1]"
RHS_SIGNATURE = f"void({_ARGUMENTS}, float64[::1])"
JAC_SIGNATURE = f"void({_ARGUMENTS}, float64[:, ::1])"
DFDP_SIGNATURE = JAC_SIGNATURE
DFDU_SIGNATURE = JAC_SIGNATURE


def address(kernel: Any, signature: str, name: str = "kernel") -> int:
    """Machine address of a kernel's C entry point.

    Parameters
    ----------
    kernel : numba function compiled with an explicit signature
    signature : str
        `RHS_SIGNATURE` or `JAC_SIGNATURE`.
    name : str
        What to call it in the message.

    Raises
    ------
    SimulationError
        If it is not a numba function compiled with that signature: calling it would read foreign memory.
    """
    compiled = getattr(kernel, "overloads", {})
    wanted = "".join(signature.removeprefix("void(").removesuffix(")").split())
    for types, result in compiled.items():
        if ",".join(_spelling(t) for t in types) == wanted:
            return int(result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name))
    raise SimulationError(
        f"solver: {name} ({kernel!r}) is not compiled as {signature}; decorate it with numba.njit and that signature"
    )


def _spelling(numba_type: Any) -> str:
    """A numba type as it is written in a signature, without blanks."""
    if getattr(numba_type, "ndim", None) is None:
        return str(numba_type)
    layout = {("C", 1): "[::1]", ("C", 2): "[:,::1]"}.get((numba_type.layout, numba_type.ndim), "[?]")
    return f"{numba_type.dtype}{layout}"


@dataclass(frozen=True, slots=True, eq=False)
class Kernels:
    """The compiled functions of one model, dy/dt = f(t, y, u, p).

    Parameters
    ----------
    rhs : compiled with `RHS_SIGNATURE`, f [state/h]
    jac : compiled with `JAC_SIGNATURE`, df/dy [1/h]
    dfdp : compiled with `DFDP_SIGNATURE`, df/dp; needed for sensitivities of parameters
    dfdu : compiled with `DFDU_SIGNATURE`, df/du; needed for sensitivities of inputs

    Raises
    ------
    SimulationError
        If a function is not compiled with its signature.
    """

    rhs: Any
    jac: Any
    dfdp: Any = None
    dfdu: Any = None
    addresses: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        """Look the addresses up once, not at every solve; 0 stands for a function that is not there."""
        found = (
            address(self.rhs, RHS_SIGNATURE, "rhs"),
            address(self.jac, JAC_SIGNATURE, "jac"),
            address(self.dfdp, DFDP_SIGNATURE, "dfdp") if self.dfdp is not None else 0,
            address(self.dfdu, DFDU_SIGNATURE, "dfdu") if self.dfdu is not None else 0,
        )
        object.__setattr__(self, "addresses", found)
