"""Numbers in, numbers out: the solvers of pkmodel and nothing that knows biology or units.

====================  =========================================================================================
``linear``            dx/dt = A x + B u(t) + r, exactly, with sensitivities and integrals to infinity
``exponential``       compiled code under ``linear``
``timeline``          the arrays it takes: stop times, jumps, rates, piecewise-linear inputs, and their checks
``rosenbrock``        the method for any other model: one step of Rodas5P
``lanes``             the driver that takes the steps, many patients at once; ``task`` is what it is asked to do
``pivoted``           the linear equations of a step with partial pivoting, where a fixed order fails
``records``           what happens to each patient and when, as numbers
``tangents``          derivatives along directions, with the steps; ``adjoint``, gradients, against them
``itinerary``         steps, records and outputs side by side, for both
``status``            how a solve ended, as a code with a sentence
``call``, ``jit``     machine code by its address, and the one place that imports numba's decorator
====================  =========================================================================================

Nothing is imported here: the solvers load numba, which a light ``import pkmodel`` must not.
"""
