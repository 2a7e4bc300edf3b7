"""Posteriors of a model's global parameters, for epistemic uncertainty."""
