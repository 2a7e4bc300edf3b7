"""The first computations of a server, and a check that all its routes read alike."""

from vrm_pyro.backbone import TransformerBackbone
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.boundary import ANSWERS, PROMPTS, answered
from vrm_pyro.integrations.huggingface.exported_template import exported_tokenizer
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.serve.reading import RequestReader
from vrm_pyro.serve.work import Ask, Group


def warm_up(scorer: Scorer, reader: RequestReader) -> None:
    """Score a few texts, so that the first request finds everything loaded.

    Raises:
        InputError: If a conversation as messages and as text would be different token ids.
    """
    scorer(PROMPTS[0], list(ANSWERS[:2]))
    if not reader.divides or not isinstance(scorer.backbone, TransformerBackbone):
        return
    tokenizer = exported_tokenizer(scorer.backbone.chat)
    for prompt in PROMPTS[:1]:
        turns = answered(prompt, ANSWERS[0])
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
        if _digests(reader.text(text, Ask())) != _digests(reader.messages(turns, Ask())):
            raise InputError(
                "the chat template of the model writes a conversation as text that is read as "
                "other token ids; texts sent to /classify would get other rewards."
            )


def _digests(group: Group) -> list[bytes]:
    return [group.prompt.digest, *(response.digest for response in group.responses)]
