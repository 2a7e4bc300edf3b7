"""Certificates as a table: a line for each limit, then its statement."""

import textwrap
from collections.abc import Iterator
from typing import Any

NO_HEAD = (
    "a bradley_terry model has one reward per response and no head (A, b, log beta) on its latent "
    "variables; use the held-out bound"
)
ENSEMBLE = (
    "an ensemble has no single head to put a distribution on: certify a member, or use the "
    "held-out bound, which holds for the ensemble's own predictions"
)
CONTAMINATED = (
    "the backbone was declared to have seen these labels, so they are training data, whatever "
    "was done since; no limit of the error on them or on new ones follows"
)

HEADER = f"  {'':<44} {'loss':<6} {'observed':>8} {'limit':>8} {'confidence':>10} {'n':>8}"

DECLARED = {
    "no": "declared: the backbone has not seen these labels",
    "yes": "declared: the backbone has seen these labels",
    "unknown": "declared: it is not known whether the backbone has seen these labels. WARNING: if "
    "it has, every limit below is void",
}

INFORMATION_COST = (
    "how much the outcomes tell the posterior beyond the prior. A diagnostic, not a certificate: "
    "D / n does not shrink with n, and it bounds no error"
)

# Shown below every table.
TOGETHER = (
    "Each limit holds alone with its confidence; for several at once, add up the probabilities "
    "of failure. None of them holds if these rows were used to choose the model, its settings or "
    "the grid."
)


def table_of(report: dict[str, Any]) -> str:
    """Return the text of :meth:`Certificates.to_json`."""
    lines = [
        f"{report['model']}: {report['n_pairs']} pairs of {report['n_prompts']} prompts in "
        f"{report['data']}",
        *_wrapped(DECLARED[report["declared"]["backbone_saw_these_labels"]]),
        *_training(report["training_rows"]),
        *_dependence(report),
        "",
        HEADER,
        *_section("1 held-out bound", report["held_out"], _held_out),
        *_section("2 PAC-Bayes on the head", report["pac_bayes"], _pac_bayes),
    ]
    if report["local"] is not None:
        lines += _section("3 local, fresh labels on the same items", report["local"], _local)
    lines += ["", *_cost(report["information_cost"]), "", *_about(report)]
    return "\n".join(lines)


def _training(rows: dict[str, Any]) -> Iterator[str]:
    if rows["compared"]:
        yield from _wrapped(
            f"no prompt is one of the run's own: compared with {', '.join(rows['compared'])}"
        )
    if rows["prompts_left_out"]:
        yield f"left out: {rows['prompts_left_out']} prompts that the run was trained on"
    for name in rows["not_compared"]:
        yield from _wrapped(f"NOT compared with {name}: no limit holds for labels trained on")


def _dependence(report: dict[str, Any]) -> Iterator[str]:
    if report["chi"] > 1:
        yield (
            f"prompts depend on each other (chi {report['chi']:g}): they count as "
            f"{report['effective_prompts']:g} independent ones"
        )


def _section(title: str, part: dict[str, Any], rows: Any) -> list[str]:
    if "withheld" in part:
        return [f"  {title:<44} withheld", *_wrapped(part["withheld"], "      ")]
    return list(rows(title, part))


def _row(name: str, bound: dict[str, Any], mark: str = "") -> str:
    return (
        f"  {name:<44} {bound['loss']:<6} {bound['observed']:>8.4f} {bound['value']:>8.4f} "
        f"{bound['confidence']:>10.3f} {bound['n']:>8g}{mark}"
    )


def _held_out(title: str, part: dict[str, Any]) -> Iterator[str]:
    for bound in part.values():
        yield _row(f"{title}, {bound['method']}", bound)


def _pac_bayes(title: str, part: dict[str, Any]) -> Iterator[str]:
    for loss in ("error", "brier"):
        for posterior, words in (("fitted", "Q fitted"), ("prior", "Q = P")):
            bound = part[loss][posterior]
            mark = "  <- smaller" if part[loss]["best"] == posterior else ""
            yield _row(f"{title}, {words}, KL {bound['kl']:.2f}", bound, mark)


def _local(title: str, part: dict[str, Any]) -> Iterator[str]:
    yield _row(title, part)
    yield (
        f"      Rhat(Q) {part['observed']:.4f}, Rhat(P) {part['observed_prior']:.4f}; the limit "
        "can be below neither"
    )


def _cost(cost: dict[str, Any] | None) -> Iterator[str]:
    if cost is None:
        yield "  information cost (rate): none, the model has no latent variables"
        return
    yield (
        f"  information cost (rate): w {_with_error(cost, 'kl_weights_per_prompt')} nats a "
        f"prompt, z {_with_error(cost, 'kl_features_per_response')} nats a response;"
    )
    yield f"  D = {cost['total']:.1f} nats, D / n = {cost['total_per_prompt']:.3f} nats a prompt"


def _with_error(cost: dict[str, Any], name: str) -> str:
    error = cost[f"{name}_se"]
    return f"{cost[name]:.3f}" + ("" if error is None else f" +- {error:.3f}")


def _about(report: dict[str, Any]) -> Iterator[str]:
    if "withheld" not in report["held_out"]:
        yield from _wrapped(f"1 is about {report['held_out']['error']['statement']}.")
    part = report["pac_bayes"]
    if "withheld" not in part:
        for loss in ("error", "brier"):
            yield from _wrapped(f"2, {loss}, is about {part[loss]['prior']['statement']}.")
        fitted = part["error"]["fitted"]
        yield from _wrapped(
            f"2 takes {fitted['num_parameters']} parameters (head {part['head']}) from N(trained, "
            f"s0^2), s0 one of {', '.join(f'{s:g}' for s in part['prior_scales'])}, and "
            f"{fitted['num_draws']} draws of them; the limits allow for the choice among them."
        )
    local = report["local"]
    if local is not None and "withheld" not in local:
        yield from _wrapped(f"3 is about {local['statement']}.")
    if report["information_cost"] is not None:
        yield from _wrapped(f"Information cost: {INFORMATION_COST}.")
    yield from _wrapped(TOGETHER)


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 99, initial_indent=indent, subsequent_indent=f"{indent}  ")
