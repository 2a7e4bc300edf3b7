# Types of the public names, which __init__.py imports when they are first asked for.

from vrm_pyro.backbone import Backbone as Backbone
from vrm_pyro.backbone import load_backbone as load_backbone
from vrm_pyro.data.rows import PreferenceTable as PreferenceTable
from vrm_pyro.data.rows import fold_by_prompt as fold_by_prompt
from vrm_pyro.data.rows import load_table as load_table
from vrm_pyro.data.rows import split_by_prompt as split_by_prompt
from vrm_pyro.data.simulation import simulate_texts as simulate_texts
from vrm_pyro.diagnostics.best_of_n import best_of_n as best_of_n
from vrm_pyro.diagnostics.certificates.certify import certify as certify
from vrm_pyro.diagnostics.checks import Finding as Finding
from vrm_pyro.diagnostics.checks import diagnose as diagnose
from vrm_pyro.diagnostics.evaluate import evaluate as evaluate
from vrm_pyro.diagnostics.sensitivity import sensitivity as sensitivity
from vrm_pyro.diagnostics.suites import benchmark as benchmark
from vrm_pyro.errors import InputError as InputError
from vrm_pyro.features.inputs import Inputs as Inputs
from vrm_pyro.features.memory import encode_table as encode_table
from vrm_pyro.features.store import open_store as open_store
from vrm_pyro.features.writing import write_store as write_store
from vrm_pyro.integrations.huggingface import (
    VRMForSequenceClassification as VRMForSequenceClassification,
)
from vrm_pyro.integrations.huggingface.export import export_model as export_model
from vrm_pyro.integrations.rl import VRMReward as VRMReward
from vrm_pyro.models.bradley_terry import BradleyTerryModel as BradleyTerryModel
from vrm_pyro.models.checkpoint import LoadedModel as LoadedModel
from vrm_pyro.models.checkpoint import load_model as load_model
from vrm_pyro.models.checkpoint import save_model as save_model
from vrm_pyro.models.guides import Guide as Guide
from vrm_pyro.models.likelihoods import PreferenceLikelihood as PreferenceLikelihood
from vrm_pyro.models.objectives import Objective as Objective
from vrm_pyro.models.priors import FeaturePrior as FeaturePrior
from vrm_pyro.models.priors import WeightPrior as WeightPrior
from vrm_pyro.models.ratings import RatingLikelihood as RatingLikelihood
from vrm_pyro.models.settings.build import build_model as build_model
from vrm_pyro.models.settings.config import ModelConfig as ModelConfig
from vrm_pyro.models.vrm import VRM as VRM
from vrm_pyro.prediction.acquisition import acquire as acquire
from vrm_pyro.prediction.explanation.explain import explain as explain
from vrm_pyro.prediction.posterior.draws import draw_posterior as draw_posterior
from vrm_pyro.prediction.posterior.file import write_posterior as write_posterior
from vrm_pyro.prediction.posterior.to_xarray import to_datatree as to_datatree
from vrm_pyro.prediction.predict import predict as predict
from vrm_pyro.prediction.scorer import Scorer as Scorer
from vrm_pyro.report import write_report as write_report
from vrm_pyro.training.arguments import TrainArguments as TrainArguments
from vrm_pyro.training.data_config import DataConfig as DataConfig
from vrm_pyro.training.finetuning import TuningConfig as TuningConfig
from vrm_pyro.training.run.fit import fit as fit
from vrm_pyro.training.search.search import search as search
from vrm_pyro.training.train import train as train

__version__: str
