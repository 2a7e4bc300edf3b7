"""The scorer: text in, scores out."""

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.backbone import Backbone, TransformerBackbone, load_backbone
from vrm_pyro.backbone.messages import Messages, conversation
from vrm_pyro.backbone.reading import ReadingSettings
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.errors import InputError
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.meta import differ
from vrm_pyro.models.checkpoint import ADAPTER_FOLDER, BACKBONE_FOLDER, LoadedModel, load_model
from vrm_pyro.prediction.scorer.lines import entry, short, table_lines
from vrm_pyro.prediction.scorer.prompt_lines import prompt_lines
from vrm_pyro.prediction.scorer.scores import score_source

Prompt = str | Messages
Response = str | Mapping[str, Any]
"""A text, or an assistant message."""

HASHES: Mapping[str, str] = {
    "template_hash": "chat template",
    "tokenizer_hash": "tokenizer",
    "weights_hash": "weights",
}


@dataclass
class UnlabelledStates:
    """A feature source of texts that came without labels; see there for what it holds."""

    prompts: NDArray[np.float32]
    responses: NDArray[np.float32]
    response_prompt: NDArray[np.int64]
    pair_first: NDArray[np.int64]
    pair_second: NDArray[np.int64]
    preference: NDArray[np.float64]
    pair_weight: NDArray[np.float64]
    ratings: NDArray[np.float64]
    objectives: tuple[str, ...] = ()


