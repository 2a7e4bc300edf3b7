"""``vrm-pyro search``: try settings of one or several configs with equal budgets."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.parsing import UsageError, new_parser, parse

GROUPS = ("model", "data", "tuning", "train")


def build_parser() -> ArgumentParser:
    """Return the options of ``search``."""
    parser = new_parser(
        "search",
        "Search settings with Optuna: each trial trains on all folds but one, predicts that one, "
        "and has the mean held-out log loss of all pairs as its value. Folds are cut by prompt, "
        "states are computed once, hopeless trials are stopped early. Several configs get the "
        "same number of trials on the same folds. Ends with a table, search.json, search.md, and "
        "a config of each choice, NAME/best.yaml.",
        examples=[
            "vrm-pyro search --space heads --data.train rows.jsonl --out runs/search",
            "vrm-pyro search --config ratings --config bradley_terry --space heads \\",
            "    --data.train runs/states --test test.jsonl --trials 40 --out runs/search",
            "vrm-pyro train --config runs/search/ratings/best.yaml --train.output_dir runs/best",
        ],
        more="The space is a YAML file. Settings under model and train are for all configs, "
        "those under the name of a config for that one alone; each has a list of values or a "
        "range:\n\n"
        "  train:\n"
        "    learning_rate: {low: 3.0e-4, high: 1.0e-2, log: true}\n"
        "  ratings:\n"
        "    model.latent_dim: {low: 2, high: 16, int: true, log: true}\n"
        "    model.weight_prior.init_args.dropout: [0.0, 0.25, 0.5]\n\n"
        "The first trial of a config has its own settings, where they lie in the space. The "
        "choice is the trial with the fewest parameters among those within one standard error "
        "of the best.\n\n"
        "All settings of vrm-pyro train can be given too, --model.NAME and --train.NAME, for all "
        "trials of all configs; vrm-pyro train --help explains them.\n\n"
        "The same command resumes an interrupted search, and adds trials with a larger --trials. "
        "Started several times at once, the processes share the trials. docs/howto/search.md "
        "says more.",
        settings_file=False,
    )
    parser.add_argument(
        "--config",
        action="append",
        metavar="NAME",
        help="Config to search: a YAML file, or the name of a shipped one. Several with several "
        "--config; default if omitted.",
    )
    parser.add_argument(
        "--space",
        type=str,
        required=True,
        metavar="FILE",
        help="YAML file of the settings to try, or the name of a shipped one (heads).",
    )
    parser.add_argument(
        "--test",
        type=str | list[str],
        metavar="ROWS",
        help="Rows that play no part in the search: the choice of each config is trained on all "
        "rows of --data.train and measured on these.",
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=30,
        help="Trials of each config, of all processes and restarts together.",
    )
    parser.add_argument("--folds", type=int, default=5, help="Folds by prompt.")
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        help="Repetitions of each trial with other folds and other initial values.",
    )
    parser.add_argument(
        "--no_pruning",
        action="store_true",
        help="Run all folds of every trial. Otherwise a trial stops when its mean so far is "
        "above the median of finished trials.",
    )
    parser.add_argument(
        "--out", type=str, required=True, metavar="DIR", help="Folder of the search."
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Delete a search in --out and start over."
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Search, or resume a search, and print the table."""
    rest, settings = split_settings(argv)
    options = parse(build_parser(), rest)
    from vrm_pyro.training.search.search import search

    found = search(
        configs=options.config or ["default"],
        space=options.space,
        output_dir=options.out,
        test=options.test,
        trials=options.trials,
        folds=options.folds,
        seeds=options.seeds,
        prune=not options.no_pruning,
        settings=settings,
        overwrite=options.overwrite,
        progress=True,
    )
    print(f"\n{found}\n\nwritten: {found.path}")


def split_settings(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the options of the verb itself, and settings of a run by dotted key.

    >>> split_settings(["--out", "runs/s", "--model.latent_dim", "4", "--train.seed=1"])
    (['--out', 'runs/s'], {'model.latent_dim': '4', 'train.seed': '1'})

    Raises:
        UsageError: If a setting has no value.
    """
    rest: list[str] = []
    settings: dict[str, str] = {}
    items = iter(argv)
    for item in items:
        name, equals, value = item.partition("=")
        if not name.startswith(tuple(f"--{group}." for group in GROUPS)):
            rest.append(item)
            continue
        given = value if equals else next(items, None)
        if given is None:
            raise UsageError(f"{name} has no value; write {name} VALUE.")
        settings[name.removeprefix("--").replace("-", "_")] = given
    return rest, settings
