"""Configuration of an exported model (``config.json``)."""

from typing import Any, no_type_check

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from vrm_pyro.data.artefacts import short
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.schemas import OwnSchema, check_part

NOT_A_SCALAR_MODEL = (
    "a reward model of vrm_pyro, not one of this class: import vrm_pyro.integrations.huggingface"
)


@no_type_check  # its __init__ accepts any key, which the signature of a dataclass hides
class VRMConfig(PreTrainedConfig):
    """Configuration of a :class:`~vrm_pyro.integrations.huggingface.VRMForSequenceClassification`.

    In the file, the backbone's configuration is ``backbone.config``, and ``hidden_size`` is a
    sentence, so that a class with a scalar head fails on this folder. Otherwise such a class
    would use the backbone's configuration with random weights and return numbers.

    Args:
        text_config: Configuration of the backbone.
        head: Result of :func:`vrm_pyro.models.checkpoint.describe`: settings, objectives, sizes.
        reading: How token ids are read, see
            :class:`~vrm_pyro.integrations.huggingface.reading.Reading`.
        adapter: Settings of a low-rank adapter (peft) that is stored separately; None if it was
            merged, or there is none.
        self_test: Token ids with their expected rewards, see
            :class:`~vrm_pyro.integrations.huggingface.self_check.SelfTest`.
        without_boundary: What to do if no answer begins in a row: ``raise``, or ``whole_text``,
            which uses the whole text as both prompt and response.
        empty_reward: Reward of a row whose response is empty; NaN if None, which trainers take
            for "not scored", as of :class:`vrm_pyro.VRMReward`.
    """

    model_type = "vrm"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama", optional=True)
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    head: dict[str, Any] | None = None
    reading: dict[str, Any] | None = None
    adapter: dict[str, Any] | None = None
    self_test: dict[str, Any] | None = None
    without_boundary: str = "raise"
    empty_reward: float | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        asked = kwargs.pop("num_labels", 1)
        if asked != 1:
            raise InputError(f"num_labels is {asked}, but a reward is one number: use 1.")
        if self.id2label is None:
            self.id2label, self.label2id = {0: "reward"}, {"reward": 0}
        kwargs.pop("hidden_size", None)
        names = ("adapter", "without_boundary", "empty_reward")
        own: dict[str, Any] = {name: getattr(self, name) for name in names}
        if "backbone" not in kwargs:
            check_part(OwnSchema, "not what vrm-pyro export writes", own)
            super().__post_init__(**kwargs)
            return
        own["backbone"] = kwargs.pop("backbone") or {}
        check_part(OwnSchema, "not what vrm-pyro export writes", own)
        self.text_config = dict(own["backbone"]["config"])
        try:
            super().__post_init__(**kwargs)
        except (AttributeError, KeyError, TypeError, ValueError, StrictDataclassError) as error:
            why = short(" ".join(str(error).split()), 200)
            raise InputError(
                f"config.json: 'backbone' is no configuration of a model of transformers ({why}). "
                "Export the model again."
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file, see the class."""
        values: dict[str, Any] = super().to_dict()
        values["hidden_size"] = NOT_A_SCALAR_MODEL
        text_config = values.pop("text_config", None)
        if text_config is not None:
            values["backbone"] = {"config": text_config}
        return values
