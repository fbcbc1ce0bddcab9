"""Whether there is a W&B account to log to: key, server, and a quick question to the server.

Reads what wandb reads (environment, netrc, settings file) without importing it, since the import
alone takes most of a second.
"""

from __future__ import annotations

import base64
import configparser
import json
import netrc
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pgolf.provenance import environment

PUBLIC_SERVER = "https://api.wandb.ai"


@dataclass(frozen=True)
class Account:
    """A server and the key for it.

    Args:
        url: base URL of the server, without a final slash.
        key: API key, or None.
        token: an identity token is configured, so wandb needs no key.
    """

    url: str
    key: str | None
    token: bool = False

    @property
    def usable(self) -> bool:
        return self.key is not None or self.token


def find_account() -> Account:
    """The server and key that wandb would use."""
    url = environment("WANDB_BASE_URL") or _settings_url() or PUBLIC_SERVER
    url = url.rstrip("/")
    key = environment("WANDB_API_KEY") or _netrc_key(urlsplit(url).netloc)
    return Account(url, key, environment("WANDB_IDENTITY_TOKEN_FILE") is not None)


def _settings_url() -> str | None:
    """`base_url` of the file that `wandb login --host` writes."""
    folder = environment("WANDB_CONFIG_DIR")
    path = (Path(folder) if folder else Path.home() / ".config" / "wandb") / "settings"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
        return parser.get("default", "base_url", fallback=None)
    except (configparser.Error, OSError, UnicodeDecodeError):
        return None


def _netrc_key(host: str) -> str | None:
    named = environment("NETRC")
    home = Path.home()
    for path in [Path(named).expanduser()] if named else [home / ".netrc", home / "_netrc"]:
        try:
            found = netrc.netrc(str(path)).authenticators(host)
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
        if found and found[2]:
            return found[2]
    return None


def probe(account: Account, timeout_s: float) -> str | None:
    """Ask the server who the key belongs to; returns what is wrong, or None when it answers.

    Never takes longer than `timeout_s`, slow name resolution included.
    """
    outcome: list[str | None] = []
    thread = threading.Thread(
        target=lambda: outcome.append(_ask(account, timeout_s)), name="wandb-probe", daemon=True
    )
    thread.start()
    thread.join(timeout_s)
    return outcome[0] if outcome else f"no answer within {timeout_s:g} s"


def _ask(account: Account, timeout_s: float) -> str | None:
    headers = {"Content-Type": "application/json"}
    if account.key is not None:
        secret = base64.b64encode(f"api:{account.key}".encode()).decode()
        headers["Authorization"] = f"Basic {secret}"
    body = json.dumps({"query": "query Viewer { viewer { id } }"}).encode()
    try:
        request = urllib.request.Request(f"{account.url}/graphql", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:
            answer = json.loads(reply.read(1 << 20))
    except urllib.error.HTTPError as error:
        refused = error.code in (401, 403)
        return "it refuses the API key" if refused else f"HTTP status {error.code}"
    except urllib.error.URLError as error:
        return _words(error.reason)
    except (OSError, ValueError) as error:
        return _words(error)
    # An unknown key is answered politely, with nobody behind it.
    unknown = isinstance(answer, dict) and (answer.get("data") or {}).get("viewer", 0) is None
    return "it does not know the API key" if unknown and account.key else None


def _words(error: object) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
