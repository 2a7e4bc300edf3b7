"""Reward functions for reinforcement learning from a trained model.

Users import the class as ``vrm_pyro.VRMReward``.
"""

import vrm_pyro.integrations.huggingface  # noqa: F401 - lets trainers load exported models by path
from vrm_pyro.integrations.rl.assessment import Assessment
from vrm_pyro.integrations.rl.reward import VRMReward
from vrm_pyro.integrations.rl.settings import AGGREGATIONS, RewardSettings

__all__ = ["AGGREGATIONS", "Assessment", "RewardSettings", "VRMReward"]
