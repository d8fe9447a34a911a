"""Share links as the API takes and answers them, and what a guest sees through one."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, SecretStr

from activities.db.repositories.shares import ShareState
from api.envelope import ApiInput, ApiModel
from workflows.domain.operations import EnvironmentPhase

LONGEST_PIN = 64
_PIN = rf"^[!-~]{{4,{LONGEST_PIN}}}$"


class CreateShare(ApiInput):
    """What `POST /environments/{id}/share` is sent; everything may be left out."""

    label: str = Field(
        default="",
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="For whom or what, one line: shown in the list only",
    )
    expires_in_seconds: int | None = Field(
        default=None,
        ge=60,
        description="Seconds from now; absent: 7 days, unless the operator chose otherwise",
    )
    pin: SecretStr | None = Field(
        default=None,
        json_schema_extra={"minLength": 4, "maxLength": LONGEST_PIN, "pattern": _PIN},
        description="Letters, digits and signs of ASCII without spaces; guests have to give it too",
    )
    show_images: bool = Field(default=False, description="Let guests see the images of the services")


class ShareOut(ApiModel):
    """A share link, without the link: that is answered once, when it is made."""

    id: str
    environment_id: str
    label: str
    state: ShareState = Field(description="`locked`: too many wrong PINs, until `lockedUntil`")
    pin: bool = Field(description="Whether guests need a PIN")
    show_images: bool
    views: int
    last_viewed_at: datetime | None = None
    locked_until: datetime | None = None
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


class ShareCreatedOut(ShareOut):
    """A new share link."""

    token: str = Field(description="Opens the environment to whoever has it; never answered again")
    url: str = Field(description="The page for people; the token is in the fragment, which no server sees")
    api_url: str = Field(description="The same as JSON, for programs")


class GuestService(ApiModel):
    """One service, as guests see it."""

    name: str
    kind: str = Field(description="`service` or `job`")
    state: str | None = Field(
        default=None, description="`ready`, `starting`, `failing` or `absent`; absent: not known"
    )
    replicas: int
    ready: int | None = None
    store: str | None = Field(default=None, description="Kind of data that it keeps")
    image: str | None = Field(default=None, description="Only when the link shows images")


class GuestEdge(ApiModel):
    """`source` waits for `target`."""

    source: str
    target: str


class GuestTopology(ApiModel):
    """What depends on what."""

    nodes: list[str]
    edges: list[GuestEdge]


class GuestEndpoint(ApiModel):
    """A service that is reached from outside."""

    service: str
    url: str | None = Field(default=None, description="Absent: through Perdure's API only")


class ShareViewOut(ApiModel):
    """An environment as guests see it: nothing of its configuration, secrets, logs or owner."""

    name: str
    description: str
    status: EnvironmentPhase
    terminal: bool = Field(description="Nothing more happens by itself")
    services: list[GuestService]
    topology: GuestTopology
    endpoints: list[GuestEndpoint]
    cluster_reachable: bool = Field(description="False: what the services do is not known")
    observed_at: datetime
    expires_at: datetime = Field(description="When the link ends")
