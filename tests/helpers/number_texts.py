"""Rows whose texts are numbers, and a backbone that reads them: problems with a known answer."""

import numpy as np

from vrm_pyro.backbone import Backbone

HIDDEN = 4
#: Settings of a training of a moment.
QUICK = {
    "model.head_size": 0,
    "model.head_dropout": 0,
    "train.num_train_epochs": 1,
    "train.per_device_train_batch_size": 8,
    "train.use_cpu": True,
    "data.validation_fraction": 0.25,
}


class Numbers(Backbone):
    """The state of a text is the numbers in it."""

    def __init__(self, name="numbers"):
        super().__init__(name=name, hidden_size=HIDDEN)
        self.texts = 0

    def embed(self, sequences):
        self.texts += len(sequences)
        texts = [text.response or text.prompt for text in sequences]
        return np.array([[float(part) for part in text.split()] for text in texts], np.float32)


def number_rows(num_prompts=40, seed=0, ratings=False):
    """Two pairs a prompt; the response with the larger first number is preferred."""
    rng = np.random.default_rng(seed)

    def text(numbers):
        return " ".join(f"{number:.3f}" for number in numbers)

    rows = []
    for _ in range(num_prompts):
        prompt = text(rng.normal(size=HIDDEN))
        for pair in rng.normal(size=(2, 2, HIDDEN)):
            chosen, rejected = sorted(pair, key=lambda numbers: -numbers[0])
            row = {"prompt": prompt, "chosen": text(chosen), "rejected": text(rejected)}
            if ratings:
                row["chosen_ratings"] = {"a": round(chosen[0], 2), "b": round(chosen[1], 2)}
                row["rejected_ratings"] = {"a": round(rejected[0], 2), "b": round(rejected[1], 2)}
            rows.append(row)
    return rows
