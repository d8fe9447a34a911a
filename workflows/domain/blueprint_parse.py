"""From a parsed YAML or JSON document to a Blueprint, or to the list of everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, cast

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_checks import Draft, ScriptFault, check_routing, check_services
from workflows.domain.blueprint_models import DEFAULT_HEADER, Blueprint, OnFailure, Routing, RoutingMode
from workflows.domain.blueprint_objects import check_objects
from workflows.domain.blueprint_read import Fields, nearest, text_of
from workflows.domain.blueprint_service import read_service
from workflows.domain.blueprint_tree import (
    MAX_REPORTED,
    UNUSABLE,
    Faults,
    Node,
    Unusable,
    build_tree,
    kind_of,
    merge,
    show,
    to_plain,
)
from workflows.domain.errors import BlueprintInvalid
from workflows.domain.init_sql import sql_fault
from workflows.domain.wording import listed

_PLAN_KEYS: Final = (
    "description", "services", "routing", "autoShutdownEnabled", "autoShutdownDelayMinutes", "ttlMinutes",
    "onFailure", "protected", "labels",
)  # fmt: skip
BLUEPRINT_KEYS: Final = ("name", *_PLAN_KEYS, "plans")
_MOST_PLANS: Final = 10
YEAR_MINUTES: Final = 366 * 24 * 60


def parse_blueprint(document: object, *, plan: str | None = None, name: str | None = None) -> Blueprint:
    """Read a Blueprint from a parsed document (dicts, lists, scalars).

    `plan` names the profile that is laid over the base before the whole is checked; the result has no plans
    then. Without it every plan is checked over the base and kept as written. `name` takes the place of the
    document's name.
    Raises BlueprintInvalid with every fault of the document in its order, and nothing else.
    """
    faults = Faults()
    root = build_tree(document, faults)
    if not isinstance(root.value, dict):
        if not isinstance(root.value, Unusable):
            faults.add(
                root,
                f"a Blueprint is a mapping, got {_document_kind(root)}",
                "begin with name: and services:",
            )
        raise BlueprintInvalid(faults.ordered())
    if name is not None:
        root = Node({**root.value, "name": Node(_given_name(name), ("name",), ())}, root.path, root.order)
    plans = _read_plans(root, faults)
    # Each plan is a reading of the whole, and reading long scripts takes its time.
    script_fault = cache(sql_fault)
    if plan is None:
        blueprint = _read(root, faults, script_fault)
    elif plan in plans:
        blueprint = _read(_lay_over(root, plans[plan], faults), faults, script_fault)
    else:
        meant = nearest(plan, plans)
        known = f"plans here: {listed(list(plans))}" if plans else "this Blueprint has no plans"
        faults.add(
            root.at("plans"), f"there is no plan {show(plan)}", f'did you mean "{meant}"?' if meant else known
        )
        blueprint = _read(root, faults, script_fault)
    base = _copy_of(faults)
    for plan_name, node in plans.items():
        if plan_name == plan:
            continue
        if len(faults) >= MAX_REPORTED:
            # What this plan adds would not be shown, and reading each plan of a hopeless document takes long.
            break
        found = Faults()
        _read(_lay_over(root, node, found), found, script_fault)
        faults.adopt(
            found,
            under=("plans", plan_name),
            base=base if plan is None else None,
            prefix=f"with plan {show(plan_name)}: ",
        )
    if len(faults):
        raise BlueprintInvalid(faults.ordered())
    kept = (
        {key: cast(dict[str, JsonValue], to_plain(node)) for key, node in plans.items()}
        if plan is None
        else {}
    )
    return blueprint.model_copy(update={"plans": kept})


def _given_name(name: object) -> str | int:
    # What a caller passes beside the document is not part of the tree and has not been looked at yet.
    return name.encode("utf-8", "backslashreplace").decode() if isinstance(name, str) else 0


def _copy_of(faults: Faults) -> Faults:
    copy = Faults()
    copy.adopt(faults, under=(), base=None, prefix="")
    return copy


def _document_kind(root: Node) -> str:
    if root.value is None:
        return "an empty document"
    if isinstance(root.value, list):
        return "a list"
    return f"{kind_of(root.value)}: {show(root.value)}"


def _read_plans(root: Node, faults: Faults) -> dict[str, Node]:
    fields = Fields(root, faults)
    plans: dict[str, Node] = {}
    entries = fields.entries("plans", "names to profiles")
    if len(entries) > _MOST_PLANS:
        faults.add(root.at("plans"), f"{len(entries)} plans, at most {_MOST_PLANS} are allowed")
    for name, node in list(entries.items())[:_MOST_PLANS]:
        problem = rules.object_name(name)
        if problem is not None:
            faults.add(node, f"the plan's name {problem[0]}", problem[1])
        if node.absent:
            plans[name] = Node({}, node.path, node.order)
        elif Fields.of(node, faults, _PLAN_KEYS, "a plan") is not None:
            plans[name] = node
    return plans


def _read(root: Node, faults: Faults, script_fault: ScriptFault) -> Blueprint:
    fields = Fields.of(root, faults, BLUEPRINT_KEYS, "a Blueprint") or Fields(root, faults)
    name = fields.text("name", rules.blueprint_name)
    fields.missing("name", "for example payments-dev")
    drafts = _read_services(fields)
    services = check_services(root.at("services"), drafts, faults, script_fault)
    check_objects(drafts, faults)
    return Blueprint(
        name=name or "",
        description=fields.text("description", None, 4096) or "",
        services=services,
        routing=_routing(fields),
        auto_shutdown_enabled=fields.boolean("autoShutdownEnabled", default=False),
        auto_shutdown_delay_minutes=fields.integer("autoShutdownDelayMinutes", 1, YEAR_MINUTES, 30),
        ttl_minutes=fields.integer("ttlMinutes", 1, YEAR_MINUTES, 0) or None,
        on_failure=fields.choice("onFailure", OnFailure) or OnFailure.KEEP,
        protected=fields.boolean("protected", default=False),
        labels=_labels(fields),
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str | None
    node: Node


def _entries(node: Node) -> list[_Entry]:
    if isinstance(node.value, dict):
        return [_Entry(key, child) for key, child in node.value.items()]
    return [_Entry(None, child) for child in node.items]


def _read_services(fields: Fields) -> list[Draft]:
    child = fields.child("services")
    if child is None:
        fields.missing("services", "services: [{name: api, image: ...}]")
        return []
    if not isinstance(child.value, dict | list):
        fields.faults.add(
            child, f"must be a list of services or a mapping by name, got {kind_of(child.value)}"
        )
        return []
    entries = _entries(child)
    if not entries and not fields.faults.broken(child):
        fields.faults.add(
            child, "a Blueprint has at least one service", "services: [{name: api, image: ...}]"
        )
    return [
        Draft(read_service(entry.node, entry.key, fields.faults), entry.node)
        for entry in entries
        if not isinstance(entry.node.value, Unusable)
    ]


def _routing(fields: Fields) -> Routing:
    child = fields.child("routing")
    keys = ("mode", "baselineId", "overlayId", "headerName", "propagateHeader")
    part = None if child is None else Fields.of(child, fields.faults, keys, "routing")
    if part is None:
        return Routing()
    routing = Routing(
        mode=part.choice("mode", RoutingMode) or RoutingMode.ISOLATED,
        baseline_id=part.text("baselineId", rules.baseline_id),
        overlay_id=part.text("overlayId", rules.overlay_id),
        header_name=part.text("headerName", rules.header_name) or DEFAULT_HEADER,
        propagate_header=part.boolean("propagateHeader", default=True),
    )
    check_routing(routing, part.node, fields.faults)
    return routing


def _labels(fields: Fields) -> dict[str, str]:
    labels: dict[str, str] = {}
    for key, item in fields.entries("labels", "keys to text").items():
        problem = rules.label_key(key)
        if problem is not None:
            fields.faults.add(item, *problem)
        value = text_of(item, fields.faults, rules.label_value)
        if problem is None and value is not None:
            labels[key] = value
    return labels


def _lay_over(base: Node, plan: Node, faults: Faults) -> Node:
    """The base with a plan laid over it; services are matched by name, in whichever form they are written."""
    ours = {key: child for key, child in plan.mapping.items() if key in _PLAN_KEYS and key != "services"}
    merged = dict(merge(base, Node(ours, plan.path, plan.order)).mapping)
    over = plan.mapping.get("services")
    if over is None or over.absent:
        return Node(merged, base.path, base.order)
    if not isinstance(over.value, dict | list):
        if not isinstance(over.value, Unusable):
            faults.add(over, f"must be a list of services or a mapping by name, got {kind_of(over.value)}")
        return Node(merged, base.path, base.order)
    services = merged.get("services", Node(UNUSABLE, base.path, base.order))
    merged["services"] = _merge_services(services, over, faults)
    return Node(merged, base.path, base.order)


def _merge_services(base: Node, over: Node, faults: Faults) -> Node:
    changes = _changes_by_name(over, faults)
    result: list[tuple[str | None, Node]] = []
    known: list[str] = []
    for entry in _entries(base):
        name = entry.key if entry.key is not None else entry.node.at("name").value
        change = changes.pop(name, None) if isinstance(name, str) else None
        if isinstance(name, str):
            known.append(name)
        if change is None:
            result.append((entry.key, entry.node))
        elif not change.absent:
            result.append((entry.key, merge(entry.node, change)))
    if base.mapping or base.items:
        for name, node in changes.items():
            meant = nearest(name, known) if faults.suggesting else None
            hint = f'did you mean "{meant}"?' if meant else f"services of the base: {listed(known)}"
            faults.add(
                node, f"the base has no service {show(name)}; a plan changes services, it adds none", hint
            )
    if isinstance(base.value, dict):
        return Node({key: node for key, node in result if key is not None}, base.path, base.order)
    return Node([node for _, node in result], base.path, base.order)


def _changes_by_name(over: Node, faults: Faults) -> dict[str, Node]:
    changes: dict[str, Node] = {}
    if isinstance(over.value, Mapping):
        return dict(over.value)
    for item in over.items:
        name = item.mapping.get("name")
        if name is None or not isinstance(name.value, str):
            faults.add(item, "names no service of the base", "give it the name of one", key="name")
        elif name.value in changes:
            faults.add(name, f"{show(name.value)} is changed twice")
        else:
            changes[name.value] = item
    return changes
