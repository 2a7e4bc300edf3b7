"""Requests of all routes; a field that a route does not know is ignored, as its models do."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Message = dict[str, Any]
Prompt = str | list[Message]
Response = str | Message | list[Message]
Probability = Annotated[float, Field(gt=0, lt=1)]
Aggregation = Literal["mean", "lower_bound", "quantile", "thompson"]
Wanted = Literal[
    "mean",
    "sd",
    "quantiles",
    "weights",
    "scores",
    "contributions",
    "pairwise",
    "p_best",
    "lower_bound",
    "reward",
    "explanation",
]
"""What ``/score`` can be asked for."""


class Request(BaseModel):
    """Base of all requests: numbers are finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class Conversation(Request):
    """A prompt with its responses, or a conversation that ends with the response."""

    prompt: Prompt | None = None
    responses: list[Response] | None = None
    messages: list[Message] | None = None
    tools: list[Any] | str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class ScoreItem(Conversation):
    """One of the two forms of a conversation."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        _check_form(self.prompt, self.responses, self.messages)
        return self


def _check_form(prompt: Any, responses: Any, messages: Any) -> None:
    given = [part is not None for part in (prompt, responses, messages)]
    if given not in ([True, True, False], [False, False, True]):
        raise ValueError("give prompt and responses, or messages that end with the response")


class Wish(Request):
    """What is wanted of the responses to a prompt, and how much time there is."""

    model: str | None = None
    ask: list[Wanted] = ["mean", "sd"]
    k: float = 1.0
    level: Probability = 0.1
    levels: Annotated[list[Probability], Field(min_length=1, max_length=32)] = [0.05, 0.5, 0.95]
    aggregation: Aggregation = "mean"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    step: Annotated[int, Field(ge=0, lt=2**62)] = 0
    num_draws: Annotated[int, Field(ge=100, le=10_000)] = 1000
    interval: Probability = 0.9
    truncate: bool | None = None
    allow_empty: bool = False
    stream: bool = False
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] | None = None


class ScoreRequest(Wish, Conversation):
    """``POST /score``: one item, or many as ``items``."""

    items: list[ScoreItem] | None = None

    @model_validator(mode="after")
    def _items_or_one(self) -> Self:
        own = (self.prompt, self.responses, self.messages)
        if self.items is None:
            _check_form(*own)
        elif any(part is not None for part in own):
            raise ValueError("give items, or one prompt with its responses, not both")
        return self

    def all_items(self) -> list[ScoreItem]:
        """Return the items, of which a request without ``items`` has one."""
        if self.items is not None:
            return self.items
        return [ScoreItem(**{name: getattr(self, name) for name in Conversation.model_fields})]


class OpenRLHFRequest(Request):
    """``POST /get_reward``: samples of a policy in its chat template."""

    query: list[str]
    prompts: list[str] = []
    labels: list[Any] | None = None


class PoolingRequest(Request):
    """``/classify`` and ``/pooling`` of vLLM: whole texts, token ids, or one conversation."""

    model: str | None = None
    input: str | list[str] | list[int] | list[list[int]] | None = None
    messages: list[Message] | None = None
    tools: list[Any] | str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    use_activation: bool | None = None
    activation: bool | None = None
    truncate_prompt_tokens: int | None = None
    task: str | None = None

    @property
    def activated(self) -> bool:
        """Whether the reward goes through a sigmoid; never unless it was asked for."""
        return bool(self.use_activation or self.activation)


class ClassifyRequest(PoolingRequest):
    """``POST /classify``: of vLLM with ``input`` or ``messages``, of SGLang with ``text``."""

    text: str | list[str] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [part is not None for part in (self.input, self.messages, self.text)]
        if sum(given) != 1:
            raise ValueError("give one of input, messages (as to vLLM) and text (as to SGLang)")
        return self


class PoolRequest(PoolingRequest):
    """``POST /pooling``."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.input is None) == (self.messages is None):
            raise ValueError("give one of input and messages")
        return self


class EmbeddingRequest(Request):
    """``POST /v1/embeddings``, where verl looks for the reward of a model on SGLang."""

    model: str | None = None
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"


class PredictRequest(Request):
    """``POST /predict`` of TEI: a text, a pair of prompt and response, or a batch of these."""

    inputs: str | list[str] | list[list[str]]
    truncate: bool | None = None
    raw_scores: bool | None = None


class RemoteRMRequest(Request):
    """``POST /rm``: what slime and miles send to a remote reward model."""

    prompt: Prompt
    response: str
    label: Any = None
