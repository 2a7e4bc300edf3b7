"""``vrm-pyro features``: the states of a frozen backbone, kept on disk."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.atomic import write_directory
from vrm_pyro.cli.inputs import (
    add_device_option,
    add_row_options,
    is_store,
    read_backbone,
    read_rows,
)
from vrm_pyro.cli.parsing import UsageError, new_parser, parse
from vrm_pyro.cli.train import TOKENIZER
from vrm_pyro.config import ModelConfig
from vrm_pyro.features import write_shards, write_store


def build_parser() -> ArgumentParser:
    """Return the options of ``features``."""
    parser = new_parser(
        "features",
        "Run the frozen backbone over rows and keep the states in a folder that train, evaluate, "
        "score and posterior take in place of rows. A stopped run goes on where it was.",
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
    parser.add_argument(
        "--stored_dtype",
        type=str,
        default="float32",
        help="How states are stored: float32, or float16 for half the space.",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace a store of other content."
    )
    parser.add_argument(
        "--num_shards",
        type=int,
        default=1,
        help="Share the work among so many processes or machines that see --out.",
    )
    parser.add_argument("--shard", type=int, help="Which of the --num_shards this is, from 0.")
    parser.add_argument(
        "--merge", action="store_true", help="All shares are done: make the store of them."
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Write or finish a store."""
    options = parse(build_parser(), argv)
    if is_store(options.data):
        raise UsageError(f"--data {options.data}: is a feature store already; give rows.")
    _check_sharing(options)
    table = read_rows(options.data, options.skip_invalid, options.split)
    backbone = read_backbone(
        options.model.backbone,
        pooling=options.model.pooling,
        max_length=options.model.max_length,
        dtype=options.model.dtype,
        device=options.device,
    )
    if options.num_shards > 1 and not options.merge:
        write_shards(
            table,
            backbone,
            options.out,
            shard=options.shard,
            num_shards=options.num_shards,
            dtype=options.stored_dtype,
        )
        print(f"{options.out}: share {options.shard} of {options.num_shards} is done")
        print("next, after all shares: the same command with --merge in place of --shard")
        return
    store = write_store(
        table,
        backbone,
        options.out,
        overwrite=options.overwrite,
        dtype=options.stored_dtype,
        merge=options.merge,
    )
    # With its tokenizer a store is all that training needs, the backbone can be elsewhere.
    with write_directory(store.path / TOKENIZER, overwrite=True) as partial:
        backbone.tokenizer.save_pretrained(partial)
    counts = store.meta
    print(
        f"{Path(options.out)}: states of {counts['num_prompts']} prompts and "
        f"{counts['num_responses']} responses in {counts['num_pairs']} pairs"
    )
    print(f"next: vrm-pyro train --data.train {options.out} --train.output_dir DIR")


def _check_sharing(options: Namespace) -> None:
    if options.num_shards < 1:
        raise UsageError(f"--num_shards is {options.num_shards}, but must be at least 1.")
    if options.shard is not None and not 0 <= options.shard < options.num_shards:
        raise UsageError(
            f"--shard is {options.shard}, but must be from 0 to {options.num_shards - 1}: "
            f"--num_shards is {options.num_shards}."
        )
    if options.merge and options.shard is not None:
        raise UsageError("--merge puts all shares together; leave --shard out.")
    if options.num_shards > 1 and options.shard is None and not options.merge:
        raise UsageError(
            f"--num_shards is {options.num_shards}: say with --shard which of them this process "
            "is, from 0, or pass --merge when all are done."
        )
    if options.overwrite and (options.num_shards > 1 or options.merge):
        raise UsageError(
            "--overwrite would delete the shares of others; remove the folder by hand, then start "
            "them all."
        )
