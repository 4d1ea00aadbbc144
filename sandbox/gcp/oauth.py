"""Tokens: service-account grant, security token service, impersonation, token information, metadata server.

These endpoints are not API methods: they are found by host and path, and they word errors as RFC 6749 does.
"""

from __future__ import annotations

import datetime
import json
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sandbox.gcp.api import Call, handles
from sandbox.gcp.errors import ApiError, OAuthError, error_info
from sandbox.gcp.identity import CLOUD_PLATFORM, DEFAULT_SCOPES, USERINFO_EMAIL, BadAssertion, Token

if TYPE_CHECKING:
    from sandbox.gcp.world import World

Json = dict[str, Any]

LIFETIME = 3599
_JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
METADATA_HOSTS = ("metadata.google.internal", "169.254.169.254", "metadata")


def parameters(raw: bytes, query: Mapping[str, list[str]]) -> dict[str, str]:
    """Parameters of a token request: form or JSON body, then the query."""
    found = {name: values[-1] for name, values in query.items()}
    if raw.lstrip()[:1] == b"{":
        try:
            found |= {str(key): str(value) for key, value in json.loads(raw).items()}
        except ValueError as error:
            raise OAuthError("invalid_request", "Could not parse the request body.") from error
    else:
        found |= dict(urllib.parse.parse_qsl(raw.decode("utf-8", "replace")))
    return found


def token(world: World, given: dict[str, str]) -> Json:
    """``POST oauth2.googleapis.com/token``: a signed assertion or a refresh token for an access token."""
    grant = given.get("grant_type", "")
    if grant == _JWT:
        try:
            claims = world.accounts.verify(given.get("assertion", ""))
        except BadAssertion as error:
            raise OAuthError("invalid_grant", str(error)) from error
        if not str(claims.get("aud", "")).endswith(("/token", "/oauth2/v4/token")):
            raise OAuthError("invalid_grant", "Invalid JWT: Failed audience check.")
        scopes = tuple(str(claims.get("scope", "")).split())
        if not scopes:
            raise OAuthError("invalid_scope", "Empty or missing scope not allowed.")
        return _granted(world, str(claims["iss"]), scopes)
    if grant == "refresh_token":
        email = world.accounts.refresh_tokens.get(given.get("refresh_token", ""))
        if email is None:
            raise OAuthError("invalid_grant", "Token has been expired or revoked.")
        return _granted(world, email, DEFAULT_SCOPES)
    raise OAuthError("unsupported_grant_type", f"Invalid grant_type: {grant}")


def _granted(world: World, email: str, scopes: tuple[str, ...]) -> Json:
    access = world.accounts.issue(email, scopes, LIFETIME)
    return {"access_token": access, "expires_in": LIFETIME, "token_type": "Bearer", "scope": " ".join(scopes)}


def exchange(world: World, given: dict[str, str]) -> Json:
    """``POST sts.googleapis.com/v1/token``: a foreign identity's token for an access token."""
    grant = given.get("grant_type", given.get("grantType", ""))
    if grant != _EXCHANGE:
        raise OAuthError("unsupported_grant_type", f"Invalid grant_type: {grant}")
    subject = given.get("subject_token", given.get("subjectToken", ""))
    email = world.accounts.subject_tokens.get(subject)
    if email is None:
        raise OAuthError("invalid_grant", "The given credential is rejected by the attribute condition.")
    access = world.accounts.issue(email, (CLOUD_PLATFORM, USERINFO_EMAIL), LIFETIME)
    return {
        "access_token": access,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": LIFETIME,
    }


def tokeninfo(world: World, given: dict[str, str]) -> Json:
    """What an access token is; 400 ``invalid_token`` for one that is not valid (any more)."""
    found = world.accounts.token(given.get("access_token", ""))
    if found is None or world.accounts.expired(found):
        raise OAuthError("invalid_token", "Invalid Value")
    account = world.accounts.get(found.email)
    answer: Json = {
        "azp": account.unique_id if account else "",
        "aud": account.unique_id if account else "",
        "scope": " ".join(sorted(found.scopes)),
        "exp": str(int(found.expires)),
        "expires_in": str(max(0, int(found.expires - world.clock()))),
        "access_type": "online",
    }
    if USERINFO_EMAIL in found.scopes:
        answer |= {"email": found.email, "email_verified": "true"}
    return answer


def userinfo(world: World, found: Token) -> Json:
    account = world.accounts.get(found.email)
    answer: Json = {"id": account.unique_id if account else "0"}
    if USERINFO_EMAIL in found.scopes:
        answer |= {"email": found.email, "verified_email": True}
    return answer


