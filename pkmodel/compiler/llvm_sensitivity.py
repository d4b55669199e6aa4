"""The derivative of a Rosenbrock step, forwards and backwards, as LLVM assembly around the kernels of a model.

`second_order` has the formulae. Forwards, a vector holds one state's derivative along as many directions as it has
lanes; what depends on the patient only (factors, matrix entries) is one number for all of them. Stage i solves

    W x_i = g Z_i + (1/h) sum_{j<i} c_ij v_j + [J(Y_i) - J(y)] Z_i + G_i s + F_i pdot,     v_i = x_i - Z_i,

and because the method is stiffly accurate the last arguments need no sum: Z_7 = x_6, Z_8 = x_7, s_new = x_8. Before
each stage one loop over the states turns the last x into v and writes both sums.

Backwards, a vector holds one patient a lane. With l the cotangent of the new state, stages run from the last to the
first, each with a solve by the transposed matrix:

    b_i = m_i l + sum_r h_ri d_r + sum_{j>i} (a_ji z_j + (c_ji/h) v_j),      W' v_i = b_i,
    z_i = J(Y_i)' v_i = g v_i - b_i + [J(Y_i) - J(y)]' v_i,      l += z_i + G_i' v_i,      pbar += F_i' v_i,

d_r being what outputs inside the step contribute through the dense output's vectors D_r.
"""

from __future__ import annotations

import struct

from .assembly import Module, Writer
from .llvm_step import Tableau, weighted_sum


def emit_tangent_step(module: Module, states: int, tableau: Tableau, lanes: int, *, stride: int) -> None:
    """Write ``tangent(s, ctl, w, M, weights, places, K, u)``; the module holds ``push`` and ``solve`` (spread factors).

    Parameters
    ----------
    module : Module
    states : int, n [1]
    tableau : Tableau
    lanes : int, directions side by side [1]
    stride : int, stages side by side in M: entry e of stage i is ``M[e*stride + i]`` where it is more than one, else
        ``M[e + i*entries]`` with the number of entries in ``places[1]`` [1]

    Notes
    -----
    ``ctl`` starts with 1/h and 1/(gamma h), `places` with a count; that many (row, entry, parameter) follow, whose
    products ``M[entry] * weights[parameter]`` make up F pdot. All of `places` are whole numbers of 64 bits.
    """
    w = Writer(module, "tangent", lanes, ["s", "ctl", "w", "M", "weights", "places", "K", "u"])
    stages = [w.address("%K", j * states) for j in range(tableau.stages)]
    per_h, g = w.spread("%ctl", 0), w.spread("%ctl", 1)
    count = w.write("load i64, ptr %places, align 8")
    entries = w.write(f"load i64, ptr {w.address('%places', 1, 1)}, align 8")
    argument, c, stem = "%s", tableau.c.tolist(), tableau.last_sum
    for i, k in enumerate(stages):
        begun = i > stem  # the sum of c over the stages before the stem is in the place of the result already
        with w.loop(states) as loop:
            at = loop.turn
            earlier = [w.load(stages[j], at) for j in range(stem if begun else 0, i)]
            z = w.load("%s", at)
            if i:
                solved = earlier[-1]
                earlier[-1] = w.sub(solved, w.load(argument, at))
                w.store(earlier[-1], stages[i - 1], at)
                z = solved if begun else weighted_sum(w, tableau.a[i, :i].tolist(), earlier, z)
                w.store(z, "%u", at)
            known = weighted_sum(w, c[i][stem if begun else 0 : i], earlier, w.load(k, at) if begun else "")
            w.store(w.add(w.mul(g, z), w.mul(per_h, known)), k, at)
            for later in range(i + 1, tableau.stages) if i == stem else ():
                w.store(weighted_sum(w, c[later][:i], earlier), stages[later], at)
        argument = "%u" if i else "%s"
        first = w.write(f"mul i64 {entries}, {i}") if stride == 1 else str(i)
        matrix = w.write(f"getelementptr inbounds double, ptr %M, i64 {first}")
        w.call("push", argument, "%s", matrix, k)
        _forcing(w, count, matrix, k)
        w.call("solve", "%w", k)
    with w.loop(states) as loop:
        new = w.load(stages[-1], loop.turn)
        w.store(w.sub(new, w.load("%u", loop.turn)), stages[-1], loop.turn)
        w.store(new, "%u", loop.turn)
    w.end()


def _forcing(w: Writer, count: str, matrix: str, k: str) -> None:
    """k[row] += matrix[entry] * weights[parameter] for every place in the list (which may be empty)."""
    w.blocks += 1
    before, test, inside, after = w.block, f"test{w.blocks}", f"each{w.blocks}", f"done{w.blocks}"
    turn = f"%f{w.blocks}"
    w.lines += [
        f"br label %{test}",
        f"{test}:",
        f"{turn} = phi i64 [ 0, %{before} ], [ {turn}.next, %{inside} ]",
        f"{turn}.more = icmp ult i64 {turn}, {count}",
        f"br i1 {turn}.more, label %{inside}, label %{after}",
        f"{inside}:",
    ]
    place = w.write(f"getelementptr inbounds [3 x i64], ptr %places, i64 {turn}")
    row, entry, parameter = (
        w.write(f"load i64, ptr {w.write(f'getelementptr inbounds i64, ptr {place}, i64 {2 + c}')}, align 8")
        for c in range(3)
    )
    weight = w.load("%weights", parameter)
    value = w.write(f"getelementptr inbounds double, ptr {matrix}, i64 {entry}")
    w.store(w.add(w.load(k, row), w.mul(w.spread(value, 0), weight)), k, row)
    w.lines += [f"{turn}.next = add nuw nsw i64 {turn}, 1", f"br label %{test}", f"{after}:"]
    w.block = after


