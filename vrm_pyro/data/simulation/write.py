"""Write a simulation: a file of rows per split, and the truth."""

import json
from pathlib import Path

from vrm_pyro.atomic import write_directory
from vrm_pyro.data.simulation.simulation import SPLITS, Simulation

TRUTH_FILE = "truth.nc"


def write_simulation(
    simulation: Simulation, out_dir: str | Path, overwrite: bool = False
) -> dict[str, Path]:
    """Write ``train.jsonl``, ``validation.jsonl``, ``test.jsonl`` and ``truth.nc``.

    The directory is written atomically.

    Args:
        simulation: The simulation to write.
        out_dir: Directory to create.
        overwrite: Replace an existing directory.

    Returns:
        The path of every split and of ``truth``.

    Raises:
        InputError: If ``out_dir`` exists and ``overwrite`` is False.
    """
    with write_directory(out_dir, overwrite=overwrite) as partial:
        for split in SPLITS:
            lines = [json.dumps(row, ensure_ascii=False) for row in simulation.rows(split)]
            text = "".join(f"{line}\n" for line in lines)
            (partial / f"{split}.jsonl").write_text(text, encoding="utf-8")
        simulation.truth.to_netcdf(partial / TRUTH_FILE)
    out = Path(out_dir)
    return {split: out / f"{split}.jsonl" for split in SPLITS} | {"truth": out / TRUTH_FILE}
