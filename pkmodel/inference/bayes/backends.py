"""Which back end predicts some subjects, and predictions at many points by it."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from .compiled_modal import compiled_modal
from .compiled_ode import compiled_ode
from .kernels import FUNCTION, Callback, Kernel, People

type Floats = NDArray[np.float64]

_LOCK = threading.Lock()
_KERNELS: dict[str, Kernel] = {}  # by key; kept for good, because compiled code may call them at any time


def kernel_of(people: People) -> Kernel:
    """The fastest back end that serves these subjects; made once.

    Parameters
    ----------
    people : whose predictions
    """
    with _LOCK:
        if people.key not in _KERNELS:
            _KERNELS[people.key] = _fastest(people)
        return _KERNELS[people.key]


def _fastest(people: People) -> Kernel:
    return compiled_modal(people) or compiled_ode(people) or Callback(people)


def evaluate(people: People, X: Floats) -> Floats:
    """Predictions at many points, (D, n), nan where a subject could not be solved.

    Parameters
    ----------
    people : whose
    X : (D, N, K) array, on the scale of the fit
    """
    X = np.ascontiguousarray(X, dtype=float)
    out, good = np.zeros((len(X), int(people.rows[-1]))), np.zeros(people.count)
    run = FUNCTION(kernel_of(people).address(False))
    for x, value in zip(X, out, strict=True):
        run(x.ctypes.data, value.ctypes.data, 0, good.ctypes.data)
        if not good.all():
            value[good[people.owner] == 0] = np.nan
    return out
