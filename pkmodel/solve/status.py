"""How a numerical solve ended: a code that compiled code can return, and a sentence for the user."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Outcome of a solve; 0 is success, so ``if result.status:`` reads as "if it failed"."""

    OK = 0
    TOO_MANY_STEPS = 1
    STEP_TOO_SMALL = 2
    NOT_FINITE = 3
    NEWTON_FAILED = 4
    SINGULAR = 5
    GROWING = 6
    BAD_INPUT = 7
    PIVOT_GROWTH = 8
    NO_STEADY_STATE = 9


MESSAGES: dict[Status, str] = {
    Status.OK: "solved",
    Status.TOO_MANY_STEPS: (
        "the allowed number of steps was used up before the last time; raise max_steps, loosen rtol, "
        "or look for a rate constant that is far too large"
    ),
    Status.STEP_TOO_SMALL: (
        "the error test kept failing until the step could not be told from zero; "
        "look for a jump inside a rate law (use an event instead) or loosen rtol"
    ),
    Status.NOT_FINITE: (
        "a value became infinite or not a number; look for a division by zero, a power of a negative amount, "
        "or a parameter outside its meaningful range"
    ),
    Status.NEWTON_FAILED: (
        "the implicit equations of a step could not be solved however small the step; "
        "the Jacobian may not belong to the right-hand side, or a rate law is not smooth"
    ),
    Status.SINGULAR: (
        "the linear system has no unique solution; for an integral to infinity this means that activity "
        "reaches a compartment it never leaves (no decay, no excretion)"
    ),
    Status.GROWING: (
        "the system does not die out, so its integral to infinity does not exist; "
        "look for a rate constant with the wrong sign"
    ),
    Status.BAD_INPUT: (
        "a parameter of this patient is not a finite number, so nothing was computed; see which one in the message"
    ),
    Status.PIVOT_GROWTH: (
        "the linear equations of a step lose all their digits when solved in the fixed order; "
        "solve this patient with pivoting"
    ),
    Status.NO_STEADY_STATE: (
        "the doses lead to no steady state: something collects and never leaves, or grows from dose to dose; "
        "look for a compartment without a way out, or for doses faster than a saturable elimination"
    ),
}


def message(status: int) -> str:
    """Sentence that belongs to a status code.

    Parameters
    ----------
    status : int
        Code returned by a solver [dimensionless].

    Raises
    ------
    ValueError
        If the code is not one of `Status`.
    """
    return MESSAGES[Status(status)]
