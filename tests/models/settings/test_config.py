from dataclasses import fields, replace

import pytest
import yaml

from vrm_pyro.cli.settings import read_settings, run_parser
from vrm_pyro.errors import InputError
from vrm_pyro.models.guides import (
    DeltaGuide,
    FlowGuide,
    LabelBlindGuide,
    LogisticNormalGuide,
    OutcomeAwareGuide,
)
from vrm_pyro.models.objectives import OBJECTIVES
from vrm_pyro.models.priors import (
    ConditionalDirichletPrior,
    ConditionalLogisticNormalPrior,
    CorrelatedNormalPrior,
    DirichletPrior,
    KernelDirichletPrior,
    LogisticNormalPrior,
    NormalPrior,
)
from vrm_pyro.models.ratings import BernoulliRatings, DifferenceRatings, OrdinalRatings
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.config import (
    DataFacts,
    ModelConfig,
    build_objective,
    check_data,
    check_settings,
    objective_names,
    uses_ratings,
)
from vrm_pyro.models.vrm import VRM
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.data_config import DataConfig, check_data_settings
from vrm_pyro.training.run.config_files import CONFIGS

VIB = ModelConfig(
    mode="vib",
    weight_prior=DirichletPrior(),
    feature_prior=NormalPrior(),
    guide=LabelBlindGuide(),
    objective="integrated",
)
RATED = DataFacts(("clear", "safe", "short"), 3, 100)
UNRATED = DataFacts((), 3, 100)


def test_defaults_are_sound():
    check_settings(ModelConfig())
    check_settings(VIB)
    check_settings(ModelConfig(architecture="bradley_terry"))
    check_settings(ModelConfig(architecture="bradley_terry", ensemble_size=5))
    check_settings(ModelConfig(ensemble_size=5))
    for facts in (RATED, UNRATED):
        check_data(ModelConfig(), facts)


@pytest.mark.parametrize(
    ("base", "change", "words"),
    [
        (ModelConfig(), {"guide": LabelBlindGuide()}, "model.guide is LabelBlindGuide"),
        (VIB, {"weight_prior": ConditionalDirichletPrior()}, "takes DirichletPrior, Logistic"),
        (ModelConfig(), {"guide": DeltaGuide()}, "model.guide is DeltaGuide"),
        (
            ModelConfig(),
            {"guide": FlowGuide(), "objective": "integrated"},
            "integrated, which needs a Gaussian q(z), but model.guide is FlowGuide",
        ),
        (VIB, {"guide": DeltaGuide(), "free_bits_weights": 0.1}, "no KL to be free of"),
        (
            VIB,
            {"guide": DeltaGuide(), "weight_prior": DirichletPrior(learn=True)},
            "a learned DirichletPrior, but model.guide is DeltaGuide",
        ),
        (
            VIB,
            {"guide": DeltaGuide(), "weight_prior": LogisticNormalPrior(learn=True)},
            "Set learn to false",
        ),
        (VIB, {"guide": FlowGuide()}, "takes DeltaGuide, LabelBlindGuide, LogisticNormalGuide"),
        (ModelConfig(), {"guide": LogisticNormalGuide()}, "takes FlowGuide, FullCovarianceGuide"),
        (VIB, {"feature_prior": CorrelatedNormalPrior()}, "takes NormalPrior"),
        (VIB, {"weight_prior": ConditionalLogisticNormalPrior()}, "takes DirichletPrior, Logi"),
        (VIB, {"weight_prior": KernelDirichletPrior()}, "model.weight_prior is KernelDirichletP"),
        (ModelConfig(), {"extra_objectives": -1}, "model.extra_objectives is -1"),
        (ModelConfig(), {"rating_power": 0.0}, "to switch ratings off"),
        (ModelConfig(), {"feature_prior": NormalPrior()}, "model.feature_prior is NormalPrior"),
        (VIB, {"guide": OutcomeAwareGuide()}, "model.guide is OutcomeAwareGuide"),
        (VIB, {"objective": "collapsed"}, "mode vib takes sampled or integrated"),
        (VIB, {"objective": "pairwise"}, "mode vib takes sampled or integrated"),
        (VIB, {"objective": "sampled", "free_bits_features": 0.5}, "has no floor"),
        (VIB, {"objective": "sampled", "supervision": "weights"}, "closed form"),
        (ModelConfig(), {"supervision": "weights"}, "belongs to mode vib"),
        (VIB, {"weight_supervision": "dirichlet_kl"}, "model.supervision is scores. Set it to"),
        (ModelConfig(), {"weight_supervision_total": 0.0}, "weight_supervision_total is 0.0"),
        (ModelConfig(), {"kl_features": 0.5}, "model.kl_features is 0.5"),
        (ModelConfig(), {"free_bits_weights": 0.5}, "model.free_bits_weights is 0.5"),
        (ModelConfig(), {"hyperprior_weight": -1.0}, "0 or more"),
        (ModelConfig(), {"warmup_fraction": 1.0}, "in [0, 1)"),
        (ModelConfig(), {"reward_scale": float("inf")}, "a finite number"),
        (ModelConfig(), {"backbone": " "}, "model.backbone is empty"),
        (ModelConfig(), {"latent_dim": -1}, "model.latent_dim is -1"),
        (ModelConfig(), {"objectives": ["a", "b", "a"]}, "names 'a' twice"),
        (ModelConfig(), {"ensemble_size": 0}, "model.ensemble_size is 0, but must be at least 1"),
        (
            ModelConfig(architecture="bradley_terry"),
            {"ensemble_size": 0},
            "model.ensemble_size is 0, but must be at least 1",
        ),
    ],
)
def test_wrong_settings_are_named(base, change, words):
    with pytest.raises(InputError) as caught:
        check_settings(replace(base, **change))
    assert words in str(caught.value)


