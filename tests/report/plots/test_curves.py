import io

import pytest

from vrm_pyro.report.plots import training_curves

# What transformers' Trainer leaves behind: training entries, evaluations, a summary, and one more
# evaluation of the best model at the last step.
LOG = [
    {"step": 10, "epoch": 1.0, "loss": 3.0, "elbo": -3.0, "objective": -3.0, "accuracy": 0.5}
    | {"kl_weights": 0.1, "kl_features": 0.4, "active_units_weights": 1.0}
    | {"active_units_features": 2.0},
    {"step": 10, "eval_log_loss": 0.7, "eval_loss": 0.7, "eval_accuracy": 0.55},
    {"step": 20, "epoch": 2.0, "loss": 2.0, "elbo": -2.0, "objective": -2.0, "accuracy": 0.8}
    | {"kl_weights": 0.2, "kl_features": 0.9, "active_units_weights": 3.0}
    | {"active_units_features": 4.0},
    {"step": 20, "eval_log_loss": 0.5, "eval_loss": 0.5, "eval_accuracy": 0.75},
    {"step": 30, "eval_log_loss": 0.6, "eval_loss": 0.6, "eval_accuracy": 0.7},
    {"step": 30, "train_runtime": 4.0, "total_flos": 0.0},
    {"step": 30, "eval_log_loss": 0.5, "eval_loss": 0.5, "eval_accuracy": 0.75},
]


def lines(axes):
    """Points of every labelled line of a panel."""
    handles, labels = axes.get_legend_handles_labels()
    return {name: line.get_xydata().tolist() for name, line in zip(labels, handles, strict=True)}


def test_every_panel_shows_its_values():
    figure = training_curves(LOG)
    panels = {axes.get_ylabel().split("\n")[0]: lines(axes) for axes in figure.axes}
    assert panels == {
        "objective": {"ELBO": [[10, -3], [20, -2]]},
        "log loss": {"validation": [[10, 0.7], [20, 0.5], [30, 0.6]]},
        "accuracy": {
            "training": [[10, 0.5], [20, 0.8]],
            "validation": [[10, 0.55], [20, 0.75], [30, 0.7]],
        },
        "KL(q ‖ p), nats": {
            "w, per prompt": [[10, 0.1], [20, 0.2]],
            "z, per response": [[10, 0.4], [20, 0.9]],
        },
        "active units": {"of w": [[10, 1], [20, 3]], "of z": [[10, 2], [20, 4]]},
    }
    figure.savefig(io.BytesIO(), format="png")


def test_best_step_is_marked_in_every_panel():
    figure = training_curves(LOG)
    assert figure.axes[0].get_title(loc="right") == "best validation log loss 0.500 at step 20"
    for axes in figure.axes:
        (mark,) = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert list(mark.get_xdata()) == [20, 20]


def test_objective_is_shown_beside_an_elbo_that_differs_from_it():
    tempered = [entry | {"objective": -1.0} if "elbo" in entry else entry for entry in LOG]
    assert set(lines(training_curves(tempered).axes[0])) == {"ELBO", "objective"}


def test_a_baseline_without_latents_shows_its_loss():
    keys = {"step", "loss", "eval_log_loss"}
    log = [{k: v for k, v in entry.items() if k in keys} for entry in LOG]
    first, second = training_curves(log).axes
    assert first.get_ylabel() == "loss"
    assert lines(first) == {"training": [[10, 3], [20, 2]]}
    assert lines(second) == {"validation": [[10, 0.7], [20, 0.5], [30, 0.6]]}


def test_training_without_validation_has_no_mark():
    (axes,) = training_curves([{"step": 1, "loss": 2.0}]).axes
    assert len(axes.lines) == 1
    assert axes.get_title(loc="right") == ""


def test_an_empty_log_is_refused():
    with pytest.raises(ValueError, match="no entry of the log"):
        training_curves([{"step": 3, "train_runtime": 1.0}])


def test_objective_that_differs_from_the_elbo_by_rounding_is_not_a_line_of_its_own():
    rounded = [
        entry | {"objective": entry["elbo"] * (1 + 1e-6)} if "elbo" in entry else entry
        for entry in LOG
    ]
    shown = [name for axes in training_curves(rounded).axes for name in lines(axes)]
    assert "ELBO" in shown
    assert "objective" not in shown
