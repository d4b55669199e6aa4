"""The model as one operation of PyTensor: predictions of all subjects and their exact tangents from one solve.

``value, tangent, good = Predictions(people)(x)`` with x (N, K) on the scale of the fit. The gradient of whatever is
computed from `value` is a contraction with `tangent`, an output of the same operation, so PyTensor solves once for
value and gradient. Compiled code calls a kernel (`kernels`) through a named symbol: no Python object is touched (no
"object mode"), except by the kernel that says so.

What an operation is, is the digest of model, numbers, doses, inputs, times, tolerances and code (`People.key`). That is
its only property, its name in the cache of machine code, and the name of its symbol: two operations that are equal are
the same. It is pickled as what it was made from, and finds its kernel again where it is loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytensor.graph.basic as _graph  # this file is imported late, by those who sample
import pytensor.graph.op as _op
import pytensor.link.numba.dispatch.basic as _numba
import pytensor.tensor as _tensor

from ...solve.call import numba
from .backends import kernel_of
from .kernels import Kernel, People

# Half of what is used here has types; as a whole it has none.
pt: Any = _tensor
Apply: Any = _graph.Apply
Op: Any = _op.Op
numba_njit: Any = _numba.numba_njit
register_funcify_and_cache_key: Any = _numba.register_funcify_and_cache_key
types: Any = numba.types
_LOCK = threading.Lock()
_FUNCTIONS: dict[str, Any] = {}  # by symbol


class Predictions(Op):  # type: ignore[misc, unused-ignore]
    """Predictions of all subjects, (n,); their tangents, (n, K); and a flag per subject, (N,): 1 fine, 0 failed.

    Parameters
    ----------
    people : whose
    tangents : False: the twin without tangents, for predictions from draws; it has no gradient
    """

    __props__ = ("key", "tangents")

    def __init__(self, people: People, tangents: bool = True) -> None:
        self.people = people
        self.tangents = tangents
        self.key = people.key

    def __reduce__(self) -> tuple[type[Predictions], tuple[People, bool]]:
        return Predictions, (self.people, self.tangents)

    @property
    def kernel(self) -> Kernel:
        """What computes it."""
        return kernel_of(self.people)

    def make_node(self, x: Any) -> Any:
        """Bind to a matrix (N, K)."""
        n = int(self.people.rows[-1])
        outputs = [
            pt.tensor("value", shape=(n,), dtype="float64"),
            pt.tensor("tangent", shape=(n if self.tangents else 0, self.people.width), dtype="float64"),
            pt.tensor("good", shape=(self.people.count,), dtype="float64"),
        ]
        return Apply(self, [pt.as_tensor_variable(x, ndim=2).astype("float64")], outputs)

    def infer_shape(self, node: Any, shapes: Any) -> list[tuple[Any, ...]]:
        """Shapes, which do not depend on the input."""
        return [tuple(pt.constant(s, dtype="int64") for s in out.type.shape) for out in node.outputs]

    def perform(self, node: Any, inputs: Sequence[Any], output_storage: Any) -> None:
        """The same without compiled code."""
        n, wide = int(self.people.rows[-1]), self.people.width
        value, tangent, good = np.zeros(n), np.zeros((n if self.tangents else 0, wide)), np.zeros(self.people.count)
        with np.errstate(all="ignore"):
            self.people.solve(inputs[0], value, tangent, good, self.tangents)
        for storage, array in zip(output_storage, (value, tangent, good), strict=True):
            storage[0] = array

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Contraction with the tangents, which the same solve has made."""
        if not self.tangents:
            raise NotImplementedError("predictions without tangents have no gradient; use Predictions(people)")
        weighted = cotangents[0][:, None] * outputs[1]
        if self.people.count == 1:
            return [weighted.sum(axis=0, keepdims=True)]
        sizes = np.diff(self.people.rows)
        if (sizes == sizes[0]).all():
            return [weighted.reshape((self.people.count, int(sizes[0]), self.people.width)).sum(axis=1)]
        return [pt.inc_subtensor(pt.zeros((self.people.count, self.people.width))[self.people.owner], weighted)]

    L_op = pullback

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        """Only the predictions have a gradient."""
        return [[self.tangents, False, False]]


def _symbol(op: Predictions) -> str:
    return f"pkmodel_{op.key[:40]}_{int(op.tangents)}"


@register_funcify_and_cache_key(Predictions)  # type: ignore[untyped-decorator, unused-ignore]
def _compile(op: Predictions, node: Any = None, **_: Any) -> tuple[Any, str]:
    """Compiled code of an operation, and its name in PyTensor's cache."""
    name = _symbol(op)
    kernel = op.kernel
    with _LOCK:
        if name not in _FUNCTIONS:
            llvm.add_symbol(name, kernel.address(op.tangents))  # machine code of another process finds it by name too
            _FUNCTIONS[name] = _function(name, op)
    return _FUNCTIONS[name], name


def _function(name: str, op: Predictions) -> Any:
    external = types.ExternalFunction(name, types.void(*[types.intp] * 4))
    n, count = int(op.people.rows[-1]), op.people.count
    wide, deep = op.people.width, n if op.tangents else 0

    @numba_njit
    def predictions(x):  # type: ignore[no-untyped-def]
        given = np.ascontiguousarray(x)
        value, tangent, good = np.zeros(n), np.zeros((deep, wide)), np.zeros(count)
        external(given.ctypes.data, value.ctypes.data, tangent.ctypes.data, good.ctypes.data)
        if given.size == 0:  # `given` must live until here
            good[:] = 0.0
        return value, tangent, good

    return predictions
