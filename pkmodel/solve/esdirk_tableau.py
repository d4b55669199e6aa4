"""Coefficients of the implicit Runge-Kutta scheme that `stiff` runs.

ESDIRK 5(4) with seven stages of Kvaerno (2004), Singly diagonally implicit Runge-Kutta methods with an explicit first
stage, BIT Numer. Math. 44:489, doi:10.1023/B:BITN.0000046811.70614.38. The first stage is explicit (it is the
last one of the step before), the others share one diagonal coefficient, hence one matrix to factorise. Both the
solution (row 7) and the comparison of lower order (row 6) are stages at the end of the step: both are stiffly
accurate, so their difference is an error estimate that does not explode on fast components.

The published decimals satisfy the order conditions to about 1e-15 (tests/unit/test_solve_stiff.py checks all
seventeen); the abscissae are the row sums.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GAMMA = 0.26
ORDER = 5

A: NDArray[np.float64] = np.array(
    [
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.26, 0.26, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.13, 0.84033320996790809, 0.26, 0.0, 0.0, 0.0, 0.0],
        [0.22371961478320505, 0.47675532319799699, -0.06470895363112615, 0.26, 0.0, 0.0, 0.0],
        [0.16648564323248321, 0.10450018841591720, 0.03631482272098715, -0.13090704451073998, 0.26, 0.0, 0.0],
        [0.13855640231268224, 0.0, -0.04245337201752043, 0.02446657898003141, 0.61943039072480676, 0.26, 0.0],
        [
            0.13659751177640291,
            0.0,
            -0.05496908796538376,
            -0.04118626728321046,
            0.62993304899016403,
            0.06962479448202728,
            0.26,
        ],
    ]
)
A.setflags(write=False)

C: NDArray[np.float64] = A.sum(axis=1)
C.setflags(write=False)
