"""Settings of the server."""

import ipaddress
import math
import os
from dataclasses import dataclass, fields
from typing import Any, Final

from vrm_pyro.errors import InputError

EXTRA: Final = (
    "the server needs packages that are not installed: pip install 'vrm-pyro[serve]' (FastAPI, "
    "uvicorn, prometheus-client)."
)

# Least and greatest value of each number.
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "port": (0, 65_535),
    "batch_tokens": (16, 10_000_000),
    "max_wait_ms": (0, 10_000),
    "long_tokens": (1, 10_000_000),
    "max_queue_tokens": (16, 1_000_000_000),
    "timeout_s": (0.01, 86_400),
    "max_body_mb": (0.001, 4_096),
    "body_timeout_s": (0.01, 3_600),
    "max_responses": (1, 1_000_000),
}


@dataclass(frozen=True)
class ServeSettings:
    """How a model is served.

    >>> ServeSettings(port=9000).address
    'http://127.0.0.1:9000'

    Args:
        host: Address to listen on. Any other than this machine's own needs ``api_key_file`` or
            ``no_authentication``.
        port: Port; 0 for a free one.
        name: What ``/v1/models`` calls the model.
        api_key_file: File with one key a line; requests then need one of them.
        no_authentication: Whether to answer other machines without keys.
        tls_certificate: PEM file; the server then speaks HTTPS.
        tls_key: PEM file of its private key.
        batch_tokens: Most tokens in a batch; the backbone's own budget when omitted.
        max_wait_ms: How long the first request of a batch waits for others, in milliseconds.
        long_tokens: Texts with more tokens are computed beside the others, one at a time; a
            quarter of ``batch_tokens`` when omitted.
        max_queue_tokens: Most tokens that wait; 64 batches when omitted.
        timeout_s: Time in which a request is answered, in seconds, with 503 if need be.
        max_body_mb: Largest body of a request, in megabytes.
        body_timeout_s: Time in which a client has to send its request, in seconds.
        max_responses: Most responses in a request.
        truncate: Whether to cut overlong texts as in training; else they are refused.
        empty_reward: Reward of a response without text; such requests are refused when omitted.
        policy_tokenizer: Tokenizer whose chat template ``/get_reward`` and ``/rm`` get: ``own``
            (the reward model's; plain texts if it has none), ``none`` (plain texts), or the name
            or folder of the policy.
        log_texts: Whether the log has prompts and responses.

    Raises:
        InputError: If a value is out of range, or would open the server to everybody.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    name: str | None = None
    api_key_file: str | None = None
    no_authentication: bool = False
    tls_certificate: str | None = None
    tls_key: str | None = None
    batch_tokens: int | None = None
    max_wait_ms: float = 5.0
    long_tokens: int | None = None
    max_queue_tokens: int | None = None
    timeout_s: float = 60.0
    max_body_mb: float = 16.0
    body_timeout_s: float = 20.0
    max_responses: int = 4096
    truncate: bool = False
    empty_reward: float | None = None
    policy_tokenizer: str = "own"
    log_texts: bool = False

    def __post_init__(self) -> None:
        for item in fields(self):
            value: Any = getattr(self, item.name)
            low, high = _RANGES.get(item.name, (-math.inf, math.inf))
            if item.name in _RANGES and value is not None and not low <= value <= high:
                raise InputError(
                    f"{item.name} is {value}, but must be between {low:g} and {high:g}."
                )
        if self.empty_reward is not None and not math.isfinite(self.empty_reward):
            raise InputError(
                f"empty_reward is {self.empty_reward}, but must be a finite number, or be left "
                "out to refuse responses without text."
            )
        if self.api_key_file is not None and self.no_authentication:
            raise InputError(
                "api_key_file and no_authentication contradict each other; give one of them."
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InputError("HTTPS needs both tls_certificate and tls_key; give both or neither.")
        for name in ("tls_certificate", "tls_key"):
            path = getattr(self, name)
            if path is not None and not os.path.isfile(path):
                raise InputError(f"{name} {path}: no such file.")
        if not self.is_local and self.api_key_file is None and not self.no_authentication:
            raise InputError(
                f"host {self.host}: other machines could ask this server. Give --api_key_file "
                "with one key a line; or say --no_authentication if the network is closed, such "
                "as for OpenRLHF, which sends no key."
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def address(self) -> str:
        """URL of the server."""
        scheme = "http" if self.tls_certificate is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"
