"""A tiny random policy and TRL's trainers; a test file that imports this needs trl."""

import pytest
import torch
from datasets import Dataset
from helpers import tiny_backbones
from transformers import LlamaConfig, LlamaForCausalLM

trl = pytest.importorskip("trl")


def policy():
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        pad_token_id=1,
        eos_token_id=1,
        bos_token_id=0,
    )
    return LlamaForCausalLM(config)


def prompts(conversational):
    texts = [tiny_backbones.text(i, 5) for i in range(8)]
    if conversational:
        texts = [[{"role": "user", "content": text}] for text in texts]
    return Dataset.from_dict({"prompt": texts, "answer": list("abcdefgh")})


def arguments(folder, **more):
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        **more,
    }


def train(trainer):
    model = trainer.model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer.train()
    changed = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    return [line for line in trainer.state.log_history if "loss" in line], changed


def group_trainer(kind, folder, reward_funcs, conversational=True, **more):
    config, trainer = {
        "grpo": (trl.GRPOConfig, trl.GRPOTrainer),
        "rloo": (trl.RLOOConfig, trl.RLOOTrainer),
    }[kind]
    # beta 0: no reference model, which would be loaded from a path.
    more = {"num_generations": 2, "max_completion_length": 6, "beta": 0.0, **more}
    settings = arguments(folder, **more)
    return trainer(
        model=policy(),
        reward_funcs=reward_funcs,
        args=config(**settings),
        train_dataset=prompts(conversational),
        processing_class=tiny_backbones.llama_tokenizer(chat=True),
    )
