"""Search attributes: the one list that registers them, sets them and finds by them.

They are stored in clear for ever: ids and enumerations only, never names of people or contents.
"""

from typing import Final

from temporalio.common import SearchAttributeKey

ORGANIZATION_ID: Final = SearchAttributeKey.for_keyword("OrganizationId")
ENVIRONMENT_ID: Final = SearchAttributeKey.for_keyword("EnvironmentId")
OPERATION_KIND: Final = SearchAttributeKey.for_keyword("OperationKind")
PHASE: Final = SearchAttributeKey.for_keyword("Phase")
FAILURE_KIND: Final = SearchAttributeKey.for_keyword("FailureKind")

ALL: Final = (ORGANIZATION_ID, ENVIRONMENT_ID, OPERATION_KIND, PHASE, FAILURE_KIND)
