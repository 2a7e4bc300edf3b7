"""Corpora through Ray: the lines of ``score``, also when an actor dies."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.local_ray import actors, kill_one_of_two, local_ray
from helpers.reward_models import save_reward_model
from helpers.tiny_backbones import text
from helpers.workspace import write_rows

from vrm_pyro.errors import InputError
from vrm_pyro.integrations.ray import Worker, score_dataset
from vrm_pyro.prediction.score_file import score_file

needs_ray = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # what Ray says of itself
]
WORKER = "MapBatches(Worker)"


def rows(count):
    """Return comparisons, single responses and rows of several, with messages and with texts."""
    for i in range(count):
        prompt = text(i // 4, 4 + i % 7)
        asked = prompt if i % 2 else [{"role": "user", "content": prompt}]
        row = {"id": f"row {i}", "prompt": asked}
        if i % 3 == 0:
            yield {**row, "chosen": text(3 * i, 6), "rejected": text(3 * i + 1, 3 + i % 20)}
        elif i % 3 == 1:
            yield {**row, "response": text(3 * i, 5 + i % 11)}
        else:
            yield {**row, "responses": [text(3 * i + j, 4) for j in range(3)]}


def by_place(lines):
    return {(line["id"], line["response_index"]): line for line in lines}


def assert_same(found, expected):
    """Two score files have the same lines; numbers may differ by rounding."""
    found, expected = by_place(found), by_place(expected)
    assert found.keys() == expected.keys()
    for place, line in expected.items():
        for name, value in line.items():
            own = found[place][name]
            if isinstance(value, float | dict):
                # Other batches, other order of float32 sums; variances go up to about 5.
                value = pytest.approx(value, rel=1e-5, abs=1e-5)
            assert own == value, (place, name)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_reward_model(tmp_path_factory.mktemp("scored_by_ray"))


@pytest.fixture(scope="module")
def ray():
    pytest.importorskip("ray.data", reason="needs the extra ray")
    with local_ray() as found:
        yield found


class TestWithRay:
    pytestmark = needs_ray

    def test_lines_are_those_of_score_with_an_actor_killed(self, ray, model, tmp_path):
        made = list(rows(960))
        data = [write_rows(tmp_path / f"{i}.jsonl", made[i::6]) for i in range(6)]
        expected = score_file(model, made, tmp_path / "scores.parquet")
        scored = score_dataset(data, model, workers=2, batch_rows=50, num_cpus=0.5)
        found, before, after = [], set(), set()
        for batch in scored.iter_batches(batch_format="pyarrow", batch_size=None):
            found += batch.to_pylist()
            before = before or kill_one_of_two(WORKER)
            after |= {actor.pid for actor in actors(WORKER)}
        assert len(after - before) == 1  # one was started in place of the killed one
        assert len(found) == expected.lines
        assert_same(found, pq.read_table(expected.path).to_pylist())

    def test_parquet_in_and_out(self, ray, model, tmp_path):
        made = [row for row in rows(40) if isinstance(row["prompt"], str)]
        (tmp_path / "rows").mkdir()
        columns = dict.fromkeys(key for row in made for key in row)
        whole = pa.Table.from_pylist([columns | row for row in made])
        for half in (0, 1):
            pq.write_table(whole[half * 10 : half * 10 + 10], tmp_path / f"rows/{half}.parquet")
        written = score_dataset(tmp_path / "rows", model, tmp_path / "scores", workers=1)
        expected = pq.read_table(score_file(model, made, tmp_path / "scores.parquet").path)
        assert_same(written.take_all(), expected.to_pylist())
        for part in (tmp_path / "scores").glob("*.parquet"):
            assert pq.read_schema(part).names == expected.schema.names
        # What a worker says of a row reaches the caller.
        nothing = ray.data.from_items([{"id": "a", "prompt": "b"}])
        with pytest.raises(InputError, match="row a: "):
            score_dataset(nothing, model, workers=1).take_all()
        with pytest.warns(UserWarning, match="take 2 CPUs, and Ray has 2"):
            score_dataset(nothing, model, workers=2)


@pytest.fixture
def worker(model):
    return lambda skip=False: Worker(model, (None, None), skip, {"device": "cpu"})


class TestWorker:
    def test_broken_lines_stop_it_or_are_left_out(self, worker, caplog):
        texts = ['{"id": "a", "prompt": "b", "response": "c"}', '{"id"', "3"]
        batch = pa.table({"text": texts, "path": ["rows.jsonl"] * 3})
        with pytest.raises(InputError, match=r"rows\.jsonl: not valid JSON"):
            worker()(batch)
        lines = worker(True)(batch)
        assert lines["id"].to_pylist() == ["a"]
        assert "1 invalid (invalid JSON)" in caplog.text

    def test_a_batch_without_a_usable_row_is_empty(self, worker):
        batch = pa.Table.from_pylist([{"id": "a", "prompt": "b"}])
        with pytest.raises(InputError, match="row a: "):
            worker()(batch)
        lines = worker(True)(batch)
        assert len(lines) == 0
        assert lines.schema.names[:2] == ["id", "response_index"]

    def test_a_row_needs_an_id(self, worker):
        batch = [{"prompt": "a", "response": "b", "id": "c"}, {"prompt": "a", "response": "d"}]
        with pytest.raises(InputError, match='row 1 of a batch has no "id"'):
            worker()(pa.Table.from_pylist(batch))


def test_what_cannot_be_scored_is_said_before_anything_runs(model, tmp_path):
    pytest.importorskip("ray.data", reason="needs the extra ray")
    (tmp_path / "out").mkdir()
    for settings, said in (
        ({"rows": "rows.csv"}, "give Parquet"),
        ({"rows": []}, "give Parquet"),
        ({"workers": 0}, "workers is 0"),
        ({"workers": (2, 1)}, r"workers is \(2, 1\)"),
        ({"batch_rows": 0}, "batch_rows is 0"),
        ({"output": tmp_path / "out"}, "is there already"),
        ({"model": tmp_path / "absent"}, "absent"),
    ):
        with pytest.raises(InputError, match=said):
            score_dataset(**({"rows": "rows.parquet", "model": model} | settings))


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(InputError, match=r"pip install 'vrm-pyro\[ray\]'"):
        score_dataset("rows.parquet", Path("model"))
