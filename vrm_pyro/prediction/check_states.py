"""Check that a feature store holds the states that a trained model reads."""

from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import FACTS
from vrm_pyro.features.store import FeatureStore
from vrm_pyro.models.checkpoint import LoadedModel


def check_store(store: FeatureStore, loaded: LoadedModel, model: str) -> None:
    """Raise InputError unless a store holds the states that a model was trained on."""
    key, facts = store.meta["key"], loaded.backbone
    differing = [k for k, part in FACTS.items() if k in facts and facts[k] != key[part]]
    if differing:
        lines = [
            f"{k} is {str(key[FACTS[k]])[:12]} there and {str(facts[k])[:12]} in the model"
            for k in differing
        ]
        raise InputError(
            f"{store.path}: its states come from another backbone or setting than those that "
            f"{model} was trained on: {'; '.join(lines)}. Give rows, or write a store with "
            f"--model.backbone {facts.get('name')} --model.pooling {facts.get('pooling')} "
            f"--model.max_length {facts.get('max_length')}."
        )
    if store.hidden_size != loaded.hidden_size:
        raise InputError(
            f"{store.path}: its states have size {store.hidden_size}, the model was trained on "
            f"size {loaded.hidden_size}."
        )
