"""What the operation of a Bayesian model runs: predictions of all subjects and their exact tangents, by a C pointer.

Three back ends, from fast to general. `compiled_ode` calls the engine's driver from compiled code, `compiled_modal` the
exact one of linear models. Everything else (event times that depend on parameters, steady states, triggered events) is
`Callback`: compiled code calls back into Python, which takes Python's lock for the time of a solve, so chains in
threads wait for each other there. A failure is a flag of its subject, beside numbers that are finite.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...compiler.cache import code_digest
from ...errors import FitError
from ..likelihood import Likelihood

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

FUNCTION = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)


class Kernel(Protocol):
    """Predictions of some subjects.

    Attributes
    ----------
    words : how it computes, for a reader [text]
    """

    words: str

    def address(self, tangents: bool) -> int:
        """Machine address of ``void f(x, value, tangent, good)``; it is valid while the kernel lives."""
        ...


class People:
    """Some subjects with one table of free parameters, (N, K), a row each.

    Parameters
    ----------
    likelihoods : one a subject
    places : column of each subject's free parameters; default: all have the same in the same order
    width : number of columns, K
    """

    def __init__(
        self,
        likelihoods: Sequence[Likelihood],
        places: Sequence[Sequence[int]] | None = None,
        width: int | None = None,
    ) -> None:
        self.likelihoods = tuple(likelihoods)
        if places is None:
            widths = {len(one.slots) for one in self.likelihoods}
            if len(widths) != 1:
                raise FitError(f"subjects have {sorted(widths)} free parameters; without places all must have the same")
            (width,) = widths
            places = [range(width)] * len(self.likelihoods)
        assert width is not None
        self.places = tuple(tuple(int(k) for k in p) for p in places)
        self.width = width

    def __reduce__(self) -> tuple[Any, ...]:
        return People, (self.likelihoods, self.places, self.width)  # what follows is made again where it is needed

    @property
    def count(self) -> int:
        """Number of subjects, N."""
        return len(self.likelihoods)

    @cached_property
    def rows(self) -> Integers:
        """Where each subject's predictions begin, (N + 1,)."""
        return np.cumsum([0, *(len(one.data.value) for one in self.likelihoods)])

    @cached_property
    def owner(self) -> Integers:
        """Subject of each prediction, (n,)."""
        return np.repeat(np.arange(self.count), np.diff(self.rows))

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the predictions: models, numbers, doses, inputs, times, tolerances and code."""
        text = hashlib.sha256(code_digest().encode())
        text.update(repr((self.places, self.width)).encode())
        for one in self.likelihoods:
            for slot in one.slots:
                text.update(repr(slot).encode())
            for block in one.blocks:
                _add_block(text, block)
        return text.hexdigest()

    def solve(self, x: Floats, value: Floats, tangent: Floats, good: Floats, tangents: bool) -> None:
        """Predictions in Python; what the compiled back ends are tested against.

        Parameters
        ----------
        x : (N, K) array, on the scale of the fit
        value, tangent : (n,) and (n, K) arrays, written; zero where a subject failed
        good : (N,) array, written: 1, or 0 for a subject whose model could not be solved
        tangents : whether they are wanted
        """
        for i, one in enumerate(self.likelihoods):
            mine = slice(self.rows[i], self.rows[i + 1])
            place = list(self.places[i])
            found = one.predict(x[i, place], tangents=tangents)
            fine = not found.failure and bool(np.isfinite(found.value).all())
            fine = fine and (not tangents or bool(np.isfinite(found.tangent).all()))
            good[i] = float(fine)
            value[mine] = found.value if fine else 0.0
            if tangents:
                tangent[mine] = 0.0
                if fine:
                    tangent[mine, place] = found.tangent


def _add_block(text: Any, block: Any) -> None:
    problem = block.problem
    said = (
        problem.model.digest, problem.rtol, problem.atol, problem.method, str(problem.regimen), repr(problem.regimen),
        block.columns, block.indices, block.ties, sorted(problem.inputs), repr(problem.steps),
    )  # fmt: skip
    text.update(repr(said).encode())
    arrays = [block.values, problem.times]
    for name in sorted(problem.inputs):
        arrays += [problem.inputs[name].t, problem.inputs[name].value]
    for o in block.observers:
        text.update(repr((o.observable, o.mode)).encode())
        arrays += [o.times, o.start, o.end, o.scale]
    for a in arrays:
        whole = np.ascontiguousarray(a)
        text.update(str((whole.dtype.str, whole.shape)).encode())
        text.update(whole.tobytes())


class Callback:
    """The general back end: compiled code calls Python through a C pointer.

    Parameters
    ----------
    people : whose predictions
    """

    words = "called back in Python (takes Python's lock: chains wait for each other in the solver)"

    def __init__(self, people: People) -> None:
        self.people = people
        self._kept: dict[bool, Any] = {}

    def address(self, tangents: bool) -> int:
        """Machine address of the callback."""
        if tangents not in self._kept:
            self._kept[tangents] = FUNCTION(self._function(tangents))
        address = ctypes.cast(self._kept[tangents], ctypes.c_void_p).value
        assert address is not None
        return address

    def _function(self, tangents: bool) -> Any:
        people = self.people
        N, K, n = people.count, people.width, int(people.rows[-1])

        def run(x: int, value: int, tangent: int, good: int) -> None:
            out = _view(value, (n,)), _view(tangent, (n if tangents else 0, K)), _view(good, (N,))
            try:
                with np.errstate(all="ignore"):
                    people.solve(_view(x, (N, K)), *out, tangents)
            except Exception:  # nothing may leave a callback: whatever went wrong, this point has no likelihood
                for array in out:
                    array[...] = 0.0

        return run


def _view(address: int, shape: tuple[int, ...]) -> Floats:
    size = int(np.prod(shape))
    if not size:
        return np.zeros(shape)
    return np.ctypeslib.as_array((ctypes.c_double * size).from_address(address)).reshape(shape)
