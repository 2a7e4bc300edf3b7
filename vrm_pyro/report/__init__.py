"""Reports of a trained model: figures and an HTML page."""
