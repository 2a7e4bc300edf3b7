"""Serve a model with several replicas of the application, behind the proxy of Ray Serve.

Needs the extras ``ray`` and ``serve``.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI

from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.scorer import is_export
from vrm_pyro.integrations.ray import EXTRA
from vrm_pyro.prediction.opening import as_model
from vrm_pyro.serve.application import build_application
from vrm_pyro.serve.opening import open_scorer, served_name
from vrm_pyro.serve.service import Service
from vrm_pyro.serve.settings import ServeSettings

# ray is optional, and takes a second to import.
if TYPE_CHECKING:
    import ray.serve

__all__ = ["ray_application"]

# The service has a queue of its own, bounded by tokens: Ray's limit of 5 would keep batches small.
_REQUESTS: Final = 1000
_OF_PROXY: Final = ("host", "port", "tls_certificate", "tls_key")


def ray_application(
    model: str | os.PathLike[str],
    settings: ServeSettings,
    *,
    num_replicas: int = 2,
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    classes: Sequence[type] = (),
    backbone: str | None = None,
    dtype: str | None = None,
) -> "ray.serve.Application":
    """Return the application of ``vrm-pyro serve`` as one of Ray Serve.

    Each replica loads the model and answers all routes; one that dies is started again, and
    clients that ask again, as :class:`~vrm_pyro.VRMReward` does, get every answer::

        from ray import serve

        settings = ServeSettings(api_key_file="/shared/keys.txt")
        serve.start(http_options={"host": "0.0.0.0", "port": 8000})
        serve.run(ray_application("/shared/run", settings, num_replicas=4, num_gpus=1))

    Responses to a prompt share its computation where they reach the same replica: send them in
    one request. ``/metrics`` is of the replica that answers.

    Args:
        model: Folder of a run or of an export, which every machine sees at this path.
        settings: As of ``vrm-pyro serve``. Address and certificates are those of Ray's proxy, so
            it is said here whether clients need keys: ``api_key_file``, a path that every machine
            sees, or ``no_authentication``.
        num_replicas: Number of replicas.
        num_cpus: CPUs of a replica; its threads are as many, at least one.
        num_gpus: GPUs of a replica, 0 to compute on CPUs.
        classes: A user's own prior, guide or likelihood classes; a run may have them.
        backbone: Where a run's backbone is now, if it was moved.
        dtype: Precision of the backbone; that of training when omitted, ``auto`` for an export.

    Raises:
        InputError: If Ray is missing, the model cannot be read, or a setting does not fit.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise InputError(EXTRA) from error
    _check(settings)
    if num_replicas < 1:
        raise InputError(f"num_replicas is {num_replicas}, but must be at least 1.")
    folder = Path(model).expanduser().absolute()
    if not is_export(folder):  # what cannot be loaded is said here
        as_model(folder, classes=classes, backbone=backbone)
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name="vrm_pyro",
        num_replicas=num_replicas,
        ray_actor_options={"num_cpus": num_cpus, "num_gpus": num_gpus},
        max_ongoing_requests=_REQUESTS,
        graceful_shutdown_timeout_s=settings.timeout_s + 5,
    )
    loading = {"classes": tuple(classes), "backbone": backbone, "dtype": dtype}
    return deployment.bind(str(folder), settings, loading)


class Replica:
    """A model in an actor of Ray Serve.

    Args:
        model: Folder of the model.
        settings: How to serve it.
        loading: See :func:`~vrm_pyro.serve.opening.open_scorer`.

    Raises:
        InputError: If the model, its backbone or the keys cannot be read.
    """

    def __init__(self, model: str, settings: ServeSettings, loading: Mapping[str, Any]) -> None:
        scorer = open_scorer(model, **loading)
        self._service = Service(scorer, settings, served_name(scorer, settings))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return what answers the requests; Ray calls this in the replica."""
        return build_application(self._service)

    def check_health(self) -> None:
        """Raise RuntimeError if nothing is computed any more; Ray then starts another replica."""
        if not self._service.engine.is_alive:
            raise RuntimeError("a thread that computes has ended")


def _check(settings: ServeSettings) -> None:
    for name in _OF_PROXY:
        if getattr(settings, name) != getattr(ServeSettings, name):
            raise InputError(
                f"{name} is a setting of Ray's proxy: leave it out, and give "
                "ray.serve.start(http_options=...)."
            )
    if settings.api_key_file is None and not settings.no_authentication:
        raise InputError(
            "Ray's proxy may listen on every address of its machines. Give api_key_file with one "
            "key a line; or say no_authentication=True if the network is closed."
        )
