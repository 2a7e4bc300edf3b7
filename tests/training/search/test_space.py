"""A space is read from YAML, flat or nested; what is wrong in it is named with its place."""

import pytest
import yaml

from vrm_pyro.errors import InputError
from vrm_pyro.training.run.config_files import CONFIGS
from vrm_pyro.training.search.configs import read_candidates
from vrm_pyro.training.search.dimension import Choices, Range, label
from vrm_pyro.training.search.space import SPACES, read_spaces

TEXT = """
train:
  learning_rate: {low: 1e-4, high: 1.0e-2, log: true}
ratings:
  model:
    latent_dim: {low: 2, high: 16, int: true}
    weight_prior.init_args: {dropout: [0, 0.5]}
  train.learning_rate: [0.1]
"""


def test_keys_are_nested_dotted_or_both_and_those_of_a_config_replace_shared_ones(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(TEXT)
    spaces = read_spaces(path, ["ratings", "default"])
    assert spaces["default"].dimensions == (Range("train.learning_rate", 1e-4, 1e-2, log=True),)
    assert set(spaces["ratings"].dimensions) == {
        Range("model.latent_dim", 2, 16, integer=True),
        Choices("model.weight_prior.init_args.dropout", (0, 0.5)),
        Choices("train.learning_rate", (0.1,)),
    }
    assert read_spaces(yaml.safe_load(TEXT), ["ratings"])["ratings"] == spaces["ratings"]


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_spaces_fit_their_configs(path):
    names = [name for name in yaml.safe_load(path.read_text("utf-8")) if name != "train"]
    assert all((CONFIGS / f"{name}.yaml").is_file() for name in names)
    for item in read_candidates(names, path.stem, {"data.train": "rows.jsonl"}):
        assert len(item.space.dimensions) > 2
        held = {d.key for d in item.space.dimensions if d.key in item.start()}
        assert "train.learning_rate" in held  # a search begins with the shipped settings


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "space.yaml: is empty"),
        ("[1, 2]", "space.yaml: is empty, or no mapping"),
        ("train: [", "space.yaml: is no YAML"),
        ("train.learning_rate: []", r"space.yaml: train.learning_rate: \[\] is an empty list"),
        ("train.learning_rate: [1, 1]", "1 is listed twice"),
        ("train.learning_rate: 1", "train.learning_rate: 1 is one value. Give a list"),
        ("train.learning_rate: {low: 1, high: 0.1}", "low is 1 and high is 0.1, but low must be"),
        ("train.learning_rate: {low: 1}", "high is missing"),
        ("train.learning_rate: {low: 0, high: 1, log: true}", "low is 0, but must be above 0"),
        ("train.learning_rate: {low: a, high: 1}", "low is 'a', but must be a finite number"),
        ("train.learning_rate: {low: 0, hihg: 1}", "no 'hihg'; did you mean 'high'?"),
        ("train.learning_rate: {low: 0, high: 1, log: 1}", "log is 1, but must be true or false"),
        ("model.latent_dim: {low: 1.5, high: 3, int: true}", "both must be whole numbers"),
        ("train: {learning_rate: {}}", "train.learning_rate is empty"),
        ("train.seed: [1, 2]", "train.seed is set by the search itself"),
        ("data.split_seed: [1]", "'data.split_seed' is no group of settings"),
        ("ratngs: {model.latent_dim: [1]}", "'ratngs' is no .* did you mean 'ratings'?"),
        ("ratings: {data.split_seed: [1]}", "ratings: data.split_seed cannot be searched"),
        ("ratings: 3", "ratings must hold settings"),
        ("bradley_terry: {model.head_size: [1]}", "no setting to search for config ratings"),
        ("train.learning_rate: [2026-11-30]", "holds a value that is no number"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, content, words):
    path = tmp_path / "space.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_spaces(path, ["ratings"])


def test_settings_that_do_not_exist_and_values_of_another_type_are_refused():
    def read(space):
        return read_candidates("ratings", space, {"data.train": "rows.jsonl"})[0].space

    fine = {"train.learning_rate": [0.1, 0.2]}
    for wrong, words in (
        ({"model.latent_dims": [3]}, "space: ratings: model.latent_dims: 3: unknown option"),
        ({"model.latent_dim": [2, "x"]}, "model.latent_dim: 'x': .* must be a whole number"),
        ({"model.guide.init_args.hiden": [2]}, "OutcomeAwareGuide has no setting 'hiden'"),
        ({"model.weight_prior": ["Dirichlet"]}, "did you mean 'DirichletPrior'?"),
    ):
        with pytest.raises(InputError, match=words):
            read(fine | wrong)
    # Ranges of single settings and combinations are for the trials to find out.
    assert len(read(fine | {"model.mode": ["vib"]}).dimensions) == 2


def test_subsets_of_objectives_and_a_learned_spread_can_be_tried():
    subsets = [[], ["overall"], ["overall", "style"]]
    likelihoods = [
        {"class_path": "GaussianRatings", "init_args": {"scale": 1.0, "learn_scale": learn}}
        for learn in (False, True)
    ]
    likelihoods.append(
        {"class_path": "DifferenceRatings", "init_args": {"scale": 0.5, "learn_scale": True}}
    )
    space = {"model.objectives": subsets, "model.rating_likelihood": likelihoods}
    (item,) = read_candidates("ratings", space, {"data.train": "rows.jsonl"})
    trial = Trial(objectives=label(subsets[2]), rating_likelihood=label(likelihoods[1]))
    model = item.settings(item.space.suggest(trial)).model
    assert model.objectives == subsets[2]
    assert model.rating_likelihood.learn_scale
    assert set(item.start()) == set(space)  # the first trial: all objectives, differences


class Trial:
    """A trial with fixed answers, that notes what it was asked."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def suggest_categorical(self, key, labels):
        self.asked.append(key)
        return self.answers.get(key.rpartition(".")[2], labels[0])


def test_a_setting_of_a_class_is_tried_with_the_classes_that_have_it():
    kinds = ["ConditionalDirichletPrior", "DirichletPrior"]
    own = "model.weight_prior.init_args.dropout"
    space = {own: [0.1, 0.5], "model.weight_prior": kinds}
    (item,) = read_candidates("ratings", space, {"data.train": "rows.jsonl"})
    assert item.space.takes == {own: (label(kinds[0]),)}
    both, one = Trial(), Trial(weight_prior=label(kinds[1]))
    assert item.space.suggest(both) == {"model.weight_prior": kinds[0], own: 0.1}
    assert item.space.suggest(one) == {"model.weight_prior": kinds[1]}
    assert one.asked == ["model.weight_prior"]
    settings = item.settings({"model.weight_prior": kinds[1]})
    assert type(settings.model.weight_prior).__name__ == kinds[1]
    assert (
        item.settings({"model.weight_prior": kinds[0], own: 0.1}).model.weight_prior.dropout == 0.1
    )
