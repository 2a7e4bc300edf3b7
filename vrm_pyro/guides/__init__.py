"""Amortized guides: one file each, listed in this table.

To add one, write ``guides/<name>.py`` with a frozen dataclass under :class:`Guide` and add one
line here.
"""

from vrm_pyro.guides.base import Guide, GuideModule
from vrm_pyro.guides.label_blind import LabelBlindGuide
from vrm_pyro.guides.outcome_aware import OutcomeAwareGuide

GUIDES: dict[str, type[Guide]] = {
    "LabelBlindGuide": LabelBlindGuide,
    "OutcomeAwareGuide": OutcomeAwareGuide,
}

__all__ = ["GUIDES", "Guide", "GuideModule", "LabelBlindGuide", "OutcomeAwareGuide"]
