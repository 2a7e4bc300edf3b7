"""Check the files of an exported model."""

import logging
import os
from collections.abc import Mapping
from typing import Any

from transformers import AutoTokenizer

from vrm_pyro.backbone.chat import ChatEncoder
from vrm_pyro.backbone.template_trial import try_template
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.reading import Reading

log = logging.getLogger(__name__)

_HUB = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def check_loaded(where: str, report: Mapping[str, Any]) -> None:
    """Raise InputError unless exactly the tensors of the model were loaded.

    Args:
        where: Folder or id, for messages.
        report: Loading info of transformers.
    """
    for key, words in (
        ("missing_keys", "lack"),
        ("unexpected_keys", "have an unexpected"),
        ("mismatched_keys", "have another shape of"),
    ):
        names = sorted(str(name) for name in report.get(key) or ())
        if names:
            raise InputError(
                f"{where}: the weights {words} tensor {names[0]!r} ({len(names)} in all) for its "
                "config.json; rewards would be made of other numbers than those trained. The "
                "files do not belong together; export the model again."
            )
    if report.get("error_msgs"):
        raise InputError(f"{where}: {report['error_msgs'][0]}")


def check_tokenizer(
    where: str | os.PathLike[str], reading: Reading, options: Mapping[str, Any]
) -> None:
    """Raise InputError unless the folder's tokenizer is the one of the export.

    Trainers tokenize with the tokenizer in that folder. If there is none, nothing is compared,
    and the log says so.

    Args:
        where: Folder or id.
        reading: Holds the hashes of template and tokenizer.
        options: Options of ``from_pretrained``; those for the location are used.
    """
    place = {name: options[name] for name in _HUB if options.get(name) is not None}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **place)
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = str(error).splitlines()[0]
        log.warning("%s: no tokenizer is compared with the one of the export (%s)", where, problem)
        return
    try_template(tokenizer, str(where))
    encoder = ChatEncoder(tokenizer, reading.layout.max_length, reading.is_decoder)
    differing = [
        words
        for words, found, expected in (
            ("chat template", encoder.template_hash, reading.template_hash),
            ("tokenizer or its special tokens", encoder.tokenizer_hash, reading.tokenizer_hash),
        )
        if found != expected
    ]
    if differing:
        raise InputError(
            f"{where}: its {' and '.join(differing)} changed since the model was exported, so "
            "texts would become other token ids than those it was trained on. Restore "
            "tokenizer.json, tokenizer_config.json and chat_template.jinja, or export again."
        )
