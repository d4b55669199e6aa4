"""A model as it is for one subject: what the data say of that subject becomes values of the model's parameters."""

from __future__ import annotations

from dataclasses import replace

from .covariates import Covariate
from .data import Curves
from .errors import DataError, UnitError
from .model import Model
from .units import convert


def personal(model: Model, curves: Curves) -> tuple[Model, dict[str, Covariate]]:
    """Set the covariates of a subject into a model.

    Parameters
    ----------
    model : whose parameters bear the names of the covariates; what it does not know is left alone
    curves : of the subject, with `covariates` and their units; one without a unit is in the parameter's own

    Returns
    -------
    The model with what is constant set, and what changes in time by name, for ``prepare(..., covariates=...)``.

    Raises
    ------
    DataError
        A covariate is in a unit of another dimension than the parameter, or the parameter is a formula.

    Examples
    --------
    >>> from pkmodel.simulation import simulate
    >>> one, varying = personal(model, study["12"])
    >>> run = simulate(one, study["12"].regimen, [1, 2, 4, 8], covariates=varying)
    """
    constant: dict[str, float] = {}
    varying: dict[str, Covariate] = {}
    for name, value in curves.covariates.items():
        parameter = model.parameters.get(name)
        if parameter is None:
            continue
        who = f"subject {curves.subject}: covariate {name}"
        if parameter.formula is not None:
            raise DataError(f"{who}: a formula of {model.name}; rename the column or the parameter")
        unit = curves.covariate_units.get(name, "") or parameter.unit
        try:
            scale = float(convert(1.0, unit, parameter.unit, who))
        except UnitError as error:
            raise DataError(str(error)) from None
        if isinstance(value, Covariate):
            varying[name] = replace(value, value=value.value * scale)
        else:
            constant[name] = value * scale
    return model.replace(**constant), varying
