"""Settings: AURORA_* in the environment, checked at start; everything has a working default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from aurora.core.emails import EmailInvalid, check_email
from aurora.core.errors import AuroraError
from aurora.core.secrets import generate_service_token
from aurora.integrations.mail import OUTBOX, PORTS, Post

if TYPE_CHECKING:
    from aurora.integrations.access_tokens import AccessTokens

TOKEN_FILE: Final = "service_token"  # noqa: S105 - a file name


class SettingsInvalid(AuroraError):
    """A setting in the environment cannot be used."""

    code, title = "settings_invalid", "A setting cannot be used"


def default_home() -> Path:
    """Return the user's data folder, or /var/lib/aurora for root."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/aurora")
    return Path(platformdirs.user_data_dir("aurora"))


class Settings(BaseSettings):
    """What can be set from outside.

    Attributes:
        home: Where the embedded PostgreSQL and the service token live.
        database_url: Your own PostgreSQL, 15 to 18; none means the embedded one.
        migration_database_url: A login that owns the schema, where the application's does not.
        port: Of the HTTP server on `host`.
        service_token: What operators send as Bearer; none means the one in `home`.
        database_pool_size: Connections of one API process.
        public_url: Where people reach this installation; none means http://127.0.0.1 and the port.
        smtp_url: smtp://user:password@host:587 or smtps://…; none lays mail into `home`/outbox.
        mail_from: Who mail comes from.
        supabase_url: The Supabase project whose people sign in here, by its published keys.
        supabase_jwt_secret: The same by its shared secret (HS256).
        key_lease_ms: How long a process may trust what it remembers of keys without proof that
            nothing has changed, in milliseconds.
        key_cache_records: How many keys a process remembers, about 0.4 kB each.
    """

    model_config = SettingsConfigDict(env_prefix="AURORA_", extra="ignore")

    home: Path = Field(default_factory=default_home)
    database_url: SecretStr | None = None
    migration_database_url: SecretStr | None = None
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    service_token: SecretStr | None = Field(None, min_length=24)
    database_pool_size: int = Field(8, ge=1, le=100)
    public_url: str | None = Field(None, pattern=r"^https?://[^\s?#]+$")
    smtp_url: SecretStr | None = None
    mail_from: str = "aurora@localhost.localdomain"
    supabase_url: str | None = None
    supabase_jwt_secret: SecretStr | None = None
    key_lease_ms: int = Field(1000, ge=100, le=60_000)
    key_cache_records: int = Field(1_000_000, ge=1_000, le=10_000_000)

    @field_validator("smtp_url")
    @classmethod
    def _check_smtp_url(cls, url: SecretStr | None) -> SecretStr | None:
        parts = None if url is None else urlsplit(url.get_secret_value())
        if parts is not None and (parts.scheme not in PORTS or not parts.hostname):
            raise ValueError("write smtp://user:password@host:587 or smtps://user:password@host")
        return url

    @field_validator("mail_from")
    @classmethod
    def _check_mail_from(cls, address: str) -> str:
        try:
            return check_email(address)
        except EmailInvalid as error:
            raise ValueError(error.detail) from None

    def post(self) -> Post:
        """Return how mail leaves this installation."""
        return Post(
            sender=self.mail_from,
            public_url=self.address(),
            outbox=self.home / OUTBOX,
            smtp_url=None if self.smtp_url is None else self.smtp_url.get_secret_value(),
        )

    def address(self) -> str:
        """Return where people reach the server: scheme, host, and port."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = "[::1]" if self.host == "::1" else "127.0.0.1"
        return f"http://{host}:{self.port}"

    def access_tokens(self) -> AccessTokens | None:
        """Return what verifies Supabase's access tokens, or None where none are accepted.

        Raises:
            AccessTokenSettingsInvalid: The secret is too short, or the address not safe.
        """
        if self.supabase_url is None and self.supabase_jwt_secret is None:
            return None
        from aurora.integrations.access_tokens import AccessTokens

        secret = self.supabase_jwt_secret
        return AccessTokens(
            secret=None if secret is None else secret.get_secret_value(), url=self.supabase_url
        )

    def token(self) -> str:
        """Return the operators' token, made once and kept in `home` where none is set.

        Raises:
            SettingsInvalid: `home` cannot be written.
        """
        if self.service_token is not None:
            return self.service_token.get_secret_value()
        path = self.home / TOKEN_FILE
        try:
            if path.exists():
                return path.read_text("ascii").strip()
            # Under root PostgreSQL's own account must pass through it, and only that.
            mode = 0o711 if os.geteuid() == 0 else 0o700
            self.home.mkdir(mode=mode, parents=True, exist_ok=True)
            token = generate_service_token()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(token + "\n")
        except OSError as error:
            raise SettingsInvalid(
                f"{path} cannot be used: {error.strerror}; set AURORA_HOME or AURORA_SERVICE_TOKEN."
            ) from error
        return token


def load_settings(**overrides: object) -> Settings:
    """Return the settings of this process; options given on the command line come first.

    Raises:
        SettingsInvalid: A value cannot be used; the message names the variable, not the value.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "AURORA_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsInvalid(f"{name}: {first['msg']}.") from None
