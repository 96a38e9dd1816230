"""How the demo reaches the S3 server of its sources: as whoever starts it would, by the usual AWS variables."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from dpn.cancellation import Cancellation
from dpn.errors import Misconfigured, ServiceUnavailable
from dpn.packaging.location import s3_location
from dpn.packaging.settings import DepositS3Settings
from tools.network.errors import Unusable
from tools.network.toml_text import Table

KEY, SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
VARIABLES = {
    "endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "access_key_id": (KEY,),
    "secret_access_key": (SECRET,),
}
"""Of several, the first that is set counts."""


def s3_settings(environment: Mapping[str, str]) -> Table:
    """The table [ingest.s3] of a node that is to fetch what these variables reach."""
    table: Table = {}
    for key, names in VARIABLES.items():
        value = next((environment[name] for name in names if environment.get(name)), None)
        if value is not None:
            table[key] = value
    return table


def size_of_prefix(source: str, settings: Table, cancellation: Cancellation) -> int:
    """The bytes of all objects under `s3://bucket/prefix/`. Raises Unusable, SourceRefused."""
    from dpn.packaging.s3 import object_sizes  # only here: boto3 takes a quarter of a second to load

    if "access_key_id" not in settings or "secret_access_key" not in settings:
        raise Unusable(
            f"{source}: set {KEY} and {SECRET}: the nodes of the demo have no other way to know who you are"
        )
    try:
        access = DepositS3Settings.model_validate(settings)
        sizes = [size for _, size in object_sizes(s3_location(source), access, cancellation)]
    except ValidationError as error:
        raise Unusable(f"{source}: the AWS_* variables are not usable: {error.errors()[0]['msg']}") from error
    except (Misconfigured, ServiceUnavailable) as error:
        raise Unusable(f"{source}: {error} (asked as the AWS_* variables say)") from error
    if not sizes:
        raise Unusable(f"{source}: there is no object under this prefix: name one that holds something")
    return sum(sizes)
