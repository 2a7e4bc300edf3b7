"""API keys: a file with one key a line, compared in constant time."""

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vrm_pyro.errors import InputError

_SHORTEST: Final = 16


class KeyFile:
    """The keys of a file; :meth:`reload` reads it anew.

    A line is a key, or a name, white space and a key; ``#`` begins a comment. Names are what
    logs and fairness know a client by. Keys themselves are not kept, only their SHA-256.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w") as file:
    ...     count = file.write("trainer 0123456789abcdef")
    ...     file.flush()
    ...     keys = KeyFile(file.name)
    >>> keys.client("0123456789abcdef"), keys.client("0123456789abcdeg")
    ('trainer', None)

    Args:
        path: The file.

    Raises:
        InputError: If it cannot be read, holds no key, or one that is too short.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._names: Mapping[bytes, str] = {}
        self.reload()

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._names)

    def reload(self) -> None:
        """Read the file anew; on an error the old keys stay.

        Raises:
            InputError: As the constructor.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise InputError(f"api_key_file {self.path}: cannot be read ({reason}).") from error
        names: dict[bytes, str] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            if len(words) > 2 or len(words[-1]) < _SHORTEST:
                raise InputError(
                    f"api_key_file {self.path}: line {number} is no key of at least {_SHORTEST} "
                    "characters, with a name before it or not. A good one: openssl rand -hex 32"
                )
            names[_digest(words[-1])] = words[0] if len(words) == 2 else f"key-{number}"
        if not names:
            raise InputError(f"api_key_file {self.path}: holds no key. Write one a line.")
        self._names = names

    def client(self, key: str) -> str | None:
        """Return the name of a key's owner, None for an unknown key.

        All keys are compared, each in constant time, so timing says nothing about them.
        """
        given, found = _digest(key), None
        for digest, name in self._names.items():
            if hmac.compare_digest(given, digest):
                found = name
        return found


def key_of(headers: Mapping[str, str]) -> str | None:
    """Return the key in ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``; None without.

    >>> key_of({"authorization": "Bearer abc"}), key_of({"x-api-key": "abc"}), key_of({})
    ('abc', 'abc', None)
    """
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
