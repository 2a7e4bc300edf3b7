"""Trained models as transformers models.

Importing this package registers the model class with ``AutoConfig`` and
``AutoModelForSequenceClassification``, which then load a folder that ``vrm-pyro export`` wrote.
"""

from transformers import AutoConfig, AutoModelForSequenceClassification

from vrm_pyro.integrations.huggingface.configuration import VRMConfig
from vrm_pyro.integrations.huggingface.modeling import VRMForSequenceClassification, VRMOutput

__all__ = ["VRMConfig", "VRMForSequenceClassification", "VRMOutput"]

# transformers looks classes up in these registries; importing this package fills them.
AutoConfig.register(VRMConfig.model_type, VRMConfig, exist_ok=True)
AutoModelForSequenceClassification.register(VRMConfig, VRMForSequenceClassification, exist_ok=True)
