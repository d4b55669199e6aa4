"""What a fitted population says of every value: predictions, residuals, shrinkage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .crowd import Crowd

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


def predictions(crowd: Crowd, phi: Array, b: Array) -> pd.DataFrame:
    """One row per value, in the unit of the data.

    PRED is the prediction of the typical subject with this one's covariates, IPRED that at the mode; RES, IRES the
    residuals; IWRES the latter over its standard deviation; CPRED and CWRES the mean and the decorrelated residual of
    the linearisation about the mode (Hooker 2007, doi:10.1007/s11095-007-9361-x), WRES those about the typical subject.
    Residuals of censored and missing values are nan; lognormal noise gives them for the logarithms.

    Parameters
    ----------
    crowd : subjects
    phi : (p,) population parameters
    b : (people, q) array, modes
    """
    import pandas as pd

    layout, data = crowd.layout, crowd.data
    mean, prior, z = layout.typical(phi), layout.prior(phi), layout.part(phi, "noise")
    first, own = crowd.predict(mean), crowd.predict(mean + b @ layout.design.T)
    with np.errstate(all="ignore"):
        logs = np.array([s.kind == "lognormal" for s in crowd.noise.scatters])[data.endpoint]
        measured = data.counted & (data.censored == 0)
        y = np.where(measured, np.where(logs, np.log(data.value), data.value), np.nan)
        pred, ipred = (np.where(logs, np.log(a.value), a.value) for a in (first, own))
        j0, j = ((a.tangent / np.where(logs, a.value, 1.0)[:, None]) @ layout.design for a in (first, own))
        v0, v = (crowd.noise.variance(a.value, z, data).value for a in (first, own))
        centre = ipred - np.einsum("nq,nq->n", j, b[crowd.owner])
        iwres = (y - ipred) / np.sqrt(v)
    visits = [p.occasions[o] for i, p in enumerate(crowd.people) for o in p.data.occasion]
    return pd.DataFrame(
        {
            "subject": [crowd.people[i].name for i in crowd.owner],
            "occasion": visits,
            "endpoint": [data.endpoints[e] for e in data.endpoint],
            "time": data.time,
            "value": data.value,
            "unit": [data.units[e] for e in data.endpoint],
            "censored": data.censored,
            "counted": data.counted,
            "PRED": first.value,
            "IPRED": own.value,
            "RES": y - pred,
            "WRES": _decorrelated(crowd, y - pred, j0, v0, prior),
            "IRES": y - ipred,
            "IWRES": iwres,
            "CPRED": np.where(logs, np.exp(centre), centre),
            "CRES": y - centre,
            "CWRES": _decorrelated(crowd, y - centre, j, v, prior),
        }
    )


def _decorrelated(crowd: Crowd, residual: Array, j: Array, v: Array, prior: Array) -> Array:
    """Residuals times the symmetric inverse root of their covariance."""
    out = np.full(residual.size, np.nan)
    for i in range(len(crowd.people)):
        at = np.flatnonzero((crowd.owner == i) & np.isfinite(residual))
        if not at.size:
            continue
        c = j[at] @ prior @ j[at].T + np.diag(v[at])
        if not np.isfinite(c).all():
            continue
        values, vectors = np.linalg.eigh(c)
        if values[0] > 0:
            out[at] = (vectors / np.sqrt(values)) @ vectors.T @ residual[at]
    return out


def shrinkage(crowd: Crowd, phi: Array, b: Array, iwres: Array) -> tuple[Array, Array, float]:
    """Shrinkage of the effects between subjects, between occasions, and of the residuals, each ``1 - SD/omega``.

    SDs are about the mean with divisor n, as in NONMEM 7.5 (Savic & Karlsson 2009, doi:10.1208/s12248-009-9133-0).

    Parameters
    ----------
    crowd : subjects
    phi : (p,) population parameters
    b : (people, q) array, modes
    iwres : (n,) array, individual weighted residuals
    """
    layout = crowd.layout
    m, r = len(layout.varying), len(layout.switching)
    between = 1 - b[:, :m].std(axis=0) / np.sqrt(np.diag(layout.omega(phi)))
    have = np.array([[o < len(p.occasions) for o in range(layout.occasions)] for p in crowd.people])
    kappa = b[:, m:].reshape(len(b), -1, r)[have[:, : b[:, m:].size // max(len(b) * r, 1)]] if r else np.zeros((1, 0))
    occasion = 1 - kappa.std(axis=0) / np.sqrt(np.diag(layout.occasion_omega(phi))) if r else np.zeros(0)
    known = iwres[np.isfinite(iwres)]
    return between, occasion, float(1 - known.std()) if known.size else float("nan")
