"""Checks of data, predictions and posteriors: arrays in, numbers with their uncertainty out."""
