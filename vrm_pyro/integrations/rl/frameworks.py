"""Reward functions for OpenRLHF, verl and ms-swift."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from vrm_pyro.errors import InputError
from vrm_pyro.integrations.rl.reward import VRMReward, environment_reward

_MARK = "vrm-pyro marks the user text here"


class PolicyTexts:
    """Takes a policy's chat template off: what it writes around a single user text.

    Args:
        tokenizer: Tokenizer of the policy, with a chat template; None for texts without one.

    Raises:
        InputError: If the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        self.before, self.after = ("", "") if tokenizer is None else _affixes(tokenizer)
        self.special = () if tokenizer is None else special_tokens(tokenizer)

    def __call__(self, query: str, prompt: str) -> tuple[str, str]:
        """Return the texts of prompt and response.

        Args:
            query: Prompt and response, with the policy's special tokens.
            prompt: What the query begins with.

        Raises:
            InputError: If it does not, or the prompt is not a single user text.
        """
        response = response_of(query, prompt, self.special)
        fits = prompt.startswith(self.before) and prompt.endswith(self.after)
        text = prompt.removeprefix(self.before).removesuffix(self.after)
        if not fits or any(token in text for token in self.special):
            raise InputError(
                f"OpenRLHF: the prompt {prompt[:60]!r} is not one user text in the chat template "
                "of the tokenizer. Pass the policy's own tokenizer; for conversations of several "
                "turns, or prompts without a template, write the few lines that turn them into "
                "messages, and call VRMReward.assess."
            )
        return text, response


def response_of(query: str, prompt: str, special: Sequence[str]) -> str:
    """Return the text of a response alone, without special tokens at its end.

    Args:
        query: Prompt and response.
        prompt: What the query begins with.
        special: Texts of the policy's special tokens.

    Raises:
        InputError: If the query does not begin with its prompt.
    """
    if not query.startswith(prompt):
        raise InputError(
            f"OpenRLHF: a query does not begin with its prompt {prompt[:60]!r}, so the place "
            "where the response begins is unknown."
        )
    response = query.removeprefix(prompt)
    # A template may write white space after its special tokens; what stands before is said.
    while ending := next((s for s in special if response.rstrip().endswith(s)), ""):
        response = response.rstrip().removesuffix(ending)
    return response


