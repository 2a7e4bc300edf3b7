"""Training of a tiny random backbone together with the heads."""

from dataclasses import replace

from helpers.configs import network_config
from helpers.tiny_backbones import tiny_backbone
from transformers import TrainerCallback

from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.finetuning import Tuner, TuningConfig, read_texts
from vrm_pyro.training.train import train

# Without dropout, so that what should be equal is.
PLAIN = network_config(
    architecture="bradley_terry", head_size=8, head_dropout=0.0, max_length=100, dtype="float32"
)
VRM = network_config(
    num_objectives=3, latent_dim=3, max_length=100, dtype="float32",
    weight_prior=ConditionalDirichletPrior(hidden_size=8),
    feature_prior=ConditionalNormalPrior(hidden_size=8),
)  # fmt: skip


def arguments(folder, **settings):
    values = {
        "output_dir": str(folder),
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "max_grad_norm": 1e9,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return TrainArguments(**(values | settings))


def tuned(tables, folder, kind="qwen3", model=PLAIN, tuning=None, callbacks=None, **settings):
    """Train; return the result and the tuner."""
    backbone = tiny_backbone(kind, max_length=100)
    tuner = Tuner(tuning or TuningConfig("full", learning_rate=1e-3), backbone)
    sources = [read_texts(table, backbone) for table in tables]
    if not settings.pop("rated", False):
        model = replace(model, supervision="none")
    result = train(
        model, arguments(folder, **settings), *sources, callbacks=callbacks, tuner=tuner
    )
    return result, tuner


def weights(result, tuner):
    """All that was trained, by name."""
    state = dict(tuner.backbone.model.state_dict())
    return state | {f"heads.{k}": v for k, v in result.loaded.model.state_dict().items()}


def losses(result):
    return [entry["loss"] for entry in result.log_history if "loss" in entry]


class Gradients(TrainerCallback):
    """Keeps the gradient of every parameter at the first step, before clipping and stepping."""

    def __init__(self):
        self.found = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.found is None:
            self.found = {
                name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
            }
