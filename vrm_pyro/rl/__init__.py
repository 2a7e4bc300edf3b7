"""Rewards for reinforcement learning: a trained model as the function that trainers call."""

import vrm_pyro.export  # noqa: F401 - trainers may load an exported model by its path, too
from vrm_pyro.rl.assessment import Assessment
from vrm_pyro.rl.reward import VRMReward
from vrm_pyro.rl.settings import AGGREGATIONS, RewardSettings

__all__ = ["AGGREGATIONS", "Assessment", "RewardSettings", "VRMReward"]
