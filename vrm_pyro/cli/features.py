"""``vrm-pyro features``: the states of a frozen backbone, kept on disk."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from jsonargparse import ArgumentParser

from vrm_pyro.atomic import write_directory
from vrm_pyro.backbone import Backbone
from vrm_pyro.cli.inputs import (
    add_device_option,
    add_row_options,
    is_store,
    read_backbone,
    read_rows,
)
from vrm_pyro.cli.parsing import UsageError, new_parser, parse
from vrm_pyro.cli.sharing import Share, add_share_options
from vrm_pyro.cli.train import TOKENIZER
from vrm_pyro.config import ModelConfig
from vrm_pyro.errors import InputError
from vrm_pyro.features import FeatureStore, merge_store, write_share, write_together


def build_parser() -> ArgumentParser:
    """Return the options of ``features``."""
    parser = new_parser(
        "features",
        "Run the frozen backbone over rows and keep the states in a folder that train, evaluate, "
        "score and posterior take in place of rows. A stopped run goes on where it was; several "
        "processes or machines that see the folder can share the work.",
    )
    add_row_options(parser)
    parser.add_argument("--out", type=str, required=True, metavar="DIR", help="Folder to write.")
    defaults = {item.name: item for item in fields(ModelConfig)}
    for name, text in (
        ("backbone", "Local folder or Hub id of a transformers model."),
        ("pooling", "How a state is read off: auto, mean, response_mean or last."),
        ("max_length", "Longest sequence in tokens, prompt and response together."),
        ("dtype", "Precision of the backbone; auto is bfloat16 where the device has it."),
    ):
        parser.add_argument(
            f"--model.{name}", type=defaults[name].type, default=defaults[name].default, help=text
        )
    add_device_option(parser)
    add_share_options(parser)
    parser.add_argument(
        "--stored_dtype",
        type=str,
        default="float32",
        help="How states are stored: float32, or float16 for half the space.",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace a store of other content."
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Write or finish a store."""
    options = parse(build_parser(), argv)
    if is_store(options.data):
        raise UsageError(f"--data {options.data}: is a feature store already; give rows.")
    share = Share.of(options)
    if options.overwrite and not share.together and (share.count > 1 or options.merge):
        raise UsageError(
            "--overwrite would throw away what other processes have written: remove the folder "
            "before the first of them starts, and leave the option out."
        )
    table = read_rows(options.data, options.skip_invalid, options.split)
    if options.merge:
        if not (Path(options.out) / TOKENIZER).is_dir():
            raise InputError(f"{options.out}: holds no tokenizer; --shard 0 is to write it.")
        _say(merge_store(table, options.out))
        return
    backbone = read_backbone(
        options.model.backbone,
        pooling=options.model.pooling,
        max_length=options.model.max_length,
        dtype=options.model.dtype,
        device=options.device,
    )
    if not share.alone and not share.together:
        done = write_share(
            table, backbone, options.out, share.count, share.index, dtype=options.stored_dtype
        )
        if share.index == 0:
            _write_tokenizer(backbone, options.out)
        print(f"{Path(options.out)}: {done} sequences computed, shard {share.index} is done")
        print("next, when all processes are: the same command with --merge in place of --shard")
        return
    store = write_together(
        table, backbone, options.out, overwrite=options.overwrite, dtype=options.stored_dtype
    )
    if share.speaks:
        _write_tokenizer(backbone, options.out)
        _say(store)


def _write_tokenizer(backbone: Backbone, out: str) -> None:
    # With its tokenizer a store is all that training needs, the backbone can be elsewhere.
    with write_directory(Path(out) / TOKENIZER, overwrite=True) as partial:
        backbone.tokenizer.save_pretrained(partial)


def _say(store: FeatureStore) -> None:
    counts = store.meta
    print(
        f"{store.path}: states of {counts['num_prompts']} prompts and "
        f"{counts['num_responses']} responses in {counts['num_pairs']} pairs"
    )
    print(f"next: vrm-pyro train --data.train {store.path} --train.output_dir DIR")
