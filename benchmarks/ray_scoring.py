"""Measure ``vrm_pyro.integrations.ray``: the lines of ``score``, and the rate of its workers.

    python benchmarks/ray_scoring.py --out ray_scoring.json
    python benchmarks/ray_scoring.py --responses 2000 --keep_actors

Short responses, four to a prompt, to a model with random heads on a random Llama (--width,
--layers). One of the two actors is killed when half of the lines are there (not with
--keep_actors). The rate is that of all lines from the first one on, so that it holds the restart
and not the start of Ray. It is compared with twice the rate of one worker alone, in this process
with one thread, on a part of the same rows. Other work on the machine moves the ratio.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}

import pyarrow as pa
import pyarrow.parquet as pq
from serving import make_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.local_ray import kill_one_of_two, local_ray
from helpers.tiny_backbones import text

from vrm_pyro.integrations.ray import Worker, score_dataset
from vrm_pyro.prediction.score_file import score_file

ACTOR = "MapBatches(Worker)"
WORKERS = 2
PER_PROMPT = 4


def rows(responses: int) -> Iterator[dict[str, object]]:
    """Yield rows of four short responses each."""
    rng = random.Random(0)
    for i in range(responses // PER_PROMPT):
        answers = [text(rng.randrange(10**6), rng.randrange(4, 24)) for _ in range(PER_PROMPT)]
        yield {"id": f"row {i}", "prompt": text(i, 8), "responses": answers}


def alone(model: Path, made: list[dict[str, object]], batch_rows: int) -> float:
    """Return the responses a second of one worker without Ray, after a batch to warm up."""
    worker = Worker(str(model), (None, None), False, {"device": "cpu"})
    batches = [
        pa.Table.from_pylist(made[i : i + batch_rows]) for i in range(0, len(made), batch_rows)
    ]
    worker(batches[0])
    start = time.perf_counter()
    number = sum(len(worker(batch)) for batch in batches)
    return number / (time.perf_counter() - start)


def with_ray(
    model: Path, data: Path, batch_rows: int, responses: int, kill: bool
) -> tuple[list[dict[str, object]], float]:
    """Return the lines, and the responses a second from the first batch on."""
    lines: list[dict[str, object]] = []
    first, start, killed = 0, 0.0, not kill
    with local_ray():
        # Half a CPU each, so that Ray has one to read with; their threads are one each.
        scored = score_dataset(data, model, workers=WORKERS, num_cpus=0.5, batch_rows=batch_rows)
        for batch in scored.iter_batches(batch_format="pyarrow", batch_size=None):
            lines += batch.to_pylist()
            if not start:
                first, start = len(lines), time.perf_counter()
            if not killed and len(lines) >= responses // 2:
                kill_one_of_two(ACTOR)
                killed = True
        seconds = time.perf_counter() - start
    return lines, (len(lines) - first) / seconds


def difference(lines: list[dict], others: list[dict]) -> float:
    """Return the largest difference of a number of the same line; all lines must be there."""
    place = {(line["id"], line["response_index"]): line for line in others}
    assert len(lines) == len(others) == len(place)
    largest = 0.0
    for line in lines:
        other = place[line["id"], line["response_index"]]
        assert line.keys() == other.keys()
        for name in ("reward_mean", "reward_sd"):
            largest = max(largest, abs(line[name] - other[name]))
    return largest


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--responses", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch_rows", type=int, default=250)
    parser.add_argument("--keep_actors", action="store_true", help="Kill none.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = make_model(folder, options.width, options.layers, 256)
        made = list(rows(options.responses))
        data = folder / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in made))
        single = alone(model, made[: max(options.batch_rows, len(made) // 10)], options.batch_rows)
        lines, rate = with_ray(
            model, data, options.batch_rows, options.responses, not options.keep_actors
        )
        expected = score_file(model, data, folder / "scores.parquet", device="cpu")
        others = pq.read_table(expected.path).to_pylist()
    found = {
        "responses": len(lines),
        "largest difference from score": difference(lines, others),
        "one worker alone, responses/s": single,
        "Ray, responses/s": rate,
        "share of the sum of its workers": rate / (WORKERS * single),
    }
    print(json.dumps(found, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
