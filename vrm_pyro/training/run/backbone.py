"""The backbone that the settings of a run name."""

from vrm_pyro.backbone import Backbone, choose_precision
from vrm_pyro.features.reading import read_backbone
from vrm_pyro.processes import num_processes
from vrm_pyro.training.run.settings import RunSettings


def backbone_of(settings: RunSettings) -> Backbone:
    """Return the backbone of a run: the one given, else the one that its settings name."""
    reading = settings.data.reading
    if settings.backbone is not None:
        return settings.backbone.with_settings(reading)
    device = "cpu" if settings.arguments.use_cpu else "auto"
    dtype: str = settings.model.dtype
    if settings.tuning.shard and num_processes() > 1:
        # Whole, it may fit no device. What computes it decides the precision all the same.
        device, dtype = "cpu", choose_precision(dtype, settings.arguments.device)
    return read_backbone(
        settings.model.backbone,
        reading,
        pooling=settings.model.pooling,
        layer=settings.layer,
        max_length=settings.model.max_length,
        dtype=dtype,
        device=device,
    )
