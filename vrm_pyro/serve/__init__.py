"""A server for trained models: the dialects of RL trainers and inference engines over HTTP."""
