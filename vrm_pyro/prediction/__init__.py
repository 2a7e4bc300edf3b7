"""Predictions of a trained model: scores, posterior draws, explanations."""
