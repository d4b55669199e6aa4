"""PET practice: graphical and reference-tissue methods, input functions, parent fraction, blood, image-derived input.

Every function takes `Curve` objects, which carry unit, nuclide and decay flag, and reports rates in 1/min. Names are
imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "arterial": ("ArterialInput", "arterial_input"),
    "blood": ("check_samples", "correct_dispersion", "disperse", "find_delay", "fit_plasma_ratio", "shift"),
    "exponentials": ("ExponentialSum",),
    "graphical": ("logan", "logan_multilinear", "ma1", "ma2", "patlak"),
    "image_derived": ("ImageInput", "image_derived_input"),
    "input_fitting": ("fit_input",),
    "input_functions": ("InputFit", "input_function"),
    "parent_fraction": ("fit_parent_fraction",),
    "reference_lines": ("mrtm1", "mrtm2", "reference_logan", "reference_patlak"),
    "reference_tissue": ("frtm", "srtm", "srtm2", "srtm2_shared"),
    "result": ("PetResult",),
    "samples": ("frames", "samples"),
    "t_star": ("t_star_table",),
    "variance": ("count_variance",),
}
_HOME = {name: home for home, names in _WHERE.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"pkmodel.pet has no {name!r}; known: {', '.join(__all__)}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from .arterial import ArterialInput as ArterialInput
    from .arterial import arterial_input as arterial_input
    from .blood import check_samples as check_samples
    from .blood import correct_dispersion as correct_dispersion
    from .blood import disperse as disperse
    from .blood import find_delay as find_delay
    from .blood import fit_plasma_ratio as fit_plasma_ratio
    from .blood import shift as shift
    from .exponentials import ExponentialSum as ExponentialSum
    from .graphical import logan as logan
    from .graphical import logan_multilinear as logan_multilinear
    from .graphical import ma1 as ma1
    from .graphical import ma2 as ma2
    from .graphical import patlak as patlak
    from .image_derived import ImageInput as ImageInput
    from .image_derived import image_derived_input as image_derived_input
    from .input_fitting import fit_input as fit_input
    from .input_functions import InputFit as InputFit
    from .input_functions import input_function as input_function
    from .parent_fraction import fit_parent_fraction as fit_parent_fraction
    from .reference_lines import mrtm1 as mrtm1
    from .reference_lines import mrtm2 as mrtm2
    from .reference_lines import reference_logan as reference_logan
    from .reference_lines import reference_patlak as reference_patlak
    from .reference_tissue import frtm as frtm
    from .reference_tissue import srtm as srtm
    from .reference_tissue import srtm2 as srtm2
    from .reference_tissue import srtm2_shared as srtm2_shared
    from .result import PetResult as PetResult
    from .samples import frames as frames
    from .samples import samples as samples
    from .t_star import t_star_table as t_star_table
    from .variance import count_variance as count_variance
