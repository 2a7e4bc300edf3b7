"""Rows of random words that a tiny backbone can tell apart."""

import json

from helpers.tiny_backbones import text


def write_rows(path, num_prompts, seed, ratings=False):
    """Three pairs a prompt, of responses of different length; chosen ones begin with ``good``."""
    with open(path, "w") as file:
        for i in range(num_prompts):
            for k in range(3):
                base = seed + 10 * i + k
                row = {
                    "prompt": text(seed + i, 3 + i % 5),
                    "chosen": "good " + text(base, 2 + i % 4),
                    "rejected": text(base + 5000, 3 + k) + " bad",
                }
                if ratings:
                    row["chosen_ratings"] = {"a": 4 + k % 2, "b": 3}
                    row["rejected_ratings"] = {"a": 2, "b": 1 + k % 2}
                file.write(json.dumps(row) + "\n")
    return str(path)
