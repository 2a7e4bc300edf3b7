"""Distributions over parameters of a model."""
