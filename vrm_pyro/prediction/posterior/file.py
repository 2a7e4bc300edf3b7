"""Write a posterior file: draws of a trained model with what describes it."""

import os
import secrets
import shutil
from pathlib import Path

from vrm_pyro.atomic import check_file
from vrm_pyro.features.reading import DataLike
from vrm_pyro.prediction.opening import ModelLike
from vrm_pyro.prediction.posterior.draws import POSTERIOR_DRAWS, draw_posterior
from vrm_pyro.prediction.posterior.to_xarray import check_name, to_datatree, write_netcdf


def write_posterior(
    model: ModelLike,
    data: DataLike,
    path: str | os.PathLike[str],
    num_draws: int = POSTERIOR_DRAWS,
    seed: int = 0,
    summarized: bool = False,
    progress: bool = False,
) -> None:
    """Write draws of every prompt, response and pair to a netCDF file, or summaries of them.

    Draws are kept in temporary files beside ``path``, so they need not fit in memory::

        vrm_pyro.write_posterior("runs/rated", "test.jsonl", "posterior.nc")

    Args:
        model: The folder of a run, a run, a loaded model or a scorer.
        data: Rows in any form, see :func:`~vrm_pyro.prediction.opening.read_inputs`.
        path: The file, ending in ``.nc``; one that is there is replaced.
        num_draws: Draws of every row. The file grows with them: 1,000 draws of 50 prompts with
            four responses, eight objectives and four features take 29 MB.
        seed: Fixes all draws.
        summarized: See :func:`~vrm_pyro.prediction.posterior.draws.draw_posterior`.
        progress: Whether to show a progress bar over prompts.

    Raises:
        InputError: If model or rows cannot be read, the model has no latent variables, or the
            file cannot be written.
    """
    check_name(path)
    target = Path(path)
    check_file(target)
    scratch = target.parent / f".{target.stem}.{secrets.token_hex(4)}.draws"
    scratch.mkdir(parents=True)
    try:
        draws = draw_posterior(
            model,
            data,
            num_draws,
            seed=seed,
            storage=scratch,
            summarized=summarized,
            progress=progress,
        )
        write_netcdf(to_datatree(draws), target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
