"""Small whole-body models that stand for formats of one binder: a mouse-sized set with numbers that work out by hand.

Three regions exchange nothing but what their one rate says, so that uptake, integrals and doses have a closed form.
"""

from __future__ import annotations

import pkmodel as pk
from pkmodel.model import Model

LINEAR = """
name = "{name}"
title = "Plasma that is cleared into a tumour, kidneys, liver and marrow, each of which lets go"
references = ["made up for tests"]
[parameters]
V = "3 L"
Hct = "0.4 1"
body_mass = "70 kg"
mass_tumour = "20 g"
mass_kidneys = "300 g"
mass_liver = "1800 g"
mass_red_marrow = "1100 g"
kel = {{ value = {kel}, unit = "1/h", cv = 0.3, lower = 0 }}
f_tumour = "0.002 1"
f_kidneys = {{ value = {f_kidneys}, unit = "1", cv = 0.2, lower = 0, upper = 1 }}
f_liver = "0.1 1"
f_red_marrow = "0.01 1"
k_tumour = {{ value = {k_tumour}, unit = "1/h", cv = 0.4, lower = 0 }}
k_organ = "0.01 1/h"
[compartments]
central = {{ unit = "nmol", region = "blood" }}
tumour = "nmol"
kidneys = "nmol"
liver = "nmol"
red_marrow = "nmol"
[administration]
injection = "central"
[[flows]]
from = "central"
rate = "kel*(1 - f_tumour - f_kidneys - f_liver - f_red_marrow)*central"
[observables]
plasma = "central/V"
tumour = "tumour"
kidneys = "kidneys"
liver = "liver"
red_marrow = "red_marrow"
"""


def linear(name: str, kel: float, k_tumour: float, f_kidneys: float = 0.05) -> Model:
    """One format: plasma at `kel` [1/h], out of the tumour at `k_tumour` [1/h]."""
    text = LINEAR.format(name=name, kel=kel, k_tumour=k_tumour, f_kidneys=f_kidneys)
    for organ, out in (("tumour", "k_tumour"), ("kidneys", "k_organ"), ("liver", "k_organ"), ("red_marrow", "k_organ")):
        text += f'[[flows]]\nfrom = "central"\nto = "{organ}"\nrate = "kel*f_{organ}*central"\n'
        text += f'[[flows]]\nfrom = "{organ}"\nrate = "{out}*{organ}"\n'
    return pk.model_from_toml(text)


SLOW, FAST = linear("slow", 0.01, 0.002), linear("fast", 0.5, 0.02, 0.4)
