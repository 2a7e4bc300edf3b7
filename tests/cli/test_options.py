"""Options of the verbs are built without torch; their defaults are those of the library."""

import inspect
from dataclasses import fields

from vrm_pyro.cli.verbs import features, score, simulate
from vrm_pyro.data.simulation import simulate_texts
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.prediction.scorer import sharded


def test_simulate_offers_the_arguments_of_simulate_texts():
    arguments = inspect.signature(simulate_texts).parameters
    offered = {name: default for name, default, _ in simulate.SETTINGS}
    assert offered == {n: a.default for n, a in arguments.items() if n != "num_pairs"}
    kinds = {name: type(default) for name, default in offered.items()}
    assert kinds == {n: a.annotation for n, a in arguments.items() if n != "num_pairs"}


def test_features_offers_settings_of_the_model():
    known = {item.name: (item.type, item.default) for item in fields(ModelConfig)}
    for name, kind, default, _ in features.SETTINGS:
        assert known[name] == (kind, default)


def test_score_shares_its_default_with_the_library():
    assert score.SHARD_ROWS == sharded.SHARD_ROWS
