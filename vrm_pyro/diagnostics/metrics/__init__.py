"""Metrics: arrays in, numbers with their uncertainty out."""
