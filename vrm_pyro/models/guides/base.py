"""Base classes of guides: one method for q(w | .) and one for q(z | .)."""

from typing import ClassVar

import pyro
import torch.distributions as dist
from jaxtyping import Float
from pyro import poutine
from torch import Tensor, nn

from vrm_pyro import names
from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals


class Guide:
    """Base class of guide settings; children are frozen dataclasses (spec 2.7).

    Pyro's AutoGuides do not fit here: they have one parameter per row of the first batch, so
    they are not amortized.
    """

    #: Whether q sees labels and ratings: required in mode ``conditional``, refused in ``vib``.
    outcome_aware: ClassVar[bool]
    #: Whether q(z) is Gaussian or a point, as objective ``integrated`` requires.
    gaussian: ClassVar[bool] = True
    #: Whether q is a point. The objective is then no bound, and its "KL" is -log p(point).
    point: ClassVar[bool] = False

    def build(self, hidden_size: int, num_objectives: int, latent_dim: int) -> "GuideModule":
        """Return the module for states of size ``hidden_size``."""
        raise NotImplementedError


class GuideModule(nn.Module):
    """Amortized q(w, z | x, y, outcomes) = prod q(w_i | .) prod q(z_ij | .) (spec 2.7).

    Training, scoring and diagnostics all call :meth:`weights` and :meth:`features`.
    """

    #: Whether q(z) is Gaussian (or a point), so pairs have a closed expectation given w.
    gaussian: ClassVar[bool] = True

    def weights(self, batch: FeatureBatch, conditionals: Conditionals) -> dist.Distribution:
        """Return q(w | .): batch (P,), event (K,)."""
        raise NotImplementedError

    def features(self, batch: FeatureBatch, conditionals: Conditionals) -> dist.Distribution:
        """Return q(z | .): batch (R,), event (d_z,)."""
        raise NotImplementedError

    def posterior(
        self, batch: FeatureBatch, conditionals: Conditionals
    ) -> tuple[dist.Distribution, dist.Distribution]:
        """Return q(w | .) and q(z | .); override where the two share work."""
        return self.weights(batch, conditionals), self.features(batch, conditionals)

    def forward(
        self,
        batch: FeatureBatch,
        conditionals: Conditionals,
        kl_weights: float = 1.0,
        kl_features: float = 1.0,
        population: int | None = None,
        posterior: tuple[dist.Distribution, dist.Distribution] | None = None,
    ) -> None:
        """Sample w and z: the guide program for Pyro, with the arguments of the model's program.

        Scales must equal the model's: ``TraceMeanField_ELBO`` applies the guide's to the analytic
        KL, ``Trace_ELBO`` applies both, and only equal scales act as a weight on the KL
        (spec 2.7). Pass ``posterior``, the result of :meth:`posterior` for this batch, to avoid
        computing it again.
        """
        scale = (population or batch.num_prompts) / batch.num_prompts
        q_weights, q_features = posterior or self.posterior(batch, conditionals)
        with poutine.scale(scale=scale):
            with (
                pyro.plate(names.PROMPT_PLATE, batch.num_prompts, dim=-1),
                poutine.scale(scale=kl_weights),
            ):
                pyro.sample(names.WEIGHTS, q_weights)
            with (
                pyro.plate(names.RESPONSE_PLATE, batch.num_responses, dim=-1),
                poutine.scale(scale=kl_features),
            ):
                pyro.sample(names.FEATURES, q_features)


class LabelBlindModule(GuideModule):
    """Base class of guides that read the text alone: q(w | x) and q(z | x, y).

    Because they need no outcome, they also predict on new text.

    Source: spec 2.2.
    """

    def predict_weights(self, prompts: Float[Tensor, "prompts hidden"]) -> dist.Distribution:
        """Return q(w | x) for standardised prompt states."""
        raise NotImplementedError

    def predict_features(self, responses: Float[Tensor, "responses hidden"]) -> dist.Distribution:
        """Return q(z | x, y) for standardised response states."""
        raise NotImplementedError

    def weights(self, batch: FeatureBatch, conditionals: Conditionals) -> dist.Distribution:
        """Return q(w | x); with one objective p(w), the point mass at 1."""
        if conditionals.one_objective:
            return conditionals.weights
        return self.predict_weights(batch.prompts)

    def features(self, batch: FeatureBatch, conditionals: Conditionals) -> dist.Distribution:
        """Return q(z | x, y)."""
        return self.predict_features(batch.responses)
