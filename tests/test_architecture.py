"""The house stands on its floors: a file imports only from floors at or below its own, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from support import ROOT

PACKAGE = ROOT / "pkmodel"
MAX_LINES = 500

FLOORS: dict[int, str] = {
    0: "errors units expressions sharing allometry nuclides progress solve transport oxygen interstitium",
    1: "parts model model_file dimensions composition requirements",
    2: "labelling chains daughters checks patients identifiability library assembly spatial heterogeneity sbml "
    "compiler",
    3: "regimen agents dosing events recording exact steady_state covariates inputs problem simulation triggers "
    "trigger_walk preparation part_store populations petab reference observation data formats noncompartmental "
    "own_values size_affinity",
    4: "inference pet",
    5: "dosimetry",
    6: "cohorts scanning comparison sampling_design single_time validation trials",
    7: "plot plot_style evidence main_job report report_page report_numbers report_folder cli cli_verbs cli_output "
    "cli_formats cli_data cli_design plot_design plot_formats plot_nca plot_pet plot_population plot_single_time "
    "plot_validation "
    "cli_single_time validation_page",
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()}
ISOLATED = ("solve", "transport")  # numbers only: they import nothing of ours but themselves and the errors
NEVER_AT_THE_TOP = {"lmfit", "pymc", "arviz", "matplotlib"}  # seconds to import; only those who use them wait
NOT_AT_THE_TOP_OF_FLOOR_0 = NEVER_AT_THE_TOP | {"pandas", "xarray"}
NUMBERS_ONLY = {"sympy", "pandas", "xarray", "pint", "lmfit", "pymc", "arviz", "matplotlib"}


@dataclass(frozen=True)
class Import:
    """One imported module, where it stands, and whether it is loaded with the file that names it."""

    module: str
    line: int
    at_the_top: bool
    types_only: bool


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _targets(node: ast.Import | ast.ImportFrom, importer: str) -> Iterator[str]:
    """Full names of the modules a statement loads; ``from pkmodel import units`` means ``pkmodel.units``."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        package = importer if FILES[importer].name == "__init__.py" else importer.rpartition(".")[0]
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
    for alias in node.names:
        if base == "pkmodel" and alias.name == "__version__":
            continue  # a constant, wanted by reports
        full = f"{base}.{alias.name}"
        yield full if full in FILES else base


def _imports(importer: str) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, at_the_top: bool, types_only: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(Import(t, node.lineno, at_the_top, types_only) for t in _targets(node, importer))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for needed_by_types in node.body:
                visit(needed_by_types, False, True)
            for otherwise in node.orelse:
                visit(otherwise, at_the_top, types_only)
            return
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, at_the_top and not inside, types_only)

    visit(ast.parse(FILES[importer].read_text(encoding="utf-8")), True, False)
    return found


def _part(module: str) -> str:
    """``pkmodel.solve.linear`` -> ``solve``; the front door ``pkmodel`` itself -> ``""``."""
    return module.split(".")[1] if "." in module else ""


def _is_ours(module: str) -> bool:
    return module == "pkmodel" or module.startswith("pkmodel.")


def _draws_itself(found: Import) -> bool:
    """``result.plot()`` may reach up to the drawing code, when it is called and not before."""
    drawing = ("plot", "plot_design", "plot_formats", "plot_nca", "plot_pet", "plot_population", "plot_single_time")
    return _part(found.module) in drawing and not found.at_the_top


def _where(module: str, found: Import) -> str:
    return f"{FILES[module].relative_to(ROOT)}:{found.line} imports {found.module}"


INSIDE = [name for name in FILES if name != "pkmodel"]


@pytest.mark.parametrize("module", INSIDE)
def test_imports_only_from_its_floor_or_below(module: str) -> None:
    part = _part(module)
    assert part in FLOOR_OF, f"{module} stands on no floor; add {part!r} to FLOORS in tests/test_architecture.py"
    wrong = []
    for found in _imports(module):
        if not _is_ours(found.module) or _draws_itself(found):
            continue
        target = _part(found.module)
        if not target:
            wrong.append(f"{_where(module, found)}: the front door is for users, import the file itself")
        elif FLOOR_OF.get(target, 99) > FLOOR_OF[part]:
            wrong.append(f"{_where(module, found)}: floor {FLOOR_OF[part]} may not reach floor {FLOOR_OF.get(target)}")
        elif part in ISOLATED and target not in (part, "errors"):
            wrong.append(f"{_where(module, found)}: {part}/ imports nothing of ours but itself and the errors")
    assert not wrong, "\n".join(wrong)


def test_no_import_runs_in_a_circle() -> None:
    edges = {
        module: {i.module for i in _imports(module) if i.module in FILES and not (i.types_only or _draws_itself(i))}
        for module in INSIDE
    }
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail("these files import each other: " + " <- ".join(error.args[1]))


@pytest.mark.parametrize("module", list(FILES))
def test_heavy_libraries_wait_until_they_are_used(module: str) -> None:
    part = _part(module)
    floor_0 = FLOOR_OF.get(part) == 0
    late = NOT_AT_THE_TOP_OF_FLOOR_0 if floor_0 else NEVER_AT_THE_TOP
    wrong = [
        _where(module, found)
        for found in _imports(module)
        if (found.at_the_top and found.module.split(".")[0] in late)
        or (part in ISOLATED and found.module.split(".")[0] in NUMBERS_ONLY)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_is_too_long() -> None:
    paths = [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    long = [f"{path.relative_to(ROOT)}: {n} lines, allowed {MAX_LINES}" for path, n in lines.items() if n > MAX_LINES]
    assert not long, "\n".join(long)
