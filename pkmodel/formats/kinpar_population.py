"""A population fit as rows of subject, occasion, region and parameter, for ``*_kinpar.tsv``.

What a population fit says of one scan: each subject's most likely parameters with their errors given the population,
and what the model derives from them (VT ...), by the delta method.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..expressions import symbol
from ..units import factor


def individual_rows(result: Any) -> list[dict[str, Any]]:
    """Rows of every subject and occasion of a population fit.

    Parameters
    ----------
    result : with ``individual_fits`` (subject -> slots, x, covariance, likelihood) and ``crowd.people``

    Returns
    -------
    list of dict
        subject, occasion, region, parameter, value, se, unit, meaning.
    """
    occasions = {person.name: person.occasions for person in result.crowd.people}
    rows = []
    for name, one in result.individual_fits.items():
        visits = occasions[name]
        blocks = one.likelihood.blocks
        each = len(blocks) // len(visits)  # a visit has the same regions, one solve each, as the others
        for k, block in enumerate(blocks):
            rows += _of_block(one, block, name, visits[min(k // max(each, 1), len(visits) - 1)], result.model)
    return rows


def _of_block(one: Any, block: Any, subject: str, occasion: str, model: Any) -> list[dict[str, Any]]:
    """Parameters and derived numbers of one solve: a region of one visit."""
    region = block.observers[0].curve.region if model.scope == "region" else ""
    where = {"subject": subject, "occasion": occasion, "region": region}
    slots = one.slots
    values = np.array([s.from_scale(v) for s, v in zip(slots, one.x, strict=True)])
    slopes = np.array([float(s.slope(v)) for s, v in zip(slots, one.x, strict=True)])
    variance = np.diag(one.covariance)
    rows = []
    for column in block.columns:
        s, unit = slots[column], factor(slots[column].unit)
        se = abs(slopes[column]) * float(np.sqrt(variance[column])) / unit
        known = model.parameters[s.parameter].meaning
        row = {
            "parameter": s.parameter,
            "value": float(values[column]) / unit,
            "se": se,
            "unit": s.unit,
            "meaning": known,
        }
        rows.append({**where, **row})
    names = block.problem.compiled.parameters
    at = dict(zip([symbol(n) for n in names], block.parameters(values), strict=True))
    leaders = dict(block.ties)
    for d in model.derived.values():
        formula, unit = d.formula.xreplace(model.resolved), factor(d.unit)
        gradient = np.zeros(len(slots))
        for n, parameter in enumerate(names):
            source = leaders.get(n, n)
            if source in block.indices and formula.has(symbol(parameter)):
                column = block.columns[block.indices.index(source)]
                gradient[column] += float(formula.diff(symbol(parameter)).subs(at)) * slopes[column]
        se = float(np.sqrt(np.maximum(gradient @ one.covariance @ gradient, 0.0))) / unit
        value = float(formula.subs(at)) / unit
        rows.append({**where, "parameter": d.name, "value": value, "se": se, "unit": d.unit, "meaning": d.meaning})
    return rows