def test_a_baseline_needs_no_fitting_prior():
    check_settings(replace(VIB, architecture="bradley_terry", mode="conditional"))


@pytest.mark.parametrize(
    ("config", "facts", "words"),
    [
        (ModelConfig(objective="collapsed"), RATED, "here one is in 3"),
        (
            ModelConfig(objective="collapsed", rating_likelihood=OrdinalRatings()),
            replace(RATED, max_pairs_per_response=1),
            "model.rating_likelihood is OrdinalRatings",
        ),
        (
            ModelConfig(objective="collapsed", rating_likelihood=BernoulliRatings()),
            replace(RATED, max_pairs_per_response=1),
            "model.rating_likelihood is BernoulliRatings",
        ),
        (
            ModelConfig(objective="collapsed", rating_likelihood=DifferenceRatings()),
            replace(RATED, max_pairs_per_response=1),
            "Use GaussianRatings, or objective sampled",
        ),
        (ModelConfig(objectives=["clear", "kind"]), RATED, "names 'kind'"),
        (ModelConfig(scores="identity", latent_dim=4), RATED, "must equal the number"),
        (
            replace(VIB, supervision="weights"),
            replace(RATED, objectives=("clear",)),
            "at least 2 objectives",
        ),
        (replace(VIB, supervision="weights"), UNRATED, "no training row has ratings"),
        (ModelConfig(), DataFacts((), 0, 0), "no pair to learn from"),
        (ModelConfig(architecture="bradley_terry"), DataFacts(("a", "b"), 0, 0), "no pair"),
        (ModelConfig(supervision="none"), DataFacts(("a", "b"), 0, 0), "no pair to learn"),
    ],
)
def test_settings_that_rows_do_not_fit(config, facts, words):
    with pytest.raises(InputError) as caught:
        check_data(config, facts)
    assert words in str(caught.value)


def test_ratings_alone_can_be_learned():
    check_data(ModelConfig(), DataFacts(("a", "b"), 0, 0))


@pytest.mark.parametrize(
    ("config", "facts", "names", "rated"),
    [
        (ModelConfig(), RATED, ("clear", "safe", "short"), True),
        (ModelConfig(objectives=["short", "clear"]), RATED, ("short", "clear"), True),
        (ModelConfig(extra_objectives=1), RATED, (*RATED.objectives, "unrated_0"), True),
        (
            ModelConfig(objectives=["short"], extra_objectives=2),
            RATED,
            ("short", "unrated_0", "unrated_1"),
            True,
        ),
        (ModelConfig(objectives=["x"], extra_objectives=2), UNRATED, ("x",), False),
        (ModelConfig(num_objectives=3), UNRATED, tuple(f"objective_{k}" for k in range(3)), False),
        (ModelConfig(supervision="none", num_objectives=2), RATED, ("objective_0",) * 1, False),
    ],
)
def test_names_of_objectives(config, facts, names, rated):
    assert objective_names(config, facts)[: len(names)] == names
    assert uses_ratings(config, facts) == rated


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_objective_is_the_named_one_with_its_draws(name):
    made = build_objective(ModelConfig(objective=name, num_draws=5))
    assert type(made) is OBJECTIVES[name]
    assert getattr(made, "num_draws", 5) == 5


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (DataConfig(), "data.train is not set"),
        (DataConfig("rows.jsonl", validation_fraction=0.0), "between 0 and 1"),
        (DataConfig("rows.jsonl", max_prompts=-1), "data.max_prompts is -1"),
    ],
)
def test_wrong_settings_of_the_data(data, words):
    with pytest.raises(InputError) as caught:
        check_data_settings(data)
    assert words in str(caught.value)


