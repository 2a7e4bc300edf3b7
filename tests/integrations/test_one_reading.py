"""One conversation becomes the same token ids wherever it enters.

Doors: rows, the scorer, rewards for RL and its adapters, and exported models as TRL's trainers and
transformers' pipelines tokenize for them. Templates are those of families of models.
"""

from functools import cache

import numpy as np
import pytest
from helpers.chat_families import (
    CALL,
    CONVERSATIONS,
    FAMILIES,
    RESPONSES,
    TEXT_CALL,
    family_tokenizer,
)
from helpers.reward_models import facts_of, loaded_model
from helpers.tiny_backbones import llama_tokenizer, tiny_backbone
from jinja2 import TemplateError

from vrm_pyro.backbone.chat import ChatEncoder
from vrm_pyro.backbone.reading import ReadingSettings
from vrm_pyro.backbone.template import RefusedConversation
from vrm_pyro.data.rows import load_table
from vrm_pyro.integrations.huggingface.boundary import reading_of
from vrm_pyro.integrations.huggingface.exported_template import exported_tokenizer
from vrm_pyro.integrations.rl import VRMReward, assessment
from vrm_pyro.integrations.rl.frameworks import OpenRLHFReward, SwiftReward, VerlReward
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.prediction.scorer import scorer as scorer_module

trl = pytest.importorskip("trl.data_utils")

DAY = "2025-03-09"


@cache
def backbone():
    found = tiny_backbone("llama-chat", pooling="last")
    assert found.weights_hash  # computed once
    return found


@cache
def policy_tokenizer():
    return llama_tokenizer(chat=True)


@cache
def model():
    return loaded_model(backbone())


@pytest.fixture(autouse=True)
def no_computation(monkeypatch):
    """Doors end where texts are encoded: rewards of equal ids are equal."""

    def columns(scorer, settings, responses, step):
        scorer.encode([responses.prompts[i] for i in responses.owner], responses.texts)
        return np.zeros((len(responses.texts), 3))

    monkeypatch.setattr(assessment, "_columns", columns)
    monkeypatch.setattr(scorer_module, "score_source", lambda model, states: None)
    monkeypatch.setattr(scorer_module, "entry", lambda *arguments: {})


class Doors:
    """A family's template behind every door; states are not computed, ids are written down."""

    def __init__(self, name, reasoning):
        settings = ReadingSettings(DAY, reasoning)
        self.backbone = backbone().with_max_length(120)
        self.backbone.max_length = 2000
        self.backbone.chat = ChatEncoder(family_tokenizer(name), 2000, True, settings)
        self.backbone.pair_states = self._write_down
        loaded = model()
        loaded.backbone = {**facts_of(self.backbone), **self.backbone.settings.key()}
        self.scorer = Scorer(loaded, self.backbone)
        self.reward = VRMReward("none", empty_reward=0.0)
        self.reward._scorer = self.scorer
        self.tokenizer = exported_tokenizer(self.backbone.chat)
        self.reading = reading_of(self.backbone, self.tokenizer)

    def _write_down(self, prompts, responses, owner, *progress):
        self.seen = [
            (prompts[i].digest, response.digest)
            for i, response in zip(owner, responses, strict=True)
        ]
        size = self.backbone.hidden_size
        return tuple(np.zeros((len(s), size), np.float32) for s in (prompts, responses))

    def rows(self, prompt, response, more):
        table = load_table([{"prompt": prompt, "response": response, **more}])
        read = self.backbone.sequences
        self._write_down(
            read(table.prompts), read(table.prompts, table.responses), table.response_prompt
        )
        return self.seen

    def scoring(self, prompt, response, more):
        answer = response if isinstance(response, str) else response[0]
        self.scorer(prompt, [answer], **more)
        return self.seen

    def rl(self, prompt, response, more):
        self.reward(
            prompts=[prompt], completions=[response], **{key: [held] for key, held in more.items()}
        )
        return self.seen

    def verl(self, prompt, response, more):
        held = prompt if isinstance(prompt, str) else np.array(prompt, dtype=object)
        VerlReward(self.reward)("set", response, None, {"prompt": held})
        return self.seen

    def swift(self, prompt, response, more):
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        SwiftReward(reward=self.reward)([response], messages=[turns])
        return self.seen

    def openrlhf(self, prompt, response, more):
        """The policy has a template of its own, with special tokens."""
        tokenizer = policy_tokenizer()
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        asked = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        query = f"{asked}{response}{tokenizer.eos_token}"
        OpenRLHFReward(self.reward, tokenizer)([query], [asked])
        return self.seen

    def ids(self, prompt, response, more, special):
        """As TRL renders a conversation for a reward model, and tokenizes it without special."""
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if isinstance(response, str):
            response = [{"role": "assistant", "content": response}]
        example = {"messages": decoded([*turns, *response])}
        variables = more.get("chat_template_kwargs", {})
        text = trl.apply_chat_template(
            example, self.tokenizer, tools=more.get("tools"), **variables
        )["text"]
        ids = self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        return [tuple(s.digest for s in self.reading.split(np.array(ids)))]

    def trainer(self, prompt, response, more):
        return self.ids(prompt, response, more, False)

    def pipeline(self, prompt, response, more):
        return self.ids(prompt, response, more, True)


def decoded(turns):
    """Templates cannot decode JSON: arguments of tool calls are objects where they render."""
    return [
        {**turn, "tool_calls": [CALL]} if turn.get("tool_calls") == [TEXT_CALL] else turn
        for turn in turns
    ]


def cases(reasoning, everything):
    """Kinds of conversations with their responses; the fast ones still hold each kind."""
    for kind in CONVERSATIONS:
        if everything or kind == "message":
            yield kind, RESPONSES
        elif reasoning == "keep" or "reasoning" in kind or "think" in kind:
            yield kind, RESPONSES[:2]


@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("reasoning", ["keep", "strip"])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_one_conversation_is_the_same_ids_at_every_door(name, reasoning, everything):
    doors = Doors(name, reasoning)
    compared = 0
    for kind, responses in cases(reasoning, everything):
        prompt, more = CONVERSATIONS[kind]
        if kind in FAMILIES[name].refuses:
            for door in (doors.rows, doors.scoring, doors.rl):
                with pytest.raises(RefusedConversation):
                    door(prompt, responses[0], more)
            with pytest.raises(TemplateError):
                doors.trainer(prompt, responses[0], more)
            continue
        for response in responses:
            expected = doors.rows(prompt, response, more)
            several = [doors.scoring, doors.rl, doors.trainer, doors.pipeline]
            if isinstance(response, str) and not more:
                several += [doors.verl, doors.swift]
                if kind in ("text", "message"):  # one user text, as OpenRLHF passes it
                    several.append(doors.openrlhf)
            for door in several:
                assert door(prompt, response, more) == expected, (kind, response, door.__name__)
                compared += 1
    assert compared > 30
