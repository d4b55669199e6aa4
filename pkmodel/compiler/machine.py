"""Machine code of a model's kernels: made by LLVM for this processor, or found on disk.

`library` takes the digest of the equations and a function that writes the programs. What LLVM made of them is kept as
object code, in a file named by all that it depends on: digest, processor and its features, lanes, versions. A second
process links it in milliseconds and never writes the programs at all.

Where LLVM cannot be driven (`available` says why), or ``PKMODEL_BACKEND=scalar`` asks for it, `scalar` makes the same
kernels for one lane through numba.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol

import llvmlite  # type: ignore[import-untyped, unused-ignore]
from llvmlite import binding

from ..errors import PkmodelError
from .assembly import Module
from .cache import cached_bytes, code_digest, replace_bytes
from .llvm import emit
from .llvm_math import LIBRARY, library_symbol
from .llvm_step import STEP_KERNELS, Tableau, emit_step
from .tape import Tape

_BACKEND, _LANES = "PKMODEL_BACKEND", "PKMODEL_LANES"
_LOCK = threading.RLock()
_C_LIBRARY = (*LIBRARY, "fma", "floor", "ceil")  # the last three are called where the processor has no instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a library is made from.

    Attributes
    ----------
    tapes : programs by name; ``rhs``, ``factor`` and ``solve`` are needed for a step
    tableau : method of the step kernels, None for none
    broadcast : arrays with one number for all lanes, by program
    extra : write further kernels into the module (lanes given) and return their names; not for the scalar back end
    facts : sizes and names that are wanted again without the programs; must survive JSON
    """

    tapes: Mapping[str, Tape]
    tableau: Tableau | None = None
    broadcast: Mapping[str, frozenset[str]] = field(default_factory=dict)
    extra: tuple[Callable[[Module, int], tuple[str, ...]], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """A processor that code is made for: LLVM's names of it and of its features."""

    cpu: str
    features: str

    @property
    def lanes(self) -> int:
        """Doubles that are computed at once: as many as fill the widest registers, at least two."""
        has = self.features.split(",")
        return 8 if "+avx512f" in has else 4 if "+avx2" in has else 2


class Kernels(Protocol):
    """Compiled kernels: where they lie, for how many lanes, and the facts of their source."""

    lanes: int
    facts: Mapping[str, Any]

    def address(self, name: str) -> int:
        """Machine address of a kernel."""
        ...


class Library:
    """Kernels linked into this process; the machine code lives as long as this object.

    Attributes
    ----------
    lanes : int, patients computed at once [1]
    names : kernels it holds
    facts : as given in the source
    """

    def __init__(self, contents: bytes) -> None:
        header, _, code = contents.partition(b"\n")
        told = json.loads(header)
        self.lanes: int = told["lanes"]
        self.names: tuple[str, ...] = tuple(told["names"])
        self.facts: Mapping[str, Any] = MappingProxyType(told["facts"])
        with _LOCK:
            _start()
            self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine(host()))
            self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
            self._engine.finalize_object()
            self._addresses = {name: int(self._engine.get_function_address(name)) for name in self.names}

    def address(self, name: str) -> int:
        """Machine address of a kernel.

        Raises
        ------
        KeyError
            The library has no kernel of that name.
        """
        return self._addresses[name]


def library(digest: str, build: Callable[[], Source], lanes: int | None = None) -> Kernels:
    """Kernels of a model for this machine, compiled now or found on disk.

    Parameters
    ----------
    digest : str, of everything `build` depends on; empty: not kept on disk [text]
    build : writes the programs; called only where no machine code is found
    lanes : int, patients computed at once, by default what suits the processor [1]

    Raises
    ------
    PkmodelError
        An environment variable asks for what this machine does not have.
    """
    if backend() == "scalar":
        from .scalar import scalar_library

        return scalar_library(digest, build)
    width = default_lanes() if lanes is None else lanes

    def make() -> bytes:
        return compile_source(build(), width, host())

    if not digest:
        return Library(make())
    name = _file(digest, width, host())
    contents = cached_bytes(name, make)
    try:
        return Library(contents)
    except Exception:  # a file that is whole, but not what the linker takes
        contents = make()
        replace_bytes(name, contents)
        return Library(contents)


