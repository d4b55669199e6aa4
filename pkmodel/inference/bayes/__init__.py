"""Bayesian inference: the compiled model inside PyMC, priors, sampling, and what the draws say."""
