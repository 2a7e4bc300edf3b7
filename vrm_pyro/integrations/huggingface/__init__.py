"""A trained model as a transformers model.

Import this package, and ``AutoConfig`` and ``AutoModelForSequenceClassification`` read a folder
that ``vrm-pyro export`` wrote.
"""

from transformers import AutoConfig, AutoModelForSequenceClassification

from vrm_pyro.integrations.huggingface.configuration import VRMConfig
from vrm_pyro.integrations.huggingface.modeling import VRMForSequenceClassification, VRMOutput

__all__ = ["VRMConfig", "VRMForSequenceClassification", "VRMOutput"]

# transformers finds classes by these tables alone; this import is how a user fills them.
AutoConfig.register(VRMConfig.model_type, VRMConfig, exist_ok=True)
AutoModelForSequenceClassification.register(VRMConfig, VRMForSequenceClassification, exist_ok=True)
