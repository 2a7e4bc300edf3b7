"""A run: from rows to a folder with a trained model."""
