"""Registers the search attributes that operations carry, where the server lacks them."""

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from workflows.contracts.search_attributes import ALL


async def register(client: Client) -> tuple[str, ...]:
    """Add what is missing and return its names; two workers that start at once do not disturb each other."""
    operator = client.operator_service
    present = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    missing = {
        key.name: IndexedValueType.ValueType(int(key.indexed_value_type))
        for key in ALL
        if key.name not in present.custom_attributes
    }
    if missing:
        try:
            await operator.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.ALREADY_EXISTS:
                raise
    return tuple(missing)
