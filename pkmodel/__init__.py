"""Compartment models of radiopharmaceuticals: serial imaging in, absorbed dose and a plan out."""

__version__ = "0.1.0"
