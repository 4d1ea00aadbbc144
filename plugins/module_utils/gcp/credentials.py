# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who we are towards Google: the auth kinds that google.cloud users know, one credentials object a process."""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, GoogleApiError

# cloud-platform for the APIs; userinfo.email because without it the cluster's RBAC sees a number instead of an e-mail.
DEFAULT_SCOPES = (
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/userinfo.email",
)
LOGIN_HINT = (
    "For yourself: gcloud auth application-default login. For automation: set GOOGLE_APPLICATION_CREDENTIALS, or "
    "auth_kind=serviceaccount with service_account_file, or auth_kind=accesstoken with access_token."
)


@dataclass(frozen=True)
class AuthSettings:
    """The options of the ``llmd.gke.gcp`` fragment that say who we are."""

    auth_kind: str = "application"
    project: str = ""
    service_account_file: str = ""
    service_account_contents: str = ""
    service_account_email: str = ""
    access_token: str = ""
    scopes: tuple[str, ...] = DEFAULT_SCOPES

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> AuthSettings:
        scopes: Sequence[str] = params.get("scopes") or DEFAULT_SCOPES
        contents = params.get("service_account_contents") or ""
        return cls(
            auth_kind=params.get("auth_kind") or "application",
            project=params.get("project") or "",
            service_account_file=params.get("service_account_file") or "",
            service_account_contents=contents if isinstance(contents, str) else json.dumps(contents),
            service_account_email=params.get("service_account_email") or "",
            access_token=params.get("access_token") or "",
            scopes=tuple(scopes),
        )


@dataclass(frozen=True)
class AccessToken:
    """A bearer token. ``expires_at`` is RFC 3339 in UTC, empty where unknown (a token that the caller supplied)."""

    value: str
    expires_at: str

    def __repr__(self) -> str:  # a token must not reach a log by accident
        return f"AccessToken(value=..., expires_at={self.expires_at!r})"


class TokenSource(Protocol):
    """Where a bearer token comes from."""

    def access_token(self, *, min_seconds: float = 0) -> AccessToken: ...


def library_missing(name: str, error: Exception) -> ConfigurationError:
    """The error for a Python library that the interpreter of the task cannot import."""
    return ConfigurationError(
        f"The Python library {name} is missing where this task runs",
        code="LIBRARY_MISSING",
        why=str(error),
        remedy=f"pip install {name} into the Python that ansible_python_interpreter names.",
    )


def load(settings: AuthSettings) -> Any:
    """google-auth credentials for ``settings``; the same object for the same settings within one process.

    Raises ConfigurationError (LIBRARY_MISSING, AUTH_OPTION_MISSING, CREDENTIALS_UNREADABLE, CREDENTIALS_NOT_FOUND).
    """
    if settings not in _LOADED:
        _LOADED[settings] = _load(settings)
    return _LOADED[settings]


_LOADED: dict[AuthSettings, Any] = {}


def _load(settings: AuthSettings) -> Any:
    try:
        import google.auth  # noqa: F401
        import requests  # noqa: F401
    except ImportError as error:
        raise library_missing("google-auth and requests", error) from error
    loaders = {
        "application": _application,
        "serviceaccount": _service_account,
        "machineaccount": _machine_account,
        "accesstoken": _given_token,
    }
    if settings.auth_kind not in loaders:
        raise ConfigurationError(
            f"auth_kind {settings.auth_kind!r} is none of {', '.join(loaders)}", code="AUTH_OPTION_MISSING"
        )
    return loaders[settings.auth_kind](settings)


def _application(settings: AuthSettings) -> Any:
    import google.auth
    import google.auth.exceptions

    # Without it google-auth asks cloudresourcemanager, at a fixed host, for the project of a federated identity.
    if settings.project:
        os.environ.setdefault("GOOGLE_CLOUD_PROJECT", settings.project)
    try:
        credentials, _project = google.auth.default(scopes=list(settings.scopes))
    except google.auth.exceptions.DefaultCredentialsError as error:
        named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
        raise ConfigurationError(
            "No usable application default credentials",
            code="CREDENTIALS_NOT_FOUND",
            where=named or "gcloud's application_default_credentials.json, then the metadata server",
            why=str(error),
            remedy=LOGIN_HINT,
        ) from error
    return credentials


def _service_account(settings: AuthSettings) -> Any:
    from google.oauth2 import service_account

    if bool(settings.service_account_file) == bool(settings.service_account_contents):
        raise ConfigurationError(
            "auth_kind=serviceaccount needs exactly one of service_account_file and service_account_contents",
            code="AUTH_OPTION_MISSING",
            remedy="Set GCP_SERVICE_ACCOUNT_FILE or the option service_account_file.",
        )
    where = settings.service_account_file or "service_account_contents"
    try:
        if settings.service_account_file:
            with open(os.path.expanduser(settings.service_account_file), encoding="utf-8") as stream:
                info = json.load(stream)
        else:
            info = json.loads(settings.service_account_contents)
        return service_account.Credentials.from_service_account_info(info, scopes=list(settings.scopes))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        # Never quote the contents: they hold a private key. ValueError of google-auth names only what is missing.
        raise ConfigurationError(
            "The service account key cannot be read",
            code="CREDENTIALS_UNREADABLE",
            where=where,
            why=error.strerror or ""
            if isinstance(error, OSError)
            else f"{type(error).__name__}: not a service account's JSON",
            remedy="Give the JSON key file of a service account (gcloud iam service-accounts keys create),",
        ) from error


def _machine_account(settings: AuthSettings) -> Any:
    from google.auth import compute_engine

    return compute_engine.Credentials(
        service_account_email=settings.service_account_email or "default", scopes=list(settings.scopes)
    )


def _given_token(settings: AuthSettings) -> Any:
    from google.oauth2 import credentials

    if not settings.access_token:
        raise ConfigurationError(
            "auth_kind=accesstoken needs access_token",
            code="AUTH_OPTION_MISSING",
            remedy="Set GCP_ACCESS_TOKEN, for example to the output of: gcloud auth print-access-token.",
        )
    return credentials.Credentials(settings.access_token)


def refused(error: Exception, settings: AuthSettings) -> GoogleApiError:
    """google-auth could not get or renew a token."""
    if re.search(r"Token used too early|must be a short-lived token", str(error)):
        return GoogleApiError(
            "Google refuses our signature because of its time",
            status=401,
            code="CLOCK_SKEW",
            where=f"auth_kind={settings.auth_kind}",
            why=str(error.args[0] if error.args else error)[:1000],
            remedy="Set the clock of the machine that runs this task (timedatectl set-ntp true) and run again.",
        )
    return GoogleApiError(
        "Google did not give us an access token",
        status=401,
        code="UNAUTHENTICATED",
        where=f"auth_kind={settings.auth_kind}",
        why=str(error.args[0] if error.args else error)[:1000],
        remedy="A supplied access token lives an hour at most and cannot be renewed here: give a fresh one."
        if settings.auth_kind == "accesstoken"
        else LOGIN_HINT,
    )


def seconds_left(expiry: datetime.datetime | None, now: datetime.datetime) -> float | None:
    """Seconds until google-auth's naive UTC ``expiry``; None where it is unknown."""
    if expiry is None:
        return None
    return (expiry.replace(tzinfo=datetime.UTC) - now).total_seconds()


def rfc3339(expiry: datetime.datetime | None) -> str:
    """google-auth's naive UTC expiry as text, empty where unknown."""
    return "" if expiry is None else expiry.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
