"""Pairs that are worth a label."""

from vrm_pyro.prediction.acquisition.choose import Acquired, acquire

__all__ = ["Acquired", "acquire"]
