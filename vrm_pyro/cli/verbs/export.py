"""``vrm-pyro export``: a trained model as a folder that transformers reads."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.cli.options import add_cache_option, add_device_option, add_reading_options, rows_of
from vrm_pyro.cli.parsing import UsageError, new_parser, parse


def build_parser() -> ArgumentParser:
    """Return the options of ``export``."""
    parser = new_parser(
        "export",
        "Write a trained model with its backbone and tokenizer as one folder that transformers "
        "reads (AutoModelForSequenceClassification, once vrm_pyro.integrations.huggingface is "
        "imported), with a "
        "model card and a self-test that every load repeats. docs/howto/export.md says more.",
        examples=["vrm-pyro export --model runs/a --out exports/a --data test.jsonl"],
    )
    for name, metavar, text in (
        ("model", "DIR", "Folder that train wrote."),
        ("out", "HF_DIR", "Folder to write."),
    ):
        parser.add_argument(f"--{name}", type=str, required=True, metavar=metavar, help=text)
    for name, allowed, text in (
        (
            "adapter",
            "merge|beside",
            "What to do with a low-rank adapter: merge it into the weights, or keep it beside "
            "them (loading then needs peft).",
        ),
        (
            "dtype",
            "float32|bfloat16|float16",
            "Precision of the backbone's weights; the heads stay in float32.",
        ),
        (
            "without_boundary",
            "raise|whole_text",
            "What the model does with token ids in which no answer begins: raise, or use the "
            "whole_text as both prompt and response.",
        ),
    ):
        parser.add_argument(
            f"--{name}",
            type=str,
            default=allowed.split("|")[0],
            metavar=allowed,
            help=text,
        )
    parser.add_argument(
        "--max_shard_size", type=str, default="5GB", help="Largest file of weights."
    )
    parser.add_argument(
        "--empty_reward",
        type=float | None,
        default=None,
        metavar="NUMBER",
        help="Reward of token ids whose response is empty; NaN if omitted, which trainers take "
        "for not scored.",
    )
    parser.add_argument(
        "--data",
        type=str | list[str],
        metavar="ROWS",
        help="Rows that the model has not seen, for metrics and calibration in the model card.",
    )
    parser.add_argument(
        "--scalar",
        action="store_true",
        help="Write a plain sequence classifier instead, which vLLM and SGLang host: a linear "
        "head fitted to the mean reward on --data. The card says what is lost.",
    )
    add_reading_options(parser)
    parser.add_argument(
        "--backbone",
        type=str,
        metavar="NAME",
        help="New path of the model's backbone, if it was moved. Its weights must be the same.",
    )
    add_device_option(parser)
    add_cache_option(parser)
    parser.add_argument("--overwrite", action="store_true", help="Replace an existing folder.")
    return parser


def run(argv: Sequence[str]) -> None:
    """Export one model."""
    options = parse(build_parser(), argv)
    if options.scalar:
        _run_scalar(options)
        return
    from vrm_pyro.integrations.huggingface.export import export_model

    export_model(
        options.model,
        options.out,
        None if options.data is None else rows_of(options),
        adapter=options.adapter,
        dtype=options.dtype,
        without_boundary=options.without_boundary,
        max_shard_size=options.max_shard_size,
        empty_reward=options.empty_reward,
        backbone=options.backbone,
        device=options.device,
        skip_invalid=options.skip_invalid,
        split=options.split,
        overwrite=options.overwrite,
        cache=not options.no_cache,
        progress=True,
    )
    print(f"exported, loaded again and compared with the run's own rewards: {options.out}")
    print(
        "next: import vrm_pyro.integrations.huggingface, then "
        f"AutoModelForSequenceClassification.from_pretrained({options.out!r}, num_labels=1)"
    )


def _run_scalar(options: Namespace) -> None:
    """Export a scalar model and print what it keeps."""
    given = {"adapter": "merge", "without_boundary": "raise", "empty_reward": None}
    other = [f"--{name}" for name, default in given.items() if options[name] != default]
    if other:
        raise UsageError(f"{', '.join(other)}: a scalar model has no such setting; leave it out.")
    if options.data is None:
        raise UsageError("--scalar needs --data: rows on which the head is fitted.")
    from vrm_pyro.integrations.huggingface.scalar import export_scalar

    found = export_scalar(
        options.model,
        options.out,
        rows_of(options),
        dtype=options.dtype,
        max_shard_size=options.max_shard_size,
        backbone=options.backbone,
        device=options.device,
        skip_invalid=options.skip_invalid,
        split=options.split,
        overwrite=options.overwrite,
        cache=not options.no_cache,
        progress=True,
    )
    kept = found.loss[0]
    print(f"scalar model, loaded again and compared with its head: {options.out}")
    print(
        f"kept on prompts left out of the fit: R2 {kept.r2:.3f}, within prompts "
        f"{kept.r2_within:.3f}, same order of pairs {kept.agreement:.3f}; README.md has all"
    )
