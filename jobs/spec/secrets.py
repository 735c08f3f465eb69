"""Refuse secrets in settings. Settings go into the script and the record, which other users may read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.layers import Layer

_ENDINGS = ("TOKEN", "KEY", "PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "CREDENTIAL", "COOKIE")
"""Endings of a word in a secret's name: API_KEY, APIKEY, HF_TOKEN, but not TOKENIZERS_PARALLELISM."""
_PLURALS = tuple(f"{ending}S" for ending in _ENDINGS if ending != "TOKEN")
"""The same for several secrets: API_KEYS. But MAX_TOKENS is a number."""
_WORDS = ("PASS", "PWD", "PGPASS", "AUTHORIZATION")
_REFERENCES = ("FILE", "PATH", "DIR", "ENV", "NAME")
"""A name with such an ending holds the place of a secret, not the secret: SSH_KEY_FILE."""
_URL_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@")
_URL_TOKEN = re.compile(
    r"://\S*[?&#](access_token|token|password|secret|sig|signature|api_?key|key)=[^&\s]", re.IGNORECASE
)
_TOKEN = re.compile(
    r"\b(hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|sk-[\w-]{30,}"
    r"|(AKIA|ASIA)[A-Z0-9]{16}\b|xox[abprs]-[\w-]{20,}|(Bearer|Basic) +[\w.~+/-]{16,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
"""The forms of tokens and keys of well-known services. They are secrets under any name."""
_PROXY_PASSWORD = re.compile(r"(?://)?[^/\s:@]+:[^/\s@]+@[^/\s@]+")
HINT = (
    "set it in your own environment and name it in pass_env; or write it into secrets_file (mode 600); "
    "on Kubernetes, put it into a Secret and name that in kubernetes.secret"
)


def refuse_secrets(layers: Iterable[Layer], arguments: Iterable[str] = ()) -> None:
    """Raise UserError for a secret in any layer, or in the ``arguments`` of a job that is not a training.

    The message names the place of the secret, but does not repeat the secret.
    """
    for layer in layers:
        for key, value in layer.settings.items():
            for name, text in _texts(key, value):
                if reason := _reason(name, text):
                    raise UserError(f"{layer.where(name)}: {name}: {reason}", hint=HINT)

    for argument in arguments:
        if _is_secret_text(argument):
            # Print only the name of a flag. In any other word the secret may be before an equals sign.
            name = argument.partition("=")[0] if argument.startswith("--") else "after --"
            raise UserError(f"argument {name}: it holds a password", hint=HINT)


def looks_secret(name: str) -> bool:
    """Return whether a variable of this name probably holds a secret."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name.upper()) if word]
    if not words or words[-1] in _REFERENCES:
        return False
    return any(word in _WORDS or word.endswith((*_ENDINGS, *_PLURALS)) for word in words)


def _reason(name: str, text: str) -> str:
    """Return the reason why a value is refused, or an empty text if it is allowed."""
    section, _, variable = name.partition(".")
    if section == "env" and looks_secret(variable):
        return "it looks like a secret, and jobctl writes env into the script and run.json"

    # A proxy may have no http://, as in user:password@host. The other pattern does not match this form.
    is_proxy = "proxy" in variable.lower() and _PROXY_PASSWORD.match(text)
    if _is_secret_text(text) or is_proxy:
        return "it holds a password, and jobctl would write it into the script and run.json"

    return ""


def _is_secret_text(text: str) -> bool:
    return any(pattern.search(text) for pattern in (_URL_PASSWORD, _URL_TOKEN, _TOKEN))


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield each text in a value with its flat key. The key of a mapping's entry is ``env.X``."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(f"{key}.{name}", item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(key, item)
    else:
        yield key, str(value)
