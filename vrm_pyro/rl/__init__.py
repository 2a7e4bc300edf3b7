"""Rewards for reinforcement learning: a trained model as the function that trainers call."""

from vrm_pyro.rl.assessment import Assessment
from vrm_pyro.rl.reward import VRMReward
from vrm_pyro.rl.settings import AGGREGATIONS, RewardSettings

__all__ = ["AGGREGATIONS", "Assessment", "RewardSettings", "VRMReward"]