class Scorer:
    """Scores text with a trained model.

    ``Scorer.from_pretrained("runs/model")("What is 2 + 2?", ["4", "5"])`` returns a dict for each
    response: ``reward_mean``, ``reward_sd``, ``variance_from_weights``,
    ``variance_from_features``, ``variance_interaction``, and by objective ``weights``, ``scores``
    and ``scores_sd``. ``scores_outside_ratings`` lists each objective whose score is outside the
    range of its training ratings, with that range, where the run knows them. Compare rewards of
    one prompt only: their level is not identified.

    Args:
        loaded: Model with its settings.
        backbone: The backbone it was trained on.

    Raises:
        InputError: If the backbone is not the one the model was trained on.
    """

    def __init__(self, loaded: LoadedModel, backbone: Backbone) -> None:
        backbone = backbone.with_settings(_reading(loaded, backbone))
        _check_backbone(loaded, backbone)
        self.loaded, self.backbone = loaded, backbone
        self.model = loaded.model.to(backbone.device)

    @classmethod
    def from_pretrained(
        cls,
        directory: str | os.PathLike[str],
        *,
        device: str | torch.device = "auto",
        dtype: str | None = None,
        classes: Sequence[type] = (),
        backbone: Backbone | None = None,
    ) -> "Scorer":
        """Load a trained model and its backbone.

        Args:
            directory: The folder of a run, or the run that ``fit`` returned.
            device: Where to run; ``auto`` is the GPU when there is one.
            dtype: Precision of the backbone: ``auto``, ``float32`` or ``bfloat16``; that of
                training when omitted.
            classes: A user's own prior, guide or likelihood classes.
            backbone: The backbone, if it is at hand or is one of the user's own.

        Raises:
            InputError: If model or backbone is missing, damaged, or they do not fit.
        """
        loaded = load_model(os.fspath(directory), classes)
        dtype = dtype or loaded.config.dtype
        return cls(loaded, backbone or backbone_of(loaded, device=device, dtype=dtype))

    def __repr__(self) -> str:
        return f"Scorer({self.loaded!r}, on {self.backbone.device})"

    @property
    def score_unit(self) -> str:
        """``rating``: scores are expected raw ratings; ``model``: their unit is a convention."""
        return "rating" if self.model.scores_are_ratings else "model"

    def __call__(
        self,
        prompts: Prompt | Sequence[Prompt],
        responses: Response | Sequence[Response],
        *,
        tools: Any = None,
        chat_template_kwargs: Any = None,
    ) -> list[dict[str, Any]]:
        """Return one dict per response.

        Args:
            prompts: One prompt (text or messages) for all responses, or one for each.
            responses: One text or assistant message, or a list of these.
            tools: JSON schemas of tools, for the chat template of all prompts.
            chat_template_kwargs: Further variables of the template, such as ``enable_thinking``.

        Raises:
            InputError: If the numbers of prompts and responses differ, or a text is empty.
        """
        responses = _several(responses)
        asked: list[Prompt] = [
            conversation(prompt, tools=tools, chat_template_kwargs=chat_template_kwargs)
            for prompt in _spread(prompts, len(responses))
        ]
        states = self.encode(asked, responses)
        scores = score_source(self.model, states)
        names, ranges = self.loaded.objectives, self.loaded.rating_ranges
        return [entry(scores, names, j, ranges) for j in range(len(responses))]

    def preference(
        self,
        prompts: Prompt | Sequence[Prompt],
        first: Response | Sequence[Response],
        second: Response | Sequence[Response],
    ) -> list[float]:
        """Return p(first preferred to second) for each pair, w and z integrated out.

        Raises:
            InputError: If the numbers of texts differ, or one is empty.
        """
        first, second = _several(first), _several(second)
        if len(first) != len(second):
            raise InputError(f"{len(first)} first and {len(second)} second responses; pair them.")
        states = self._encode(_spread(prompts, len(first)), [*first, *second], paired=True)
        return [short(p) for p in score_source(self.model, states).p_first]

    def score_table(
        self, table: PreferenceTable, *, progress: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Yield a line for each response of each row, as :func:`table_lines` describes them.

        Args:
            table: Rows; labels and ratings are not read.
            progress: Whether to show a progress bar while texts are encoded.
        """
        source = encode_table(table, self.backbone, drop_identical=False, progress=progress)
        scores = score_source(self.model, cast(FeatureSource, source))
        return table_lines(scores, table, self.loaded.objectives, self.loaded.rating_ranges)

    def score_prompts(
        self, table: PreferenceTable, *, k: float = 1.0, progress: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Yield a line for each prompt: its responses against each other.

        :func:`~vrm_pyro.prediction.scorer.prompt_lines.prompt_lines` says what a line holds::

            rows = [{"prompt": "2 + 2?", "responses": ["4", "5", "22"]}]
            (line,) = scorer.score_prompts(load_table(rows, every_row=True))
            best = max(line["responses"], key=lambda response: response["p_best"])

        Args:
            table: Rows; labels and ratings are not read.
            k: Standard deviations that ``lower_bound`` subtracts.
            progress: Whether to show a progress bar while texts are encoded.
        """
        source = encode_table(table, self.backbone, drop_identical=False, progress=progress)
        states = cast(FeatureSource, source)
        return prompt_lines(self.model, states, score_source(self.model, states), table, k)

    def encode(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> FeatureSource:
        """Return the states of responses and of their prompts, equal prompts once.

        Args:
            prompts: A prompt for each response.
            responses: Texts, R of them; rows of the source in this order.

        Raises:
            InputError: If a text is empty, or a message is not usable.
        """
        return self._encode(prompts, responses, paired=False)

    def _encode(
        self, prompts: Sequence[Prompt], responses: Sequence[Response], paired: bool
    ) -> FeatureSource:
        """Encode texts. When paired, response i and i + half are a pair."""
        reading = self.backbone.settings
        answers = [
            "" if response is None else reading.answer(response, f"response {i}")
            for i, response in enumerate(responses)
        ]
        empty = next((i for i, answer in enumerate(answers) if not answer.strip()), None)
        if empty is not None:
            raise InputError(f"response {empty} is empty; each needs a text.")
        used: dict[str, int] = {}
        unique: list[Messages] = []
        place = []
        for prompt in prompts:
            messages = reading.prompt(prompt)
            key = json.dumps(messages, sort_keys=True)
            if key not in used:
                used[key] = len(unique)
                unique.append(messages)
            place.append(used[key])
        owner = np.array(place * (2 if paired else 1), dtype=np.int64)
        half = len(answers) // 2 if paired else 0
        read = self.backbone.sequences
        states = self.backbone.pair_states(read(unique), read(unique, answers, owner), owner)
        return UnlabelledStates(
            *states,
            owner,
            np.arange(half),
            np.arange(half) + half,
            preference=np.full(half, 0.5),
            pair_weight=np.ones(half),
            ratings=np.zeros((len(answers), 0)),
        )


def backbone_of(
    loaded: LoadedModel, *, device: str | torch.device = "auto", dtype: str = "auto"
) -> TransformerBackbone:
    """Load the backbone that a model was trained on.

    Raises:
        InputError: If it is nowhere to be found.
    """
    facts = loaded.backbone
    if "name" not in facts:
        raise InputError(
            "the model was trained on states without a named backbone, so it cannot read text. "
            "Train it from rows, or from a store that `vrm-pyro features` wrote."
        )
    if "class" in facts:
        raise InputError(
            f"the model reads states of a backbone of your own, {facts['class']} "
            f"({facts['name']}), which cannot be loaded by name. Pass it: "
            "Scorer.from_pretrained(DIR, backbone=...), or give a feature store in place of rows."
        )
    name, adapter, tuned = facts["name"], None, facts.get("tuned")
    if tuned is not None and loaded.directory is None:
        raise InputError(
            "the model's backbone was trained, too, and lies in the folder of its run. Load the "
            "model from there."
        )
    if tuned == "full":
        name = str(loaded.directory / BACKBONE_FOLDER)  # type: ignore[operator]
    elif tuned == "lora":
        adapter = loaded.directory / ADAPTER_FOLDER  # type: ignore[operator]
    return load_backbone(
        name,
        pooling=facts.get("pooling", "auto"),
        layer=facts.get("layer"),
        max_length=int(facts.get("max_length", 512)),
        device=device,
        dtype=dtype,
        adapter=adapter,
    )


def _reading(loaded: LoadedModel, backbone: Backbone) -> ReadingSettings:
    """Return how the model's texts are read; a date that is not known is that of the backbone."""
    facts = loaded.backbone
    found = ReadingSettings(facts.get("date"), facts.get("reasoning", "keep"))
    if found.date is None and backbone.settings.date is not None:
        warnings.warn(
            f"the chat template of backbone {backbone.name} writes today's date, and the model "
            "does not say on which day it was trained (an earlier version kept none). It reads "
            f"{backbone.settings.date} now; rewards move from day to day. Train it again.",
            UserWarning,
            stacklevel=3,
        )
        return replace(found, date=backbone.settings.date)
    return found


def _check_backbone(loaded: LoadedModel, backbone: Backbone) -> None:
    facts = loaded.backbone
    differing = [
        words
        for key, words in HASHES.items()
        if key in facts and facts[key] != getattr(backbone, key)
    ]
    file = getattr(backbone, "file_sha256", None)
    if differ("file", facts.get("file_sha256"), file):
        differing.append("GGUF file")
    if "weights" in differing and facts.get("layer") != getattr(backbone, "layer", None):
        differing.append("layer")
    if differing:
        raise InputError(
            f"backbone {backbone.name}: its {' and '.join(differing)} changed since the model was "
            "trained, so its states would mean something else. Give the backbone it was trained "
            "on, or train again."
        )
    if backbone.hidden_size != loaded.hidden_size:
        raise InputError(
            f"backbone {backbone.name}: its states have size {backbone.hidden_size}, the model "
            f"was trained on size {loaded.hidden_size}. Give the backbone it was trained on."
        )


def _several(responses: Response | Sequence[Response]) -> list[Response]:
    """Return one response or several as a list."""
    return [responses] if isinstance(responses, str | Mapping) else list(responses)


def _spread(prompts: Prompt | Sequence[Prompt], count: int) -> list[Prompt]:
    """Return one prompt for each response."""
    single = isinstance(prompts, str) or (
        len(prompts) > 0 and all(isinstance(item, Mapping) for item in prompts)
    )
    if single:
        return [prompts] * count  # type: ignore[list-item]
    if len(prompts) != count:
        raise InputError(
            f"{len(prompts)} prompts for {count} responses: give one prompt for all of them, or "
            "one for each."
        )
    return list(prompts)  # type: ignore[arg-type]
