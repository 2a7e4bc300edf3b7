"""The reward models: priors, guides, likelihoods, objectives, and the settings that build them."""
