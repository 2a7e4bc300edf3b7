"""Variational reward models as Pyro programs: why an answer is preferred, how sure they are.

The names below are the interface that is kept stable. Each is imported from its module when it is
first asked for, so that ``import vrm_pyro`` is quick and ``vrm-pyro --help`` loads no torch; types
for editors stand in ``__init__.pyi``.

>>> import vrm_pyro
>>> vrm_pyro.Scorer.__module__
'vrm_pyro.prediction.scorer.scorer'
"""

from vrm_pyro.lazy import lazy_names

__version__ = "0.1.0"

# The public names, and the module of each.
_MODULES = {
    # rows
    "load_table": "vrm_pyro.data.rows",
    "PreferenceTable": "vrm_pyro.data.rows",
    "split_by_prompt": "vrm_pyro.data.rows",
    "fold_by_prompt": "vrm_pyro.data.rows",
    "simulate_texts": "vrm_pyro.data.simulation",
    # text -> states
    "load_backbone": "vrm_pyro.backbone",
    "Backbone": "vrm_pyro.backbone",
    "encode_table": "vrm_pyro.features.memory",
    "write_store": "vrm_pyro.features.writing",
    "open_store": "vrm_pyro.features.store",
    "Inputs": "vrm_pyro.features.inputs",
    # the model and its replaceable parts
    "ModelConfig": "vrm_pyro.models.settings.config",
    "VRM": "vrm_pyro.models.vrm",
    "BradleyTerryModel": "vrm_pyro.models.bradley_terry",
    "build_model": "vrm_pyro.models.settings.build",
    "WeightPrior": "vrm_pyro.models.priors",
    "FeaturePrior": "vrm_pyro.models.priors",
    "Guide": "vrm_pyro.models.guides",
    "PreferenceLikelihood": "vrm_pyro.models.likelihoods",
    "RatingLikelihood": "vrm_pyro.models.ratings",
    "Objective": "vrm_pyro.models.objectives",
    # training
    "TrainArguments": "vrm_pyro.training.arguments",
    "TuningConfig": "vrm_pyro.training.finetuning",
    "DataConfig": "vrm_pyro.training.data_config",
    "train": "vrm_pyro.training.train",
    "fit": "vrm_pyro.training.run.fit",
    "search": "vrm_pyro.training.search.search",
    # a trained model
    "LoadedModel": "vrm_pyro.models.checkpoint",
    "load_model": "vrm_pyro.models.checkpoint",
    "save_model": "vrm_pyro.models.checkpoint",
    "Scorer": "vrm_pyro.prediction.scorer",
    "predict": "vrm_pyro.prediction.predict",
    "evaluate": "vrm_pyro.diagnostics.evaluate",
    "benchmark": "vrm_pyro.diagnostics.suites",
    "best_of_n": "vrm_pyro.diagnostics.best_of_n",
    "acquire": "vrm_pyro.prediction.acquisition",
    "explain": "vrm_pyro.prediction.explanation.explain",
    "draw_posterior": "vrm_pyro.prediction.posterior.draws",
    "to_datatree": "vrm_pyro.prediction.posterior.to_xarray",
    "write_posterior": "vrm_pyro.prediction.posterior.file",
    "diagnose": "vrm_pyro.diagnostics.checks",
    "Finding": "vrm_pyro.diagnostics.checks",
    "sensitivity": "vrm_pyro.diagnostics.sensitivity",
    "certify": "vrm_pyro.diagnostics.certificates.certify",
    "write_report": "vrm_pyro.report",
    # outside
    "VRMReward": "vrm_pyro.integrations.rl",
    "export_model": "vrm_pyro.integrations.huggingface.export",
    "VRMForSequenceClassification": "vrm_pyro.integrations.huggingface",
    "InputError": "vrm_pyro.errors",
}

__all__ = ["__version__", *_MODULES]


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