# (host, path) -> what answers there. "token info" also under its older paths.
TOKEN_ENDPOINTS: dict[tuple[str, str], Callable[[World, dict[str, str]], Json]] = {
    ("oauth2.googleapis.com", "/token"): token,
    ("www.googleapis.com", "/oauth2/v4/token"): token,
    ("accounts.google.com", "/o/oauth2/token"): token,
    ("sts.googleapis.com", "/v1/token"): exchange,
    ("oauth2.googleapis.com", "/tokeninfo"): tokeninfo,
    ("www.googleapis.com", "/oauth2/v1/tokeninfo"): tokeninfo,
    ("www.googleapis.com", "/oauth2/v2/tokeninfo"): tokeninfo,
    ("www.googleapis.com", "/oauth2/v3/tokeninfo"): tokeninfo,
}
USERINFO = {
    ("www.googleapis.com", "/oauth2/v1/userinfo"),
    ("www.googleapis.com", "/oauth2/v2/userinfo"),
    ("www.googleapis.com", "/oauth2/v3/userinfo"),
    ("openidconnect.googleapis.com", "/v1/userinfo"),
}


# --- impersonation -----------------------------------------------------------------------------------------------


@handles("iamcredentials.projects.serviceAccounts.generateAccessToken")
def generate_access_token(call: Call) -> Json:
    email = call.params["name"].rsplit("/", 1)[-1]
    account = call.world.accounts.get(email)
    permission = "iam.serviceAccounts.getAccessToken"
    if account is None or not call.allowed(permission):
        metadata = {"permission": permission}
        text = f"Permission '{permission}' denied on resource (or it may not exist)."
        details = [error_info("IAM_PERMISSION_DENIED", metadata, "iam.googleapis.com")]
        raise ApiError(403, text, "PERMISSION_DENIED", "forbidden", details)
    seconds = float(str(call.body.get("lifetime") or "3600s").removesuffix("s"))
    if not 0 < seconds <= 3600:
        raise ApiError(
            400, "The request lifetime must be between 1 second and 1 hour.", "INVALID_ARGUMENT", "badRequest"
        )
    scopes = tuple(call.body.get("scope") or ())
    if not scopes:
        raise ApiError(400, "scope is required", "INVALID_ARGUMENT", "badRequest")
    access = call.world.accounts.issue(account.email, scopes, seconds)
    expires = datetime.datetime.fromtimestamp(call.world.clock() + seconds, datetime.UTC)
    return {"accessToken": access, "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}


@handles(
    "iamcredentials.projects.serviceAccounts.getAllowedLocations",
    "iamcredentials.locations.workforcePools.getAllowedLocations",
    "iamcredentials.projects.locations.workloadIdentityPools.getAllowedLocations",
)
def allowed_locations(call: Call) -> Json:
    """google-auth asks this in the background for every credential."""
    return {"locations": [], "encodedLocations": "0x0"}


# --- metadata server ---------------------------------------------------------------------------------------------


def metadata(world: World, path: str, query: Mapping[str, list[str]], flavor: str | None) -> tuple[str, str] | None:
    """Body and content type of a metadata path, None for 404. ApiError 403 without the Metadata-Flavor header."""
    if path in ("", "/"):
        return "computeMetadata/\n", "application/text"
    if flavor != "Google":
        raise ApiError(403, "Missing required header: Metadata-Flavor", "PERMISSION_DENIED")
    email = world.email("llmd-operator")
    path = path.removeprefix("/computeMetadata/v1/").rstrip("/")
    plain = {
        "project/project-id": world.project,
        "project/numeric-project-id": world.number,
        "universe/universe-domain": "googleapis.com",
        "instance/service-accounts/default/email": email,
        "instance/service-accounts/default/scopes": "\n".join(DEFAULT_SCOPES) + "\n",
    }
    path = path.replace(f"/{email}", "/default")
    if path in plain:
        return plain[path], "application/text"
    if path == "instance/service-accounts/default/token":
        scopes = tuple(scope for item in query.get("scopes", []) for scope in item.split(",")) or DEFAULT_SCOPES
        answer = _granted(world, email, scopes)
        answer.pop("scope")
        return json.dumps(answer), "application/json"
    if path == "instance/service-accounts/default":
        content = {"aliases": ["default"], "email": email, "scopes": list(DEFAULT_SCOPES)}
        return json.dumps(content), "application/json"
    if path == "instance/service-accounts":
        return f"default/\n{email}/\n", "application/text"
    return None
