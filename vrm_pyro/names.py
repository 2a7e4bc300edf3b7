"""Names of sample sites, plates and dimensions, each defined once."""

from typing import Final

# Sample sites of the generative program.
WEIGHTS: Final = "w"
FEATURES: Final = "z"
RATING: Final = "rating"
PREFERENCE: Final = "preference"
RANKING: Final = "ranking"

# Deterministic quantities.
SCORES: Final = "s"
REWARD: Final = "r"
DELTA: Final = "delta"

# Plates, all at dim -1.
PROMPT_PLATE: Final = "prompt"
RESPONSE_PLATE: Final = "response"
PAIR_PLATE: Final = "pair"
RANKING_PLATE: Final = "rankings"  # its site is called ranking

# Dimensions of stored draws.
PROMPT_DIM: Final = "prompt"
RESPONSE_DIM: Final = "response"
PAIR_DIM: Final = "pair"
OBJECTIVE_DIM: Final = "objective"
FEATURE_DIM: Final = "feature"
QUANTILE_DIM: Final = "quantile"
