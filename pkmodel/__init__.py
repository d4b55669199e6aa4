"""Compartment models of radiopharmaceuticals: serial imaging in, absorbed dose and a plan out.

Research software, not a medical device. The public names below are imported when first used, so that
``import pkmodel`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "model": ("Model", "Parameter"),
    "library": ("list_models", "list_protocols", "list_studies"),
    "assembly": ("assemble", "load_model"),
    "data": ("Curves", "Study", "load_study"),
    "composition": ("instantiate", "join"),
    "labelling": ("label",),
    "agents": ("load_agent", "regimen_of"),
    "patients": ("patient",),
    "chains": ("Release",),
    "identifiability": ("identify",),
    "sbml.reader": ("read_sbml",),
    "sbml.writer": ("write_sbml",),
    "petab": ("read_petab",),
    "formats.bids": ("read_bids",),
    "formats.kinpar": ("write_kinpar",),
    "formats.nonmem": ("read_nonmem",),
    "formats.nonmem_events": ("Route",),
    "formats.nonmem_write": ("write_nonmem",),
    "noncompartmental": ("nca",),
    "own_values": ("personal",),
    "checks": ("check",),
    "regimen": ("Administration", "Regimen"),
    "covariates": ("Covariate",),
    "simulation": ("simulate",),
    "scanning": ("virtual_scans",),
    "cohorts": ("cohort",),
    "nuclides": ("nuclide",),
    "inference.protocol": ("ErrorModel", "Free", "Protocol", "load_protocol"),
    "inference.fitting": ("fit",),
    "inference.input_fit": ("fit_with_input",),
    "inference.population.effects": ("Effects", "allometric", "relation"),
    "inference.population.estimate": ("fit_population",),
    "inference.population.diagnosis.candidates": ("Candidate", "candidates_of"),
    "inference.population.diagnosis.comparison": ("compare_populations",),
    "inference.population.diagnosis.covariate_search": ("search_covariates",),
    "inference.population.result": ("PopulationFit",),
    "inference.bayes.posterior": ("BayesFit", "compare_posteriors"),
    "inference.compare": ("compare",),
    "inference.result": ("Fit",),
    "dosimetry.integration": ("integrate",),
    "dosimetry.absorbed": ("dose",),
    "dosimetry.result": ("TIA", "Doses"),
    "dosimetry.s_values": ("s_self",),
    "dosimetry.s_matrix": ("load_s_matrix",),
    "dosimetry.radiobiology": ("bed", "eqd2"),
    "dosimetry.limits": ("Limit", "published_limits"),
    "dosimetry.planning": ("Plan", "plan"),
    "dosimetry.practice": ("haenscheid", "known_half_life", "madsen", "mono_exponential", "trapezoid"),
    "comparison": ("compare_formats", "map_size_affinity", "sweep_tumour"),
    "inference.population_file": ("PopulationModel",),
    "single_time": ("leave_scans_out", "predict_tia"),
    "sampling_design": ("Clinic", "ScanNoise", "best_time", "design", "sampling_adequacy"),
    "validation": ("validate",),
    "main_job": ("run",),
    "errors": ("PkmodelError",),
}
_HOME = {name: home for home, names in _WHERE.items() for name in names}
_HOME["model_from_dict"] = _HOME["model_from_toml"] = _HOME["model_to_toml"] = "model_file"

_PACKAGES = ("pet",)  # reached as pkmodel.pet without an import of its own

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module 'pkmodel' has no attribute {name!r}; known: {', '.join([*__all__, *_PACKAGES])}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from . import pet as pet
    from .agents import load_agent as load_agent
    from .agents import regimen_of as regimen_of
    from .assembly import assemble as assemble
    from .assembly import load_model as load_model
    from .chains import Release as Release
    from .checks import check as check
    from .cohorts import cohort as cohort
    from .comparison import compare_formats as compare_formats
    from .comparison import map_size_affinity as map_size_affinity
    from .comparison import sweep_tumour as sweep_tumour
    from .composition import instantiate as instantiate
    from .composition import join as join
    from .covariates import Covariate as Covariate
    from .data import Curves as Curves
    from .data import Study as Study
    from .data import load_study as load_study
    from .dosimetry.absorbed import dose as dose
    from .dosimetry.integration import integrate as integrate
    from .dosimetry.limits import Limit as Limit
    from .dosimetry.limits import published_limits as published_limits
    from .dosimetry.planning import Plan as Plan
    from .dosimetry.planning import plan as plan
    from .dosimetry.practice import haenscheid as haenscheid
    from .dosimetry.practice import known_half_life as known_half_life
    from .dosimetry.practice import madsen as madsen
    from .dosimetry.practice import mono_exponential as mono_exponential
    from .dosimetry.practice import trapezoid as trapezoid
    from .dosimetry.radiobiology import bed as bed
    from .dosimetry.radiobiology import eqd2 as eqd2
    from .dosimetry.result import TIA as TIA
    from .dosimetry.result import Doses as Doses
    from .dosimetry.s_matrix import load_s_matrix as load_s_matrix
    from .dosimetry.s_values import s_self as s_self
    from .errors import PkmodelError as PkmodelError
    from .formats.bids import read_bids as read_bids
    from .formats.kinpar import write_kinpar as write_kinpar
    from .formats.nonmem import read_nonmem as read_nonmem
    from .formats.nonmem_events import Route as Route
    from .formats.nonmem_write import write_nonmem as write_nonmem
    from .identifiability import identify as identify
    from .inference.bayes.posterior import BayesFit as BayesFit
    from .inference.bayes.posterior import compare_posteriors as compare_posteriors
    from .inference.compare import compare as compare
    from .inference.fitting import fit as fit
    from .inference.input_fit import fit_with_input as fit_with_input
    from .inference.population.diagnosis.candidates import Candidate as Candidate
    from .inference.population.diagnosis.candidates import candidates_of as candidates_of
    from .inference.population.diagnosis.comparison import compare_populations as compare_populations
    from .inference.population.diagnosis.covariate_search import search_covariates as search_covariates
    from .inference.population.effects import Effects as Effects
    from .inference.population.effects import allometric as allometric
    from .inference.population.effects import relation as relation
    from .inference.population.estimate import fit_population as fit_population
    from .inference.population.result import PopulationFit as PopulationFit
    from .inference.population_file import PopulationModel as PopulationModel
    from .inference.protocol import ErrorModel as ErrorModel
    from .inference.protocol import Free as Free
    from .inference.protocol import Protocol as Protocol
    from .inference.protocol import load_protocol as load_protocol
    from .inference.result import Fit as Fit
    from .labelling import label as label
    from .library import list_models as list_models
    from .library import list_protocols as list_protocols
    from .library import list_studies as list_studies
    from .main_job import run as run
    from .model import Model as Model
    from .model import Parameter as Parameter
    from .model_file import model_from_dict as model_from_dict
    from .model_file import model_from_toml as model_from_toml
    from .model_file import model_to_toml as model_to_toml
    from .noncompartmental import nca as nca
    from .nuclides import nuclide as nuclide
    from .own_values import personal as personal
    from .patients import patient as patient
    from .petab import read_petab as read_petab
    from .regimen import Administration as Administration
    from .regimen import Regimen as Regimen
    from .sampling_design import Clinic as Clinic
    from .sampling_design import ScanNoise as ScanNoise
    from .sampling_design import best_time as best_time
    from .sampling_design import design as design
    from .sampling_design import sampling_adequacy as sampling_adequacy
    from .sbml.reader import read_sbml as read_sbml
    from .sbml.writer import write_sbml as write_sbml
    from .scanning import virtual_scans as virtual_scans
    from .simulation import simulate as simulate
    from .single_time import leave_scans_out as leave_scans_out
    from .single_time import predict_tia as predict_tia
    from .validation import validate as validate