class OpenRLHFReward:
    """``reward_func`` of a Python file for OpenRLHF's ``--reward.remote_url FILE.py``.

    OpenRLHF passes texts in the policy's chat template with special tokens. The reward model has
    another template, so this removes the policy's: what its tokenizer writes before and after a
    single user text, and special tokens after the response. Omit ``tokenizer`` for prompts
    without a template.

    Args:
        reward: A reward with aggregation ``mean`` and a number for ``empty_reward``: OpenRLHF
            sends one sample at a time, and converts rewards to tensors.
        tokenizer: Tokenizer of the policy, with a chat template.

    Raises:
        InputError: If the reward does not fit, or the tokenizer has no chat template.
    """

    def __init__(
        self, reward: VRMReward, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        _check_single(reward, "OpenRLHF")
        self.reward = reward
        self._texts = PolicyTexts(tokenizer)

    def __call__(
        self, queries: Sequence[str], prompts: Sequence[str], labels: Any = None, **more: Any
    ) -> dict[str, Any]:
        """Return rewards and logs of prompt and response texts; empty without queries.

        ``scores``, which dynamic filtering reads as correctness in [0, 1], are not returned.
        OpenRLHF then uses the rewards, whose level is arbitrary, so turn dynamic filtering off.

        Raises:
            InputError: If a query does not begin with its prompt, or a prompt is not a single
                user text in the policy's template.
        """
        pairs = (
            [self._texts(q, p) for q, p in zip(queries, prompts, strict=True)] if queries else []
        )
        found = self.reward.assess([p for p, _ in pairs], [r for _, r in pairs])
        sd = [0.0 if value is None else value for value in found.reward_sd]
        return {"rewards": torch.tensor(found.rewards), "extra_logs": {"vrm_sd": torch.tensor(sd)}}


class VerlReward:
    """``compute_score`` for verl's ``reward.custom_reward_function``.

    verl passes no prompt: the data set must hold it in ``extra_info``.

    Args:
        reward: A reward with aggregation ``mean`` and a number for ``empty_reward``: verl sends
            one sample at a time.
        prompt_key: Key of the prompt (text or messages) in ``extra_info``.

    Raises:
        InputError: If the reward does not fit.
    """

    def __init__(self, reward: VRMReward, prompt_key: str = "prompt") -> None:
        _check_single(reward, "verl")
        self.reward, self.prompt_key = reward, prompt_key

    def __call__(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: Any = None,
        extra_info: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, float]:
        """Return ``score`` and, for logging, ``vrm_sd``.

        Raises:
            InputError: If ``extra_info`` has no prompt.
        """
        prompt = (extra_info or {}).get(self.prompt_key)
        if prompt is None:
            raise InputError(
                f"verl: extra_info has no {self.prompt_key!r} (data source {data_source!r}). verl "
                "passes no prompt to a reward function: write it into extra_info of each row, or "
                "name its key as prompt_key in reward_kwargs."
            )
        # Parquet gives messages as an array of objects.
        prompt = prompt if isinstance(prompt, str) else list(prompt)
        found = self.reward.assess([prompt], [solution_str])
        score, sd = found.rewards[0], found.reward_sd[0]
        assert score is not None
        return {"score": score, "vrm_sd": 0.0 if sd is None else sd}


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any = None,
    extra_info: Mapping[str, Any] | None = None,
    *,
    prompt_key: str = "prompt",
    **more: Any,
) -> dict[str, float]:
    """Return the result of :class:`VerlReward` with the model in VRM_PYRO_REWARD_MODEL.

    Raises:
        InputError: If the environment does not describe a reward, or as :class:`VerlReward`.
    """
    found = VerlReward(environment_reward(), prompt_key)
    return found(data_source, solution_str, ground_truth, extra_info, **more)


class SwiftReward:
    """A reward for ms-swift's ``--external_plugins``: ``orms["vrm"] = SwiftReward``.

    Args:
        reward: The reward; that of the environment variables when omitted, since ms-swift creates
            the object itself.
        *arguments: Arguments that ms-swift passes to rewards; ignored.
        **more: Ignored, too.
    """

    def __init__(self, *arguments: Any, reward: VRMReward | None = None, **more: Any) -> None:
        self.reward = reward or environment_reward()

    def __call__(
        self,
        completions: Sequence[str],
        messages: Sequence[Sequence[Mapping[str, Any]]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Return a reward for each completion.

        Args:
            completions: Texts.
            messages: The conversation of each; assistant messages at its end are the completion.
            **columns: ``trainer_state`` and ``tools`` are passed on, others are ignored.

        Raises:
            InputError: If there are no messages.
        """
        if messages is None:
            raise InputError("ms-swift passed no messages, so the prompts are unknown.")
        prompts = [_without_answer(conversation) for conversation in messages]
        passed = {key: columns.get(key) for key in ("trainer_state", "tools")}
        return self.reward(prompts=prompts, completions=completions, **passed)


def _without_answer(conversation: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    turns = list(conversation)
    while turns and turns[-1].get("role") == "assistant":
        turns.pop()
    return turns


def _check_single(reward: VRMReward, framework: str) -> None:
    settings = reward.settings
    if settings.aggregation != "mean":
        raise InputError(
            f"{framework} asks for one reward at a time, so aggregation "
            f"{settings.aggregation!r} has no group to compare with or to share a draw in. Use "
            "'mean'."
        )
    if settings.empty_reward is None:
        raise InputError(
            f"{framework} takes a number for every completion. Set empty_reward, the reward of a "
            "completion without text."
        )


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the texts of all special tokens, those without a name included."""
    # Turn markers are often special tokens without a name such as eos_token.
    added = tokenizer.added_tokens_decoder.values()
    marks = {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
    return tuple(sorted(marks))


def _affixes(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            "OpenRLHF: the tokenizer has no chat template, so there is none to take off. Leave it "
            "out if prompts are not templated."
        )
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True
    )
    before, _, after = str(text).partition(_MARK)
    return before, after
