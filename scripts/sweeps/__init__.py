"""Sweeps: train a model over a grid of settings and several seeds, and draw the results."""
