"""How much a posterior depends on its priors and on its outcomes."""