def test_every_setting_of_the_model_is_explained():
    for cls in (ModelConfig, DataConfig):
        text = str(cls.__doc__)
        assert [f.name for f in fields(cls) if f"        {f.name}: " not in text] == []


class TestShipped:
    """The YAML files of the package: sound, and no second place where a default is decided."""

    # What each file changes; everything else it names is the default, spelled out for the reader.
    NETWORKS = frozenset(
        (
            "latent_dim",
            "scores",
            "weight_prior",
            "feature_prior",
            "hyperprior_weight",
            "recalibrate",
        )
    )
    CHANGES = {
        "default": set(),
        "ratings": set(),
        "networks": NETWORKS | {"num_objectives", "rating_power", "rating_likelihood"},
        "bradley_terry": {"architecture"},
        "paper": {
            "mode",
            "latent_dim",
            "scores",
            "weight_prior",
            "feature_prior",
            "guide",
            "supervision",
            "rating_power",
            "kl_weights",
            "kl_features",
        },
        "label_noise": {"likelihood"},
        "ordinal_ratings": NETWORKS | {"rating_power", "rating_likelihood"},
        "logistic_normal": {"num_objectives", "weight_prior", "guide"},
        "same_weights": {"num_objectives", "weight_prior"},
        "few_prompts": {"weight_prior"},
        "bayesian_head": NETWORKS | {"num_objectives", "objective", "bayesian_head"},
        "gate": {"architecture"},
        "bradley_terry_laplace": {"architecture", "bayesian_head", "head_covariance"},
        "point_estimate": {
            "mode",
            "num_objectives",
            "latent_dim",
            "scores",
            "weight_prior",
            "feature_prior",
            "guide",
            "supervision",
            "kl_weights",
            "kl_features",
        },
    }

    # Networks overfit after steps from which a map that the evidence shrinks still gains.
    TRAINING = {"num_train_epochs": 60, "early_stopping_patience": 5}
    SHRINKS = (
        "default", "ratings", "label_noise", "logistic_normal", "same_weights", "few_prompts",
    )  # fmt: skip

    def read(self, name):
        parser = run_parser("train", "test")
        return read_settings(parser, ["--config", name])

    def test_each_is_in_the_table(self):
        assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(self.CHANGES)

    @pytest.mark.parametrize("name", sorted(CHANGES))
    def test_differs_from_the_defaults_where_it_means_to(self, name):
        read, default = self.read(name), ModelConfig()
        changed = {f.name for f in fields(read.model)}
        changed = {k for k in changed if getattr(read.model, k) != getattr(default, k)}
        assert changed == self.CHANGES[name]
        plain = TrainArguments(output_dir=read.arguments.output_dir)
        written = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        for key in written.get("train", {}):
            own = {} if name in self.SHRINKS else self.TRAINING
            expected = own.get(key, getattr(plain, key))
            assert getattr(read.arguments, key) == expected, key

    @pytest.mark.parametrize("name", sorted(CHANGES))
    def test_says_what_it_is_and_how_to_run_it(self, name):
        header, _, settings = (CONFIGS / f"{name}.yaml").read_text().partition("model:")
        config = "" if name == "default" else f" --config {name}"
        assert f"vrm-pyro train{config} --data.train " in header
        of_training = settings.partition("train:")[2].strip().splitlines()
        assert [line for line in of_training if " # " not in line] == []

    def test_paper_is_the_reconstruction(self):
        model = self.read("paper").model
        assert model.mode == "vib"
        assert model.weight_prior == DirichletPrior(1.0)
        assert model.feature_prior == NormalPrior(1.0)
        assert isinstance(model.guide, LabelBlindGuide)
        assert model.supervision == "weights"
        assert 0 < model.kl_weights < 1
        assert 0 < model.kl_features < 1
        header = (CONFIGS / "paper.yaml").read_text().split("model:")[0]
        assert "reconstruction" in header
        assert "not known" in header

    @pytest.mark.parametrize("name", ["default", "ratings", "paper"])
    def test_builds_a_model(self, name):
        model = build_model(self.read(name).model, 8, 3, True)
        assert isinstance(model, VRM)
        assert model.num_objectives == 3
