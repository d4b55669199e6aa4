"""Numbers in, numbers out: the two solvers of pkmodel and nothing that knows biology or units.

====================  =========================================================================================
``linear``            dx/dt = A x + B u(t) + r, exactly, with sensitivities and integrals to infinity
``stiff``             dx/dt = f(t, x, u, p) + r, adaptive implicit Runge-Kutta, with forward sensitivities
``timeline``          the arrays both take: stop times, jumps, rates, piecewise-linear inputs, and their checks
``status``            how a solve ended, as a code with a sentence
``kernels``           the form of the compiled functions ``stiff`` calls
``exponential``       compiled code under ``linear``
``esdirk``            compiled code under ``stiff``; its coefficients are in ``esdirk_tableau``
``jit``               the one place that imports numba's decorator
====================  =========================================================================================

Nothing is imported here: ``linear`` and ``stiff`` load numba, which a light ``import pkmodel`` must not.
"""
