"""Settings of a model, their checks, and building a model from them."""
