"""Amortized guides: one file each, listed in this table.

To add one, write ``guides/<name>.py`` with a frozen dataclass under :class:`Guide` and add one
line here.
"""

from vrm_pyro.models.guides.base import Guide, GuideModule, LabelBlindModule
from vrm_pyro.models.guides.delta import DeltaGuide
from vrm_pyro.models.guides.flow import FlowGuide
from vrm_pyro.models.guides.full_covariance import FullCovarianceGuide
from vrm_pyro.models.guides.label_blind import LabelBlindGuide
from vrm_pyro.models.guides.logistic_normal import LogisticNormalGuide
from vrm_pyro.models.guides.outcome_aware import OutcomeAwareGuide

GUIDES: dict[str, type[Guide]] = {
    "DeltaGuide": DeltaGuide,
    "FlowGuide": FlowGuide,
    "FullCovarianceGuide": FullCovarianceGuide,
    "LabelBlindGuide": LabelBlindGuide,
    "LogisticNormalGuide": LogisticNormalGuide,
    "OutcomeAwareGuide": OutcomeAwareGuide,
}

__all__ = [
    "GUIDES",
    "DeltaGuide",
    "FlowGuide",
    "FullCovarianceGuide",
    "Guide",
    "GuideModule",
    "LabelBlindGuide",
    "LabelBlindModule",
    "LogisticNormalGuide",
    "OutcomeAwareGuide",
]
