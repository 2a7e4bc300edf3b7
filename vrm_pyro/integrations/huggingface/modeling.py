"""A trained model with its backbone as one transformers model: token ids in, rewards out."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from vrm_pyro.backbone import DEFAULT_TOKEN_BUDGET, TOKEN_BUDGETS, make_rows, pad_rows
from vrm_pyro.backbone.batching import token_batches
from vrm_pyro.backbone.forward import accepted_inputs, last_states
from vrm_pyro.backbone.layout import TokenSequence
from vrm_pyro.backbone.pooling import state_size
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.adapter import add_adapter
from vrm_pyro.integrations.huggingface.configuration import VRMConfig
from vrm_pyro.integrations.huggingface.loading import check_loaded, check_tokenizer
from vrm_pyro.integrations.huggingface.reading import EmptyResponse, Reading, rows_of_tokens
from vrm_pyro.integrations.huggingface.self_check import SelfTest
from vrm_pyro.models.checkpoint import build_described
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.weights import check_finite
from vrm_pyro.prediction.reward_draws import predictive_draws
from vrm_pyro.prediction.scorer import Scores, score_source
from vrm_pyro.prediction.scorer.scorer import UnlabelledStates

Floats = NDArray[np.float32]


@dataclass
class VRMOutput(ModelOutput):
    """Rewards of a batch of B rows, float32.

    Attributes:
        logits: Mean of the reward, shape (B, 1).
        reward_sd: Standard deviation of the reward over w and z, shape (B,).
        weights: E[w | prompt], (B, K); None for a Bradley-Terry model.
        scores: Mean of each objective's score, (B, K), in units of the ratings if the model was
            trained with ratings; None for a Bradley-Terry model.
        scores_sd: Standard deviation of the scores, (B, K); None for a Bradley-Terry model.
        draws: Joint draws of the rewards, (S, B); None unless requested.
    """

    logits: Tensor | None = None
    reward_sd: Tensor | None = None
    weights: Tensor | None = None
    scores: Tensor | None = None
    scores_sd: Tensor | None = None
    draws: Tensor | None = None


# Version 0.1.0 wrote the parameter posterior of the model as "head".
_OLD_NAMES = {
    rf"^head\.head\.{name}": f"head.parameter_posterior.{name}"
    for name in ("prior_", "raw_scales", "precision_factor", "offsets")
}


class VRMForSequenceClassification(PreTrainedModel):
    """Reward model that scores conversations given as token ids.

    For trainers that load a reward model by its path: ``num_labels`` is 1 and ``logits[:, 0]`` is
    the mean reward. For scoring only: it computes no gradients, and training mode changes
    nothing. The heads compute in float32 with any precision of the backbone, and stay in float32
    when the model is cast. Importing ``vrm_pyro.integrations.huggingface`` registers the class;
    the weights come without code.

    Args:
        config: The configuration.

    Raises:
        InputError: If the configuration lacks ``head`` or ``reading``.
    """

    config_class = VRMConfig
    config: VRMConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    # Expressions: the first also keeps the heads from being quantized.
    _keep_in_fp32_modules = [r"^head\."]
    _keep_in_fp32_modules_strict = [r"^head\."]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = False
    _supports_attention_backend = True

    def __init__(self, config: VRMConfig) -> None:
        super().__init__(config)
        if config.head is None or config.reading is None:
            raise InputError(
                "config.json: 'head' or 'reading' is missing. Exported models are written by "
                "vrm-pyro export; a configuration alone does not make one."
            )
        self.reading = Reading.from_json(config.reading)
        self.reading.check_ids(self._text_config.vocab_size)
        self.backbone: Any = AutoModel.from_config(config.text_config)
        if getattr(self.backbone, "pooler", None) is not None:
            self.backbone.pooler = None  # unused, and missing from many checkpoints
        if config.adapter is not None:
            add_adapter(self.backbone, config.adapter)
        # Build the heads on a real device in float32, even if transformers builds on the meta
        # device in half precision. Initial values must not advance the caller's random state.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), _float32():
            described = build_described(config.head, "config.json: head")
        self.objectives = described.objectives
        self.head = described.model
        saved = self.head.state_dict()
        self._constants = {n: b.clone() for n, b in self.head.named_buffers() if n not in saved}
        self._accepted = accepted_inputs(self.backbone)
        self.post_init()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        verify: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Load an exported model and check that it reproduces its saved rewards.

        Args:
            pretrained_model_name_or_path: A folder that ``vrm-pyro export`` wrote, or an id.
            *model_args: As in transformers.
            verify: Whether to run the self-test; a model without a self-test is then refused.
            **kwargs: As in transformers; ``dtype`` applies to the backbone.

        Returns:
            The model, in evaluation mode.

        Raises:
            InputError: If tensors are missing, unexpected or of another shape, the folder's
                tokenizer differs from that of the export, or a reward differs.
        """
        with_info = kwargs.pop("output_loading_info", False)
        kwargs["use_safetensors"] = True
        kwargs.setdefault("key_mapping", _OLD_NAMES)
        kwargs["ignore_mismatched_sizes"] = True  # check_loaded names them
        loaded: Any = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        model, info = loaded
        check_loaded(str(pretrained_model_name_or_path), info)
        for name, value in model._constants.items():
            # transformers leaves tensors that no file holds uninitialised.
            model.head.get_buffer(name).copy_(value)
        for name, tensor in model.state_dict().items():
            check_finite(tensor, name, str(pretrained_model_name_or_path))
        check_tokenizer(pretrained_model_name_or_path, model.reading, kwargs)
        if verify:
            SelfTest.from_json(model.config.self_test or {}).verify(model)
        return (model, info) if with_info else model

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], **kwargs: Any
    ) -> None:
        """Save weights and configuration, with the current rewards of the self-test rows.

        Args:
            save_directory: The folder.
            **kwargs: As in transformers.
        """
        if self.config.self_test is not None:
            renewed = SelfTest.from_json(self.config.self_test).renewed(self)
            self.config.self_test = renewed.to_json()
        super().save_pretrained(save_directory, **kwargs)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        return_dict: bool | None = None,
        num_draws: int = 0,
        seed: int = 0,
        use_cache: bool | None = None,
    ) -> VRMOutput | tuple[Tensor, ...]:
        """Return the rewards of a batch of conversations.

        A row is a conversation that ends with the assistant, written by the chat template.
        Padding may be on either side, and the mask may have holes. Rows with the same prompt
        share its computation. Rows above the model's maximum length are cut as texts are. A row
        whose response is empty, as a policy may sample it, has the reward ``config.empty_reward``
        and NaN for everything else.

        Args:
            input_ids: Shape (B, tokens).
            attention_mask: 1 for real tokens, shape (B, tokens); all ones when omitted.
            token_type_ids: Ignored: segments follow from the ids.
            return_dict: Whether to return an object; a tuple without None entries if False.
            num_draws: S, the number of joint draws of the rewards; none by default.
            seed: Seed of the draws.
            use_cache: Not used. Pipelines of transformers set it, and no trainer does: with it an
                empty response is refused, since nobody looks for NaN there.

        Raises:
            InputError: If no answer begins in a row (see ``config.without_boundary``), or a
                state of the backbone is not finite.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        ids, kept = (t.detach().cpu().numpy() for t in (input_ids, mask))
        pairs, scored = [], []
        for i, row in enumerate(rows_of_tokens(ids, kept)):
            try:
                pairs.append(self.reading.split(row, self.config.without_boundary))
            except EmptyResponse:
                if use_cache is not None:
                    raise
                continue
            scored.append(i)
        with evaluation_mode(self):
            source = self._source(pairs)
            # The backbone uses an outer autocast; the heads do not.
            with torch.autocast(self.device.type, enabled=False):
                found = score_source(self.head, source)
                draws = self._draws(source, num_draws, seed) if num_draws else None
        output = self._output(found, draws, len(ids), scored)
        return output.to_tuple() if return_dict is False else output

    def _source(self, pairs: list[tuple[TokenSequence, TokenSequence]]) -> UnlabelledStates:
        index: dict[bytes, int] = {}
        owner = np.array(
            [index.setdefault(p.digest, len(index)) for p, _ in pairs], dtype=np.int64
        )
        first = np.unique(owner, return_index=True)[1]
        prompts = [pairs[i][0] for i in first]
        states = self._states([*prompts, *(r for _, r in pairs)], owner)
        none = np.zeros(0, dtype=np.int64)
        return UnlabelledStates(
            states[: len(prompts)],
            states[len(prompts) :],
            owner,
            none,
            none,
            preference=np.zeros(0),
            pair_weight=np.zeros(0),
            ratings=np.zeros((len(pairs), 0)),
        )

    def _states(self, sequences: list[TokenSequence], owner: NDArray[np.int64]) -> Floats:
        """Return the states of prompts, then of responses; ``owner`` gives their prompts."""
        reading, device = self.reading, self.device
        if not sequences:
            return np.empty((0, state_size(reading.pooling, self._text_config.hidden_size)), "f4")
        num_prompts = len(sequences) - len(owner)
        prefix = np.concatenate([np.arange(num_prompts), owner])
        if not (reading.shares_prompts and self._takes_block_masks()):
            # Without block masks, a prompt shares a row with its first response only.
            first = np.unique(owner, return_index=True)[1]
            prefix = np.concatenate([first, np.arange(len(owner))])
        budget = TOKEN_BUDGETS.get(device.type, DEFAULT_TOKEN_BUDGET)
        longest = max(budget, reading.layout.max_length)
        rows = make_rows(sequences, prefix, reading.pooling, reading.is_decoder, longest)
        size = state_size(reading.pooling, self._text_config.hidden_size)
        states = np.empty((len(sequences), size), np.float32)
        for group in token_batches([len(row) for row in rows], budget):
            batch = pad_rows([rows[r] for r in group], reading.pad_id).to(device)
            hidden = last_states(
                self.backbone,
                batch.input_ids,
                batch.block_mask() if batch.shares else batch.attention_mask,
                batch.type_ids,
                batch.positions if reading.counts_positions else None,
                self._accepted,
            )
            states[batch.states.cpu().numpy()] = batch.pool(hidden, reading.pooling).cpu().numpy()
        if not np.isfinite(states).all():
            raise InputError(
                "the backbone gave states that are not finite, so there is no reward. Load it "
                "with dtype=torch.float32; if that does not help, its weights are damaged."
            )
        return states

    def _takes_block_masks(self) -> bool:
        return self._text_config._attn_implementation in ("sdpa", "eager")

    @property
    def _text_config(self) -> Any:
        config: Any = self.config.text_config
        return config.get_text_config()

    def _draws(self, source: UnlabelledStates, num_draws: int, seed: int) -> Tensor:
        """Return joint draws of the rewards, shape (S, B)."""
        dataset = PromptDataset(source)
        if not len(dataset):
            return torch.empty(num_draws, 0, device=self.device)
        device = next(self.head.parameters()).device
        found = predictive_draws(
            self.head,
            dataset.batch().to(device),
            num_draws,
            torch.Generator().manual_seed(seed),
        )
        draws = torch.empty_like(found)
        draws[:, torch.from_numpy(dataset.rows_of(dataset.items)[0]).to(device)] = found
        return draws

    def _output(
        self, found: Scores, draws: Tensor | None, size: int, scored: list[int]
    ) -> VRMOutput:
        """Return the output of ``size`` rows, of which those that are scored have values."""

        def tensor(values: Floats | None, missing: float | None = None) -> Tensor | None:
            if values is None:
                return None
            fill = torch.nan if missing is None else missing
            whole = torch.full((size, *values.shape[1:]), fill, device=self.device)
            whole[scored] = torch.from_numpy(values).to(self.device)
            return whole

        if draws is not None:
            drawn = draws.new_full((len(draws), size), torch.nan)
            drawn[:, scored] = draws
            draws = drawn
        return VRMOutput(
            logits=tensor(found.reward[:, None], self.config.empty_reward),
            reward_sd=tensor(np.sqrt(found.variance)),
            weights=tensor(found.weights),
            scores=tensor(found.scores),
            scores_sd=tensor(found.scores_sd),
            draws=draws,
        )

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Keep the initial values; the backbone's class has initialised its part."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move all parts, but cast only the backbone.

        Trainers cast their models; rounded heads would change the rewards.
        """

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        self.backbone._apply(fn)
        self.head._apply(moved)
        return self


class _float32:
    """Sets float32 as the default dtype within a block."""

    def __enter__(self) -> None:
        self._before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)

    def __exit__(self, *error: object) -> None:
        torch.set_default_dtype(self._before)
