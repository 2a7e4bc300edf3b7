"""Training: SVI through transformers' Trainer, fine-tuning, several processes, run folders."""
