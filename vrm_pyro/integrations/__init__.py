"""Trained models in other libraries: transformers, TRL, OpenRLHF, verl, ms-swift."""
