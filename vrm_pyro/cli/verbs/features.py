"""``vrm-pyro features``: store the states of a frozen backbone on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import add_device_option, add_row_options, rows_of
from vrm_pyro.cli.parsing import UsageError, new_parser, parse
from vrm_pyro.cli.sharing import add_share_options, share_of
from vrm_pyro.data.output_places import refuse_input_as_output
from vrm_pyro.processes import part

# Settings of vrm_pyro.ModelConfig that states depend on: name, type, default, meaning.
SETTINGS: tuple[tuple[str, Any, Any, str], ...] = (
    (
        "backbone",
        str,
        "sentence-transformers/all-MiniLM-L6-v2",
        "Local folder, GGUF file or Hub id of a transformers model, or smollm2.",
    ),
    (
        "pooling",
        Literal["auto", "mean", "response_mean", "last", "last+mean"],
        "auto",
        "How token states become one state: auto, mean, response_mean, last or last+mean.",
    ),
    (
        "layer",
        int | Literal["auto"] | None,
        "auto",
        "Number of the layer whose states are read, from 1; null for the last; auto for the one "
        "at two thirds of a decoder's depth and an encoder's last.",
    ),
    (
        "max_length",
        int | None,
        None,
        "Longest sequence in tokens, prompt and response together; null for what the backbone "
        "takes, at most 1,024.",
    ),
    (
        "dtype",
        Literal["auto", "float32", "bfloat16"],
        "auto",
        "Precision of the backbone; auto is bfloat16 where the device has it.",
    ),
)


def build_parser() -> ArgumentParser:
    """Return the options of ``features``."""
    parser = new_parser(
        "features",
        "Run the frozen backbone over rows and store the states in a folder, which train, "
        "evaluate, score and posterior take in place of rows. A stopped run resumes where it "
        "stopped. Processes or machines that see the folder can share the work.",
    )
    add_row_options(parser)
    parser.add_argument("--out", type=str, required=True, metavar="DIR", help="Folder to write.")
    for name, kind, default, text in SETTINGS:
        parser.add_argument(f"--model.{name}", type=kind, default=default, help=text)
    parser.add_argument(
        "--reasoning",
        type=Literal["keep", "strip"],
        default="keep",
        help="What becomes of reasoning, as data.reasoning of train says.",
    )
    parser.add_argument(
        "--date",
        type=str | None,
        default=None,
        metavar="YYYY-MM-DD",
        help="Day for a chat template that writes today's date; null: today.",
    )
    add_device_option(parser)
    parser.add_argument(
        "--stored_dtype",
        type=str,
        default="float32",
        help="How states are stored: float32, or float16 for half the space.",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace a store with other content."
    )
    add_share_options(parser)
    return parser


def run(argv: Sequence[str]) -> None:
    """Write or finish a store."""
    options = parse(build_parser(), argv)
    from vrm_pyro.backbone.reading import ReadingSettings
    from vrm_pyro.features.reading import (
        is_store,
        log_date,
        read_backbone,
        read_rows,
        store_reading,
    )
    from vrm_pyro.features.refused import without_refused
    from vrm_pyro.features.sharing import write_features

    if is_store(options.data):
        raise UsageError(f"--data {options.data}: is already a feature store; give rows.")
    share = share_of(options)
    if options.overwrite and (share.count > 1 or options.merge):
        raise UsageError(
            "--overwrite would delete the shares of others; remove the folder by hand, then start "
            "them all."
        )
    read = [options.data, options.model.backbone, options.config]
    refuse_input_as_output(options.out, read)
    table = read_rows(rows_of(options), options.skip_invalid, options.split)
    made = store_reading(Path(options.out))
    if made is not None and options.date is None and not options.overwrite:
        options.date = made.date  # a store that is finished another day
    backbone = read_backbone(
        options.model.backbone,
        ReadingSettings(options.date, options.reasoning),
        pooling=options.model.pooling,
        layer=options.model.layer,
        max_length=options.model.max_length,
        dtype=options.model.dtype,
        device=options.device,
    )
    if options.skip_invalid:
        table = without_refused(table, backbone)
    log_date(backbone, "this store, with all that is trained on it,")
    store = write_features(
        table,
        backbone,
        Path(options.out),
        share=share,
        merge=options.merge,
        overwrite=options.overwrite,
        dtype=options.stored_dtype,
    )
    part()
    if not share.speaks:
        return
    if store is None:
        print(f"{options.out}: share {share.index} of {share.count} is done")
        print("next, after all shares: the same command with --merge in place of --shard")
        return
    counts = store.meta
    print(
        f"{Path(options.out)}: states of {counts['num_prompts']} prompts and "
        f"{counts['num_responses']} responses in {counts['num_pairs']} pairs"
    )
    print(f"next: vrm-pyro train --data.train {options.out} --train.output_dir DIR")
