"""Rewards for reinforcement learning: a trained model as a reward function.

Users import the class as ``vrm_pyro.VRMReward``.
"""

import vrm_pyro.integrations.huggingface  # noqa: F401 - trainers may load an exported model by its path, too
from vrm_pyro.integrations.rl.assessment import Assessment
from vrm_pyro.integrations.rl.reward import VRMReward
from vrm_pyro.integrations.rl.settings import AGGREGATIONS, RewardSettings

__all__ = ["AGGREGATIONS", "Assessment", "RewardSettings", "VRMReward"]
