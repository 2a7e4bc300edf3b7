"""Model settings: the dataclass, its checks, and building a model from it."""