def emit_stages(module: Module, states: int, tableau: Tableau, lanes: int) -> None:
    """Write ``stages(y, K, Y, U)``: arguments and results of one step's stages, one stage a lane.

    Parameters
    ----------
    module : Module
    states : int, n [1]
    tableau : Tableau, with as many stages as `lanes`
    lanes : int [1]

    Notes
    -----
    ``y`` holds one number a state; ``K`` those of one lane of a vector, ``K[(j*n + i)*lanes]``.
    """
    w = Writer(module, "stages", lanes, ["y", "K", "Y", "U"])
    columns = [
        f"<{', '.join(f'double 0x{struct.pack(">d", x).hex().upper()}' for x in column)}>"
        for column in tableau.a.T.tolist()
    ]
    with w.loop(states) as loop:
        at = loop.turn
        here = w.write(f"getelementptr inbounds [{lanes} x double], ptr %K, i64 {at}")
        start = w.spread(w.write(f"getelementptr inbounds double, ptr %y, i64 {at}"), 0)
        gathered = "poison"
        for j, column in enumerate(columns):
            one = w.write(f"load double, ptr {w.address(here, j * states)}, align 8")
            gathered = w.write(f"insertelement {w.type} {gathered}, double {one}, i64 {j}")
            if tableau.a[:, j].any():
                start = w.add(start, w.mul(column, w.spread(w.address(here, j * states), 0)))
        w.store(start, "%Y", at)
        w.store(gathered, "%U", at)
    w.end()


def emit_adjoint_step(module: Module, states: int, tableau: Tableau, lanes: int, *, outputs: bool) -> None:
    """Write ``adjoint(y, u, q, ctl, w, K, l, d, V, Z, work, back, bar)``, or ``adjoint_output``.

    Parameters
    ----------
    module : Module, with ``pull`` and ``solve_transposed``
    states : int, n [1]
    tableau : Tableau
    lanes : int, patients side by side [1]
    outputs : bool, whether cotangents d of the dense output's vectors are added

    Notes
    -----
    ``u`` is the new state and ``l`` its cotangent; ``back``, that of the old one, is added to, and so is ``bar``.
    V, Z (8 n) and work (3 n) are overwritten.
    """
    name = "adjoint_output" if outputs else "adjoint"
    w = Writer(module, name, lanes, ["y", "u", "q", "ctl", "w", "K", "l", "d", "V", "Z", "work", "back", "bar"])
    K, V, Z = ([w.address(f"%{a}", j * states) for j in range(tableau.stages)] for a in "KVZ")
    dense = [w.address("%d", r * states) for r in range(3)]
    b, shared = w.address("%work", states), w.address("%work", 2 * states)
    per_h, g = w.load("%ctl", 0), w.address("%ctl", 1)
    last = tableau.stages - 1
    stem = tableau.last_sum
    for i in range(last, -1, -1):
        with w.loop(states) as loop:
            at = loop.turn
            if i >= stem:  # Y_i = Y_{i+1} - u_i, and y_new is the argument that would come next
                argument = w.sub(w.load("%u" if i == last else "%work", at), w.load(K[i], at))
            else:
                argument = weighted_sum(
                    w, tableau.a[i, :i].tolist(), [w.load(K[j], at) for j in range(i)], w.load("%y", at)
                )
            w.store(argument, "%work", at)
            # all arguments from the stem on, and y_new, have the coefficients of the stem: their cotangents are summed
            total = w.load("%l" if i in (last, last - 1) else shared, at)
            if stem - 1 <= i < last:
                total = w.add(total, w.load(Z[i + 1], at))
                w.store(total, shared, at)
            total = weighted_sum(w, [1.0 if i >= stem else tableau.a[stem, i]], [total])
            middle = range(i + 1, stem)
            total = weighted_sum(w, [tableau.a[j, i] for j in middle], [w.load(Z[j], at) for j in middle], total)
            if outputs:
                total = weighted_sum(w, tableau.dense[:, i].tolist(), [w.load(d, at) for d in dense], total)
            begun = i < stem - 1  # the sum over the stages from the stem on is in the place of the result already
            later = range(i + 1, stem if begun else last + 1)
            v = [w.load(V[j], at) for j in later]
            if later:
                known = weighted_sum(w, [tableau.c[j, i] for j in later], v, w.load(V[i], at) if begun else "")
                total = w.add(total, w.mul(per_h, known))
            for earlier in range(stem - 1) if i == stem - 1 else ():
                w.store(weighted_sum(w, [tableau.c[j, earlier] for j in later], v), V[earlier], at)
            w.store(total, b, at)
            w.store(total, V[i], at)
        w.call("solve_transposed", "%w", V[i])
        w.call("pull", "%work", "%y", K[i], V[i], b, "%q", g, Z[i], "%back", "%bar")
    w.end()
