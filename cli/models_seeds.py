"""Seeds as the API answers them, as far as the command line looks at them; see `models`."""

from datetime import datetime

from pydantic import JsonValue

from cli.models import ApiModel, TemplateParameter


class SeedParameter(TemplateParameter):
    """One parameter of a seed package."""

    secret: bool = False


class SeedPackage(ApiModel):
    """One version of a seed package; what it runs is there only when that one was asked for."""

    name: str
    version: str
    description: str = ""
    digest: str = ""
    type: str = ""
    service: str | None = None
    parameters: tuple[SeedParameter, ...] = ()
    created_at: datetime | None = None
    script: str | None = None
    image: str | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    http: dict[str, JsonValue] | None = None
