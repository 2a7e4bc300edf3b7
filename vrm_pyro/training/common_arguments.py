"""Settings of training that users change, and those with other defaults than transformers'."""

from dataclasses import dataclass, field


@dataclass
class CommonArguments:
    """Settings of training; the rest are those of transformers' TrainingArguments.

    :class:`~vrm_pyro.training.arguments.TrainArguments` has both. These stand apart so that
    ``vrm-pyro train --help`` shows them without loading transformers.

    >>> CommonArguments().learning_rate
    0.001
    """

    output_dir: str | None = field(
        default="runs/model", metadata={"help": "Where checkpoints and the model are written."}
    )
    num_train_epochs: float = field(default=150.0, metadata={"help": "Most epochs to train."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Prompts a step."})
    per_device_eval_batch_size: int = field(
        default=512, metadata={"help": "Prompts a batch in evaluation."}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "Initial learning rate."})
    weight_decay: float = field(default=0.1, metadata={"help": "AdamW weight decay."})
    max_grad_norm: float = field(default=5.0, metadata={"help": "Gradient clipping norm."})
    lr_scheduler_type: str = field(
        default="constant", metadata={"help": "Schedule; early stopping needs no decay."}
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint."})
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Checkpoints kept, the best among them."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Steps between log entries."})
    logging_first_step: bool = field(
        default=True, metadata={"help": "Log the first step too: short runs have a log then."}
    )
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "End with the best validation log loss."}
    )
    metric_for_best_model: str | None = field(
        default="log_loss", metadata={"help": "Which validation metric is best."}
    )
    greater_is_better: bool | None = field(
        default=False, metadata={"help": "Whether a larger metric is better."}
    )
    report_to: None | str | list[str] = field(
        default="none", metadata={"help": "Loggers, such as tensorboard or wandb."}
    )
    dataloader_pin_memory: bool = field(
        default=False, metadata={"help": "Pin memory; it warns where there is no GPU."}
    )
    ddp_timeout: int = field(
        default=10_800,
        metadata={"help": "Most seconds that processes wait for one that saves or reads alone."},
    )
    early_stopping_patience: int = field(
        default=20, metadata={"help": "Evaluations without improvement; 0 never stops early."}
    )
