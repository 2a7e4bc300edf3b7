"""Compare shipped configs on the published splits of a set, with frozen states.

Configs are trained as they are shipped, with early stopping on the validation rows, and scored on
the test rows once. Differences in log loss are from the first config, averaged over seeds, with a
paired bootstrap over prompts. States and finished runs are kept, so an interrupted run resumes.

    VRM_PYRO_DATA=... python benchmarks/published_splits.py hellobench --configs gate ratings \
        --work runs/published --out hellobench.json
"""

import argparse
import os
from pathlib import Path

import numpy as np
from emit import write_result
from llm_heads import summary
from llm_states import SPLITS

import vrm_pyro
from vrm_pyro.backbone import load_backbone
from vrm_pyro.features.writing import write_store
from vrm_pyro.models.settings.config import DEFAULT_BACKBONE


def main() -> None:
    """Train every config with every seed; print and write one row for each config."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", help="folder under VRM_PYRO_DATA")
    parser.add_argument("--configs", nargs="+", default=["gate", "ratings"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--max_length", type=int, default=None)
    parser.add_argument("--work", default="runs/published")
    parser.add_argument("--out", default=None)
    args = parser.parse_args()
    data, work = Path(os.environ["VRM_PYRO_DATA"]) / args.set, Path(args.work)
    backbone = load_backbone(args.backbone, max_length=args.max_length)
    train, validation, test = (
        write_store(str(data / f"{split}.jsonl.gz"), backbone, work / args.set / split)
        for split in SPLITS
    )
    rows, base = [], None
    for config in args.configs:
        p = []
        for seed in range(args.seeds):
            folder = work / f"{args.set}-{config}-{seed}"
            if not (folder / "metrics.json").is_file():
                settings = {"train.seed": seed, "train.disable_tqdm": True}
                wanted = {"config": config, "output_dir": folder, "settings": settings}
                vrm_pyro.fit(train, validation, overwrite=True, **wanted)
            scorer = vrm_pyro.Scorer.from_pretrained(folder)
            p.append(vrm_pyro.predict(scorer.model, test).p_first)
        row, losses = summary(np.array(p), base, test.table())
        base = losses if base is None else base
        rows.append({"set": args.set, "labels": "all", "config": config} | row)
        print(rows[-1], flush=True)
        write_result({"rows": rows, "seeds": args.seeds}, args.out)


if __name__ == "__main__":
    main()
