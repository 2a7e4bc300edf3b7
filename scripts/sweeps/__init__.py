"""Sweeps: one model trained many times over a grid and over seeds, with a figure of the result."""
