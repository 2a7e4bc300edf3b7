"""All diagnostics of a model on rows: one table of them, each a question and its finding."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from tqdm import tqdm

from vrm_pyro.diagnose import latent, predictive
from vrm_pyro.diagnose.material import Material, Rows, log_scores
from vrm_pyro.diagnostics.finding import Finding


class Diagnostic(NamedTuple):
    """An entry of the table.

    Attributes:
        find: From the material of a model and rows to the finding.
        question: What it answers.
        group: ArviZ group of what it looks at.
        costly: Whether it looks at some prompts alone.
    """

    find: Callable[[Material], Finding]
    question: str
    group: str
    costly: bool


DIAGNOSTICS: Final[dict[str, Diagnostic]] = {
    "calibration": Diagnostic(
        predictive.find_calibration, "Do predicted probabilities come true?",
        "posterior_predictive, observed_data", False,
    ),
    "loo": Diagnostic(
        predictive.find_loo, "Does it predict better than a coin, and than other models?",
        "log_likelihood", False,
    ),
    "predictive": Diagnostic(
        predictive.find_predictive, "Do drawn outcomes look like the observed ones, by subset?",
        "prior_predictive, observed_data", True,
    ),
    "ratings": Diagnostic(
        latent.find_ratings, "Do ratings fall where the model expects them?",
        "prior_predictive, observed_data", True,
    ),
    "length": Diagnostic(
        predictive.find_length, "What do rewards owe to length and position?",
        "posterior, constant_data", False,
    ),
    "shuffle": Diagnostic(
        predictive.find_shuffle, "Do predictions need the w and z of their own rows?",
        "posterior_predictive", False,
    ),
    "weights": Diagnostic(
        predictive.find_weights, "How well do preferences tell the weights?",
        "constant_data", False,
    ),
    "collapse": Diagnostic(
        latent.find_collapse, "Do weights and features ignore the text?", "sample_stats", False
    ),
    "units": Diagnostic(
        latent.find_units, "Which weights and features react to the text?", "sample_stats", False
    ),
    "khat": Diagnostic(
        latent.find_khat, "Does the guide cover the posterior?", "sample_stats", True
    ),
    "gaps": Diagnostic(
        latent.find_gaps, "What do network and family of the guide lose?", "sample_stats", True
    ),
    "simulation": Diagnostic(
        latent.find_simulation, "Is the guide right where the truth is known?", "prior_sbc", True
    ),
    "coverage": Diagnostic(
        latent.find_coverage, "Do intervals hold the truth as often as they say?", "prior_sbc",
        True,
    ),
    "prior": Diagnostic(
        latent.find_prior, "How far do outcomes move the prior, and one way?",
        "prior, posterior", True,
    ),
    "sensitivity": Diagnostic(
        latent.find_sensitivity, "What depends on the priors, what on the outcomes?",
        "log_prior, sample_stats", True,
    ),
    "shift": Diagnostic(
        predictive.find_shift, "Are some rows unlike those trained on?", "sample_stats", False
    ),
    "guide_shift": Diagnostic(
        predictive.find_shift_of_guide, "Are some outcomes unlike those trained on?",
        "sample_stats", True,
    ),
}  # fmt: skip


def diagnose(
    material: Material, names: Iterable[str] | None = None, *, progress: bool = False
) -> dict[str, Finding]:
    """Return the findings by name, in the order of :data:`DIAGNOSTICS`.

    Args:
        material: Model and rows.
        names: Which; all when omitted.
        progress: Show a bar on stderr.
    """
    chosen = list(DIAGNOSTICS) if names is None else [n for n in DIAGNOSTICS if n in set(names)]
    found = {}
    with tqdm(chosen, desc="diagnose", unit="", disable=not progress) as bar:
        for name in bar:
            bar.set_postfix_str(name)
            found[name] = DIAGNOSTICS[name].find(material)
    return found


__all__ = ["DIAGNOSTICS", "Diagnostic", "Material", "Rows", "diagnose", "log_scores"]
