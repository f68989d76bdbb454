"""What a service is told: where it listens, what it takes, how long it waits."""

from collections.abc import Mapping
from typing import Any, final

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mohs.errors import InputError, Problem
from mohs.settings.section import setting_problems

__all__ = ["ServeSettings", "read_settings"]


@final
class ServeSettings(BaseSettings):
    """Settings of the service; each is also read from the environment, as MOHS_SERVE_ and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="MOHS_SERVE_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="0: any that is free")
    allowed_hosts: tuple[str, ...] = Field((), description="further names by which the service may be asked")
    token: SecretStr | None = Field(None, min_length=16, description="what allows items to be added and removed")
    review_list: str | None = Field(None, description="file for feedback; None: review.csv in the index")
    max_review_bytes: int = Field(10 * 2**20, ge=1, description="feedback is refused beyond")
    max_body_bytes: int = Field(10 * 2**20, ge=1, description="of a request")
    max_buffered_bytes: int = Field(320 * 2**20, ge=1, description="of all requests that are being read")
    max_pixels: int = Field(50_000_000, ge=1, description="of a picture")
    max_matches: int = Field(200, ge=1, description="of an answer")
    max_queue: int = Field(32, ge=1, description="queries that may be under way at once")
    max_batch: int = Field(32, ge=1, description="queries that are embedded together")
    max_connections: int = Field(1000, ge=1, description="open at once; further ones are closed")
    header_s: float = Field(10.0, gt=0, description="for the header of a request")
    body_s: float = Field(20.0, gt=0, description="for its body")
    inference_s: float = Field(20.0, gt=0, description="for its answer")
    send_s: float = Field(20.0, gt=0, description="for the answer to be taken")
    reload_s: float = Field(0.5, gt=0, description="how often to look for a new version; of a bucket 10")

    @property
    def hosts(self) -> frozenset[str]:
        """Names that a request may be for, in small letters."""
        return frozenset(name.lower() for name in ("127.0.0.1", "localhost", "::1", self.host, *self.allowed_hosts))


def read_settings(given: Mapping[str, Any]) -> ServeSettings:
    """Return the settings of the environment, changed by those that are given; raise `InputError` for wrong ones."""
    try:
        return ServeSettings(**given)
    except ValidationError as error:
        # A secret is not told, even a wrong one.
        hidden = Problem("token", "has fewer than 16 characters", "use a longer one")
        problems = setting_problems(error, source="")
        raise InputError(*(hidden if each.place == "token" else each for each in problems)) from None
