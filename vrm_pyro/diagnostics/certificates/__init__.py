"""Certificates: upper limits of a risk, each with its statement (spec 3)."""

from vrm_pyro.diagnostics.certificates.binary_kl import binary_kl, binary_kl_inverse
from vrm_pyro.diagnostics.certificates.bound import Bound
from vrm_pyro.diagnostics.certificates.certify import Certificates, Withheld, certify
from vrm_pyro.diagnostics.certificates.certify_head import (
    PRIOR_SCALES,
    HeadCertificate,
    certify_head,
)
from vrm_pyro.diagnostics.certificates.clopper_pearson import clopper_pearson_upper
from vrm_pyro.diagnostics.certificates.dependence import effective_units
from vrm_pyro.diagnostics.certificates.fit_head import FitSettings, fit_head
from vrm_pyro.diagnostics.certificates.gaussian_head import HEADS, GaussianHead, HeadParameters
from vrm_pyro.diagnostics.certificates.held_out import (
    HeldOutBound,
    chernoff_upper,
    held_out_bound,
    held_out_bounds,
)
from vrm_pyro.diagnostics.certificates.information_cost import InformationCost, information_cost
from vrm_pyro.diagnostics.certificates.local import (
    LocalCertificate,
    check_provenance,
    local_certificate,
)
from vrm_pyro.diagnostics.certificates.local_risk import LocalRisks, certify_local, local_risks
from vrm_pyro.diagnostics.certificates.pac_bayes import (
    PACBayesBound,
    monte_carlo_upper,
    pac_bayes_bound,
    pac_bayes_upper,
)
from vrm_pyro.diagnostics.certificates.prompt_losses import LOSSES, one_pair_each, prompt_means

__all__ = [
    "HEADS",
    "LOSSES",
    "PRIOR_SCALES",
    "Bound",
    "Certificates",
    "FitSettings",
    "GaussianHead",
    "HeadCertificate",
    "HeadParameters",
    "HeldOutBound",
    "InformationCost",
    "LocalCertificate",
    "LocalRisks",
    "PACBayesBound",
    "Withheld",
    "binary_kl",
    "binary_kl_inverse",
    "certify",
    "certify_head",
    "certify_local",
    "check_provenance",
    "chernoff_upper",
    "clopper_pearson_upper",
    "effective_units",
    "fit_head",
    "held_out_bound",
    "held_out_bounds",
    "information_cost",
    "local_certificate",
    "local_risks",
    "monte_carlo_upper",
    "one_pair_each",
    "pac_bayes_bound",
    "pac_bayes_upper",
    "prompt_means",
]
