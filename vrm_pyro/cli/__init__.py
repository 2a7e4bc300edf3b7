"""The command line: ``vrm-pyro VERB``, one module per verb, loaded when it runs."""

import importlib
import sys
from collections.abc import Sequence

import vrm_pyro
from vrm_pyro.cli.console import OK, guard

VERBS = {
    "simulate": "Write simulated rows to train and test on, and the truth behind them.",
    "features": "Run the frozen backbone over rows once and store its states; can be resumed.",
    "train": "Train a reward model on rows or on stored states.",
    "search": "Search settings of one or several configs, with equal budgets, on grouped folds.",
    "evaluate": "Measure accuracy, log loss and calibration on rows, with standard errors.",
    "benchmark": "Score a published benchmark by its official rule, and say how sure it is.",
    "best_of_n": "Measure the gold reward of the best of n candidates, by rule of choosing.",
    "acquire": "Choose unlabelled pairs whose labels would teach the model most.",
    "score": "Write reward, its spread, weights and scores of every response.",
    "explain": "Explain why a response is preferred, how surely, and what would flip it.",
    "report": "Write an HTML page about a model on rows: metrics, weights, checks, single pairs.",
    "posterior": "Write posterior draws of weights, features, scores and rewards for ArviZ.",
    "psense": "Measure how much a posterior file depends on its priors and on the outcomes.",
    "diagnose": "Test a model on rows for problems, and say what to try.",
    "certify": "Bound the error rate on new prompts, from rows that the model has not seen.",
    "export": "Export a trained model as a folder that transformers and TRL load.",
    "serve": "Answer requests for rewards over HTTP, for RL trainers and inference clients.",
    "doctor": "Check versions, devices, rows and labels before a long run.",
    "schemas": "List the published forms of preference data that are read unchanged.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code.

    0 on success; 2 on bad usage or input, after one message on stderr; 1 on a fault of this
    program, after a traceback; 130 and 143 when interrupted or terminated.

    Args:
        argv: Arguments after the program's name; those of the process when omitted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments[0] if arguments else ""
    if verb in ("-h", "--help"):
        print(overview())
        return OK
    if verb == "--version":
        print(f"vrm-pyro {vrm_pyro.__version__}")
        return OK
    with guard(f"vrm-pyro {verb}".strip()) as outcome:
        verb = verb.replace("-", "_")
        check_verb(verb)
        importlib.import_module(f"vrm_pyro.cli.verbs.{verb}").run(arguments[1:])
    return outcome.code


def check_verb(verb: str) -> None:
    """Raise InputError with the list of verbs unless ``verb`` is one of them."""
    from vrm_pyro.cli.parsing import UsageError
    from vrm_pyro.errors import did_you_mean

    if not verb:
        raise UsageError(f"say what to do.\n\n{overview()}")
    if verb not in VERBS:
        raise UsageError(
            f"no verb {verb!r}{did_you_mean(verb, VERBS)} Choose one of {', '.join(VERBS)}."
        )


def overview() -> str:
    """Return the program's help: one line for each verb."""
    lines = [f"  {name:<10} {text}" for name, text in VERBS.items()]
    return "\n".join(
        [
            "usage: vrm-pyro VERB [--config FILE] [options]",
            "",
            "Reward models that say why they prefer a response and how sure they are.",
            "",
            *lines,
            "",
            "vrm-pyro VERB --help shows the options of a verb with their defaults. Both are",
            "written with underscores: best-of-n means best_of_n, --skip-invalid --skip_invalid.",
            "A first run: vrm-pyro simulate --out data, then",
            "vrm-pyro train --data.train data/train.jsonl --train.output_dir runs/first.",
        ]
    )