def compile_source(source: Source, lanes: int, target: Target) -> bytes:
    """Object code of a source under a header of what it holds; may be for another processor than this.

    Parameters
    ----------
    source : Source
    lanes : int, patients computed at once [1]
    target : Target
    """
    text, names = assembly(source, lanes)
    header = json.dumps({"lanes": lanes, "names": names, "facts": dict(source.facts)})
    with _LOCK:
        _start()
        code: bytes = _machine(target).emit_object(binding.parse_assembly(text))
    return header.encode() + b"\n" + code


def assembly(source: Source, lanes: int) -> tuple[str, tuple[str, ...]]:
    """LLVM assembly of a source, and the names of its kernels.

    Parameters
    ----------
    source : Source
    lanes : int, patients computed at once [1]
    """
    module = Module()
    for name, tape in source.tapes.items():
        emit(module, tape, lanes, broadcast=source.broadcast.get(name, frozenset()), name=name)
    names = tuple(source.tapes)
    if source.tableau is not None:
        states = 1 + max(s.at for s in source.tapes["rhs"].stores)
        factors = 1 + max(s.at for s in source.tapes["factor"].stores)
        emit_step(module, source.tapes["rhs"], states, factors, source.tableau, lanes)
        names += STEP_KERNELS
    for write in source.extra:
        names += write(module, lanes)
    return str(module), names


def backend() -> str:
    """``simd`` or ``scalar``: what ``PKMODEL_BACKEND`` says, else what this machine can do.

    Raises
    ------
    PkmodelError
        The variable has another value, or asks for SIMD where LLVM cannot be driven.
    """
    asked = os.environ.get(_BACKEND, "")
    if asked not in ("", "simd", "scalar"):
        raise PkmodelError(f"{_BACKEND} is {asked!r}; allowed: simd, scalar, or not set")
    if asked == "scalar":
        return "scalar"
    reason = available()
    if asked == "simd" and reason:
        raise PkmodelError(f"{_BACKEND} is 'simd', but vector code cannot be made here: {reason}; unset it")
    return "scalar" if reason else "simd"


@lru_cache(maxsize=1)
def available() -> str:
    """Why vector code cannot be made on this machine; empty where it can."""
    try:
        text = "define void @probe(ptr %x) { store <2 x double> splat (double 1.0), ptr %x, align 8\n ret void }"
        with _LOCK:
            _start()
            code = _machine(host()).emit_object(binding.parse_assembly(text))
        probe = Library(b'{"lanes": 2, "names": ["probe"], "facts": {}}\n' + code)
        two = (ctypes.c_double * 2)()
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(probe.address("probe"))(ctypes.addressof(two))
        return "" if list(two) == [1.0, 1.0] else "a test vector came out wrong"
    except Exception as error:  # whatever it is, the other back end does without it
        return f"{type(error).__name__}: {error}"


def default_lanes() -> int:
    """Patients computed at once: ``PKMODEL_LANES``, else as many as fill this processor's registers.

    Raises
    ------
    PkmodelError
        The variable is not a power of two up to 64.
    """
    asked = os.environ.get(_LANES)
    if asked is None:
        return host().lanes
    if asked not in ("1", "2", "4", "8", "16", "32", "64"):
        raise PkmodelError(f"{_LANES} is {asked!r}; allowed: 1, 2, 4, 8, 16, 32, 64, or not set")
    return int(asked)


@lru_cache(maxsize=1)
def host() -> Target:
    """The processor of this machine."""
    return Target(binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten())


def _file(digest: str, lanes: int, target: Target) -> str:
    """Name of the file for all that machine code depends on."""
    told = (digest, code_digest(), lanes, target.cpu, target.features, binding.get_process_triple())
    text = "\n".join(map(str, (*told, llvmlite.__version__, binding.llvm_version_info)))
    return f"pkmodel_machine_{hashlib.sha256(text.encode()).hexdigest()[:32]}.o"


def _machine(target: Target) -> Any:
    return binding.Target.from_triple(binding.get_process_triple()).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, jit=True
    )


@lru_cache(maxsize=1)
def _start() -> None:
    """Tell LLVM what processor this is, and where the C library's functions lie."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    mathematics = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else ctypes.util.find_library("m"))
    for name in _C_LIBRARY:
        symbol = library_symbol(name) if name in LIBRARY else name
        binding.add_symbol(symbol, ctypes.cast(getattr(mathematics, name), ctypes.c_void_p).value)
