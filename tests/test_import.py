"""`import pkmodel` is cheap: it loads numpy and the standard library, and costs at most 0.3 s of processor time."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

from support import ROOT

LIMIT = 0.3  # s of processor time, of which numpy takes most
HEAVY = "lmfit pymc arviz matplotlib sympy pandas xarray numba pint scipy".split()


def _python(code: str) -> tuple[str, float]:
    """Run code in a new interpreter; its output and the processor time it took [s]."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def test_import_costs_little() -> None:
    _python("import pkmodel")  # writes the byte code, which an installed package has
    # the best of three: other work on the machine only ever adds
    idle = min(_python("pass")[1] for _ in range(3))
    numpy = min(_python("import numpy")[1] for _ in range(3)) - idle
    cost = min(_python("import pkmodel")[1] for _ in range(3)) - idle
    print(f"import pkmodel: expected at most {LIMIT} s of processor time, got {cost:.3f} s (numpy alone {numpy:.3f} s)")
    assert cost <= LIMIT


def test_import_loads_nothing_heavy() -> None:
    out, _ = _python(f"import json, sys, pkmodel; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))")
    assert json.loads(out) == []


def test_the_public_names_are_all_there() -> None:
    """Every name the package promises can be had, and each verb keeps being the verb after its files are loaded."""
    code = (
        "import json, types, pkmodel\n"
        "names = [n for n in getattr(pkmodel, '__all__', []) if not n.startswith('_')]\n"
        "first = {n: getattr(pkmodel, n) for n in names}\n"
        "print(json.dumps([n for n in names if isinstance(getattr(pkmodel, n), types.ModuleType)\n"
        "                  or getattr(pkmodel, n) is not first[n]]))"
    )
    out, _ = _python(code)
    assert json.loads(out) == [], "these names turn into modules once used"


def test_an_unknown_name_is_refused() -> None:
    import pkmodel

    with pytest.raises(AttributeError, match="no_such_verb"):
        getattr(pkmodel, "no_such_" + "verb")


def test_the_citation_names_this_version() -> None:
    import pkmodel

    assert f"version: {pkmodel.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
