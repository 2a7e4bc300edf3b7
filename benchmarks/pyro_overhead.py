"""Compare the time of a training step with that of the same loss in plain torch.

Both sides take AdamW steps on collated states. Ours is the module that ``vrm-pyro train`` trains
(Pyro program, guide, objective and logged values); the other is ``by_hand.py`` on a copy of the
same networks, without Pyro and without a log. Before timing, both must give the same loss and
gradients from the same random state. Then blocks of steps alternate in changing order, so that a
busy machine slows both. Ratios are formed within each pair of blocks, of wall time and of CPU
time; other programs disturb CPU time less.

    python benchmarks/pyro_overhead.py --out pyro_overhead.json
"""

import argparse
import copy
import os
import time
from collections.abc import Callable

import numpy as np
import pyro
import torch
from by_hand import HandWritten
from emit import emit
from networks import network_config
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.vrm import VRM
from vrm_pyro.training.module import TrainingModule

TARGETS = {512: 1.15, 4096: 1.05}


def main() -> None:
    """Measure and print one JSON object."""
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    pyro.enable_validation(False)  # as in training, after its first steps
    cases = [
        case(objective, pairs, options)
        for objective in options.objectives
        for pairs in options.pairs
    ]
    result = {
        "cases": cases,
        "hidden_size": options.hidden_size,
        "logging_steps": options.logging_steps,
        "seed": options.seed,
        "machine": {
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load": os.getloadavg()[0],
            "torch": torch.__version__,
            "pyro": pyro.__version__,
        },
    }
    emit(result, options.out)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objectives", nargs="+", default=["sampled", "integrated", "pairwise"])
    parser.add_argument("--pairs", nargs="+", type=int, default=[512, 4096], help="one a prompt")
    parser.add_argument("--hidden-size", type=int, default=384, help="length of a state")
    parser.add_argument("--repeats", type=int, default=15, help="pairs of blocks per case")
    parser.add_argument("--block-seconds", type=float, default=0.5, help="length of a block")
    parser.add_argument("--logging-steps", type=int, default=10, help="steps between log entries")
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of torch; 0 for its default"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="JSON file to write")
    return parser.parse_args()


def case(objective: str, pairs: int, options: argparse.Namespace) -> dict[str, object]:
    """Measure one objective at one batch size."""
    torch.manual_seed(options.seed)
    config = network_config(objective=objective)  # type: ignore[arg-type]
    model = build_model(config, options.hidden_size, config.num_objectives, rated=False)
    assert isinstance(model, VRM)
    twin = copy.deepcopy(model)
    by_hand = HandWritten(twin, objective, config.num_draws, config.hyperprior_weight)
    batch = random_batch(pairs, options.hidden_size)
    module = TrainingModule(model, config, batch.num_prompts).train()
    agreement = compare(module, by_hand, twin, batch, options.seed)

    ours = stepper(lambda: module(**batch.as_dict())["loss"], model)
    theirs = stepper(lambda: by_hand(batch), twin)

    def our_step(index: int) -> None:
        ours(index)
        if (index + 1) % options.logging_steps == 0:
            module.take_log()

    clock, processor = time_in_turns({"ours": our_step, "by_hand": theirs}, options)
    return {
        "objective": objective,
        "pairs": pairs,
        "num_draws": config.num_draws,
        "milliseconds": {name: 1e3 * float(np.median(s)) for name, s in clock.items()},
        "ratio_by_clock": ratio(clock, options.seed),
        "ratio_by_processor_time": ratio(processor, options.seed),
        "target": TARGETS.get(pairs),
        **agreement,
    }


def ratio(seconds: dict[str, list[float]], seed: int) -> dict[str, object]:
    """Return the median ratio of ours to plain torch over pairs of blocks, with its range."""
    ratios = np.array(seconds["ours"]) / np.array(seconds["by_hand"])
    picks = np.random.default_rng(seed).integers(len(ratios), size=(2000, len(ratios)))
    medians = np.median(ratios[picks], axis=1)
    return {
        "median": float(np.median(ratios)),
        "interval_90": [float(q) for q in np.quantile(medians, [0.05, 0.95])],
        "quartiles": [float(q) for q in np.quantile(ratios, [0.25, 0.75])],
        "blocks": len(ratios),
    }


def random_batch(pairs: int, hidden_size: int) -> FeatureBatch:
    """Return Normal states with one pair per prompt and coin-flip labels."""
    rows = torch.arange(pairs)
    return FeatureBatch(
        prompts=torch.randn(pairs, hidden_size),
        responses=torch.randn(2 * pairs, hidden_size),
        response_prompt=rows.repeat_interleave(2),
        pair_first=2 * rows,
        pair_second=2 * rows + 1,
        preference=torch.bernoulli(torch.full((pairs,), 0.5)),
        pair_weight=torch.ones(pairs),
        ratings=torch.zeros(2 * pairs, 0),
        rating_mask=torch.zeros(2 * pairs, 0, dtype=torch.bool),
    )


def compare(
    module: TrainingModule,
    by_hand: HandWritten,
    twin: VRM,
    batch: FeatureBatch,
    seed: int,
) -> dict[str, float]:
    """Return the differences of loss and gradients of the two; fail if they are not equal."""
    torch.manual_seed(seed)
    ours = module(**batch.as_dict())["loss"]
    torch.manual_seed(seed)
    theirs = by_hand(batch)
    ours.backward()
    theirs.backward()  # type: ignore[no-untyped-call]
    loss_gap = abs(ours.item() - theirs.item()) / abs(theirs.item())
    gaps = []
    for (name, a), b in zip(module.model.named_parameters(), twin.parameters(), strict=True):
        if a.grad is None or b.grad is None:
            # The intercept cancels in Delta, so one side may have no gradient for it.
            assert all(g is None or not g.abs().max() > 1e-4 for g in (a.grad, b.grad)), name
            continue
        size = float(b.grad.norm())
        if size > 1e-6:
            gaps.append(float((a.grad - b.grad).norm()) / size)
    assert loss_gap < 1e-5, f"losses differ by {loss_gap:.1e}: {ours.item()}, {theirs.item()}"
    assert max(gaps) < 1e-3, f"gradients differ by {max(gaps):.1e}"
    return {"relative_loss_gap": loss_gap, "relative_gradient_gap": max(gaps)}


def stepper(loss: Callable[[], Tensor], model: torch.nn.Module) -> Callable[[int], None]:
    """Return a function that takes one AdamW step, in the variant that the Trainer uses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(_: int) -> None:
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def time_in_turns(
    steps: dict[str, Callable[[int], None]], options: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return seconds per step of each block, as wall time and CPU time."""
    start = time.perf_counter()
    for index in range(10):
        for step in steps.values():
            step(index)
    each = (time.perf_counter() - start) / 20
    # Use whole log intervals, so that each block has the same number of log entries.
    count = options.logging_steps * max(
        1, round(options.block_seconds / each / options.logging_steps)
    )
    clock: dict[str, list[float]] = {name: [] for name in steps}
    processor: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(options.repeats):
        for name in sorted(steps, reverse=repeat % 2 == 1):
            began = time.perf_counter(), time.process_time()
            for index in range(count):
                steps[name](index)
            clock[name].append((time.perf_counter() - began[0]) / count)
            processor[name].append((time.process_time() - began[1]) / count)
    return clock, processor


if __name__ == "__main__":
    main()
