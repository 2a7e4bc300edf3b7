"""What each of two processes does; `torchrun` starts it. Results go to a JSON file."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from processes.runs import BASELINE, POINT, VRM, Steps, run
from transformers import TrainerCallback

from vrm_pyro.processes import is_main, part, process_index


def everywhere(value):
    """Return the value of each process, in the main one."""
    found = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


class Noise(TrainerCallback):
    """Notes a random number and the parameters when training begins."""

    def __init__(self):
        self.found = None

    def on_train_begin(self, args, state, control, **kwargs):
        kept = torch.get_rng_state()
        self.found = float(torch.rand(()))
        torch.set_rng_state(kept)


def digest(result):
    return float(sum(v.double().abs().sum() for v in result.loaded.model.state_dict().values()))


def main(folder: Path) -> None:
    found = {}
    for name, config in (("baseline", BASELINE), ("point", POINT)):
        steps = Steps()
        result = run(config, folder / name, callbacks=[steps], per_device_train_batch_size=4)
        found[name] = {
            "digests": everywhere(digest(result)),
            "losses": steps.losses,
            "gradients": steps.gradients,
            "metrics": {k: v for k, v in result.metrics.items() if isinstance(v, float)},
            "parameters": {
                k: v.flatten().tolist() for k, v in result.loaded.model.state_dict().items()
            },
        }
    noise = Noise()
    result = run(VRM, folder / "vrm", callbacks=[noise], per_device_train_batch_size=4)
    found["vrm"] = {"digests": everywhere(digest(result)), "noise": everywhere(noise.found)}
    # Numbers of prompts that do not divide by anything in the way: no process may wait forever.
    uneven = []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        size, batch = int(generator.integers(3, 20)), int(generator.integers(1, 6))
        result = run(
            BASELINE, folder / f"uneven{seed}", num_prompts=size, num_validation=3 + seed % 4,
            per_device_train_batch_size=batch, num_train_epochs=2, seed=seed,
            gradient_accumulation_steps=1 + seed % 2, save_strategy="no",
            load_best_model_at_end=False,
        )  # fmt: skip
        uneven.append([size, batch, everywhere(digest(result)), result.metrics["steps"]])
    found["uneven"] = uneven
    # One process alone cannot share a batch of its own; two take half of it each.
    if is_main():
        (folder / "found.json").write_text(json.dumps(found))
    resumed = run(
        BASELINE, folder / "alone", per_device_train_batch_size=8, num_train_epochs=4,
        resume_from_checkpoint="true",
    )  # fmt: skip
    if is_main():
        found["resumed"] = {
            "log_loss": resumed.metrics["eval_log_loss"],
            "digest": digest(resumed),
        }
        (folder / "found.json").write_text(json.dumps(found))
    print(f"process {process_index()} is done", flush=True)
    part()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
