"""numba's ``njit`` with this package's options and a type that keeps the decorated function's own.

Options, and why: ``cache=True`` stores machine code beside the source (or in the user's cache folder where the
source cannot be written to), so only the first process ever compiles. ``error_model="numpy"`` makes 0/0 a NaN that the
solvers test for, instead of an exception inside a step. ``fastmath`` stays off: it lets the compiler assume
that no NaN exists, and that test would be void. ``nogil=True`` lets threads run side by side: no compiled function
touches a Python object.

numba's cache looks only at the age of the file that holds the outermost function. So compiled functions call
compiled functions of their own file only, and constants from elsewhere are passed in as arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba  # type: ignore[import-untyped, unused-ignore]


def njit[F: Callable[..., object]](
    signature: str | None = None, *, cache: bool = True, allocates: bool = True, inner: bool = False
) -> Callable[[F], F]:
    """Decorator that compiles a function.

    Parameters
    ----------
    signature : str, optional
        numba signature; with it the function is compiled (or fetched from the cache) at definition,
        without it when first used inside another compiled function.
    cache : bool
        Whether to keep the machine code on disk. numba finds a cached function's module again by its name, so a
        module that is not always imported under one name (a test, a script) must say no.
    allocates : bool
        Whether the function makes arrays. One that does not, nor anything it calls, need not count who uses an array:
        it becomes smaller and faster.
    inner : bool
        Whether only compiled functions call it. Python's way in is not built then, and nothing is kept on disk: the
        outermost function is, with all that it calls.
    """
    untyped: Any = numba.njit  # numba has no types of its own; whether a stub package is installed must not matter
    options: dict[str, Any] = {"cache": cache, "error_model": "numpy", "fastmath": False, "nogil": True}
    if not allocates:
        options |= {"_nrt": False, "no_cfunc_wrapper": True}
    if inner:
        options |= {"cache": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    decorator: Callable[[F], F] = untyped(signature, **options)
    return decorator
