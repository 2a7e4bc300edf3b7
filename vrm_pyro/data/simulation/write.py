"""Files of a simulation: rows of every split, and the truth beside them."""

import json
from pathlib import Path

from vrm_pyro.atomic import write_directory
from vrm_pyro.data.simulation.simulation import SPLITS, Simulation

TRUTH_FILE = "truth.nc"


def write_simulation(
    simulation: Simulation, out_dir: str | Path, overwrite: bool = False
) -> dict[str, Path]:
    """Write ``train.jsonl``, ``validation.jsonl``, ``test.jsonl`` and ``truth.nc``.

    The directory appears whole or not at all.

    Args:
        simulation: What to write.
        out_dir: Directory to make.
        overwrite: Replace a directory that is there already.

    Returns:
        The path of every split and of ``truth``.

    Raises:
        InputError: If ``out_dir`` is there already and ``overwrite`` is off.
    """
    with write_directory(out_dir, overwrite=overwrite) as partial:
        for split in SPLITS:
            lines = [json.dumps(row, ensure_ascii=False) for row in simulation.rows(split)]
            text = "".join(f"{line}\n" for line in lines)
            (partial / f"{split}.jsonl").write_text(text, encoding="utf-8")
        simulation.truth.to_netcdf(partial / TRUTH_FILE)
    out = Path(out_dir)
    return {split: out / f"{split}.jsonl" for split in SPLITS} | {"truth": out / TRUTH_FILE}
