"""Format the summary that the demo prints."""

from pathlib import Path
from typing import Any


def summary(result: dict[str, Any]) -> str:
    """Return the summary: metrics, recovery of the truth, files written and next commands."""
    test, weights = result["test"], result["weights"]
    vrm = test["vrm"]
    lines = [
        "",
        f"Simulated texts: {vrm['n_pairs']} comparisons of {vrm['n_prompts']} test prompts "
        "(± standard error over prompts)",
        "",
        f"  {'':<22}{'accuracy':>16}{'log loss':>16}{'ECE':>16}",
    ]
    for key, words in (
        ("vrm", "VRM"),
        ("bradley_terry", "Bradley-Terry"),
        ("lora", "VRM with adapters"),
        ("truth", "the truth's own p"),
    ):
        if key not in test:
            continue
        cells = [_rate(test[key], name) for name in ("accuracy", "log_loss", "ece")]
        lines.append(f"  {words:<22}" + "".join(f"{cell:>16}" for cell in cells))
    gap = test["log_loss_vrm_minus_bradley_terry"]
    lines += [
        f"  log loss, VRM minus Bradley-Terry: {gap['difference']:+.3f} "
        f"(80% interval {gap['lower']:+.3f} to {gap['upper']:+.3f})",
        "",
        "What came back of the known truth, from the text of test prompts and responses alone",
        "",
        f"  {'E[w | prompt]':<22}{'mean abs. error':>16}{'uniform 1/K':>16}{'correlation':>16}",
    ]
    for key, words in (("by_kind", "mean of each kind"), ("by_prompt", "single prompts")):
        row = weights[key]
        cells = [
            _number(row["mean_absolute_error"]),
            _number(row["mean_absolute_error_uniform"]),
            _number(row["correlation"]),
        ]
        lines.append(f"  {words:<22}" + "".join(f"{cell:>16}" for cell in cells))
    found = ", ".join(f"{k} {_number(v)}" for k, v in result["scores_correlation"].items())
    files, total = result["files"], result["seconds"]["total"]
    out = Path(files["data"]).parent
    return "\n".join(
        [
            *lines,
            f"  scores in a prompt, correlation:  {found}",
            "",
            f"All of it is in {out} ({total:.0f} s):",
            "  figures/        reliability, weights, reward, training (.png)",
            "  model/          the trained VRM, its metrics and log; bradley_terry/ likewise",
            *(
                ["  lora/           the VRM trained with adapters, on a part of the prompts"]
                if "lora" in files
                else []
            ),
            "  posterior.nc    draws of w, z, s, r and preferences",
            "  demo.json       the numbers above and more",
            "",
            "Next:",
            f"  vrm-pyro score --model {files['model']} --data {out}/data/test.jsonl "
            f"--out {out}/scores.jsonl",
            "  vrm-pyro train --config ratings --data.train YOUR_ROWS.jsonl "
            "--train.output_dir runs/mine",
        ]
    )


def _rate(rates: dict[str, Any], name: str) -> str:
    error = rates[f"{name}_se"]
    return _number(rates[name]) + ("" if error is None else f" ± {error:.3f}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
