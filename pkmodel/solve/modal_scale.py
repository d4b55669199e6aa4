"""Free parameters on the scale of a fit to the parameters of a model, with derivatives, for compiled code.

The scales are those of `inference.slots`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@njit(
    "void(float64[:, ::1], int64[::1], int64[::1], int64[::1], float64[::1], float64[::1], float64[:, ::1], "
    "int64[:, ::1], float64[:, ::1], float64[:, :, ::1])",
    allocates=False,
)
def place(
    x: Floats, owner: Integers, block: Integers, kind: Integers, lower: Floats, upper: Floats, fixed: Floats,
    slot: Integers, P: Floats, along: Floats,
) -> None:  # fmt: skip
    """Fill the parameters of each member and their derivatives by x.

    Parameters
    ----------
    x : (S, k) array, free parameters on the scale of the fit
    owner, block : (members,) arrays, row of `x` and row of `fixed` of each member
    kind : (k,) array, 0 as it is, 1 logarithm, 2 logit between the bounds
    lower, upper : (k,) arrays [canonical]
    fixed : (blocks, K) array, parameters where nothing is free [canonical]
    slot : (blocks, K) array, column of `x` that a parameter follows, -1: none
    P : (members, K) array, overwritten [canonical]
    along : (members, k, K) array, overwritten; k = 0: derivatives are not wanted
    """
    for s in range(owner.size):
        b = block[s]
        for d in range(along.shape[1]):
            for q in range(fixed.shape[1]):
                along[s, d, q] = 0.0
        for q in range(fixed.shape[1]):
            d = slot[b, q]
            if d < 0:
                P[s, q] = fixed[b, q]
                continue
            value = slope = 1.0
            if kind[d] == 1:
                value = slope = math.exp(x[owner[s], d])
            elif kind[d] == 2:
                share = 1.0 / (1.0 + math.exp(-x[owner[s], d]))
                width = upper[d] - lower[d]
                value, slope = lower[d] + width * share, width * share * (1.0 - share)
            else:
                value = x[owner[s], d]
            P[s, q] = value
            if along.shape[1]:
                along[s, d, q] = slope
