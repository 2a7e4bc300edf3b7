"""``vrm-pyro serve``: answer requests for rewards over HTTP."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.cli.options import add_loading_options, read_classes
from vrm_pyro.cli.parsing import new_parser, parse
from vrm_pyro.errors import InputError
from vrm_pyro.serve.settings import EXTRA, ServeSettings

# Name, type, metavar and help of each setting, in the order of the help.
SETTINGS = (
    ("host", str, "ADDRESS", "Address to listen on. Any but this machine's own needs keys."),
    ("port", int, "PORT", "Port; 0 for a free one."),
    ("name", str | None, "NAME", "What clients call the model; the folder's name if omitted."),
    (
        "api_key_file",
        str | None,
        "FILE",
        "File with one key a line, each with a name before it or not. SIGHUP reads it anew.",
    ),
    ("no_authentication", bool, None, "Answer other machines without keys."),
    ("tls_certificate", str | None, "FILE", "PEM file, for HTTPS."),
    ("tls_key", str | None, "FILE", "PEM file of the certificate's private key."),
    (
        "batch_tokens",
        int | None,
        "N",
        "Most tokens in a batch; by device if omitted.",
    ),
    ("max_wait_ms", float, "MS", "How long the first request of a batch waits for others."),
    (
        "long_tokens",
        int | None,
        "N",
        "Texts with more tokens do not hold up the others; a quarter of a batch if omitted.",
    ),
    (
        "max_queue_tokens",
        int | None,
        "N",
        "Most tokens that wait, then 503; 64 batches if omitted.",
    ),
    ("timeout_s", float, "S", "Time in which a request is answered, with 503 if need be."),
    ("max_body_mb", float, "MB", "Largest body of a request."),
    ("body_timeout_s", float, "S", "Time in which a client has to send its request."),
    ("max_responses", int, "N", "Most responses in a request."),
    ("truncate", bool, None, "Cut overlong texts as in training; they are refused otherwise."),
    (
        "empty_reward",
        float | None,
        "NUMBER",
        "Reward of a response without text; such requests are refused if omitted.",
    ),
    (
        "policy_tokenizer",
        str,
        "own|none|NAME",
        "Whose chat template the texts of /get_reward and /rm have: the reward model's own, none "
        "(plain texts), or that of the policy with this name or folder.",
    ),
    ("log_texts", bool, None, "Write prompts and responses into the log."),
)


def build_parser() -> ArgumentParser:
    """Return the options of ``serve``."""
    parser = new_parser(
        "serve",
        "Answer requests for rewards over HTTP: POST /score, and the routes of OpenRLHF, vLLM, "
        "SGLang, verl, TEI, slime and miles. Requests of all clients are computed in batches. "
        "The log goes to stderr, a line of JSON for each request. docs/howto/serving.md says "
        "more.",
        examples=(
            "vrm-pyro serve --model runs/a",
            "vrm-pyro serve --model exports/a --host 0.0.0.0 --api_key_file keys.txt",
        ),
    )
    parser.add_argument(
        "--model",
        type=str,
        required=True,
        metavar="DIR",
        help="Folder that train or export wrote.",
    )
    add_loading_options(parser)
    for name, kind, metavar, text in SETTINGS:
        if kind is bool:
            parser.add_argument(f"--{name}", action="store_true", help=text)
        else:
            default = getattr(ServeSettings, name)
            parser.add_argument(
                f"--{name}", type=kind, default=default, metavar=metavar, help=text
            )
    return parser


def run(argv: Sequence[str]) -> None:
    """Serve until a signal ends it."""
    options = parse(build_parser(), argv)
    settings = settings_of(options)
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(EXTRA) from error
    from vrm_pyro.serve.opening import open_scorer
    from vrm_pyro.serve.server import listen, serve

    with listen(settings) as listening:  # before the model is loaded: a taken port is known soon
        scorer = open_scorer(
            options.model,
            classes=read_classes(options, options.model),
            backbone=options.backbone,
            device=options.device,
            dtype=options.dtype,
        )
        serve(scorer, settings, listening, lambda a: print(f"listening on {a}", flush=True))


def settings_of(options: Namespace) -> ServeSettings:
    """Return the settings of parsed options."""
    return ServeSettings(**{name: options[name] for name, *_ in SETTINGS})
