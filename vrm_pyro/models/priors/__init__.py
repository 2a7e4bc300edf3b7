"""Priors of the causal graph: one file each, listed in these two tables.

To add one, write ``priors/<name>.py`` with a frozen dataclass under the base class and add one
line here. The contract test of ``tests/priors`` picks it up.
"""

from vrm_pyro.models.priors.base import FeaturePrior, WeightPrior
from vrm_pyro.models.priors.conditional_dirichlet import ConditionalDirichletPrior
from vrm_pyro.models.priors.conditional_logistic_normal import ConditionalLogisticNormalPrior
from vrm_pyro.models.priors.conditional_normal import ConditionalNormalPrior
from vrm_pyro.models.priors.correlated_normal import CorrelatedNormalPrior
from vrm_pyro.models.priors.dirichlet import DirichletPrior
from vrm_pyro.models.priors.kernel_dirichlet import KernelDirichletPrior
from vrm_pyro.models.priors.logistic_normal import LogisticNormalPrior
from vrm_pyro.models.priors.normal import NormalPrior
from vrm_pyro.models.priors.shrinkage_dirichlet import ShrinkageDirichletPrior
from vrm_pyro.models.priors.shrinkage_normal import ShrinkageNormalPrior

WEIGHT_PRIORS: dict[str, type[WeightPrior]] = {
    "ConditionalDirichletPrior": ConditionalDirichletPrior,
    "ConditionalLogisticNormalPrior": ConditionalLogisticNormalPrior,
    "DirichletPrior": DirichletPrior,
    "KernelDirichletPrior": KernelDirichletPrior,
    "LogisticNormalPrior": LogisticNormalPrior,
    "ShrinkageDirichletPrior": ShrinkageDirichletPrior,
}
FEATURE_PRIORS: dict[str, type[FeaturePrior]] = {
    "ConditionalNormalPrior": ConditionalNormalPrior,
    "CorrelatedNormalPrior": CorrelatedNormalPrior,
    "NormalPrior": NormalPrior,
    "ShrinkageNormalPrior": ShrinkageNormalPrior,
}

__all__ = [
    "FEATURE_PRIORS",
    "WEIGHT_PRIORS",
    "ConditionalDirichletPrior",
    "ConditionalLogisticNormalPrior",
    "ConditionalNormalPrior",
    "CorrelatedNormalPrior",
    "DirichletPrior",
    "FeaturePrior",
    "KernelDirichletPrior",
    "LogisticNormalPrior",
    "NormalPrior",
    "ShrinkageDirichletPrior",
    "ShrinkageNormalPrior",
    "WeightPrior",
]
