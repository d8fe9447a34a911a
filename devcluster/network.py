"""The node's address and its masquerading; the removal of all that Kubernetes leaves in the tables."""

import re
from pathlib import Path

from devcluster.addresses import NODE_IP, NODE_LINK, POD_CIDR
from devcluster.tools import run, succeeds

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_COMMENT = "perdure-devcluster"
_TABLES = ("filter", "nat", "mangle")
# kube-proxy's chains and those of the CNI portmap plugin, which nothing else on this node uses.
_OURS = re.compile(r"^(KUBE-|CNI-(HOSTPORT|DN)-)")


def _rules() -> list[tuple[str, ...]]:
    # Accepting comes first because a container engine that was here before may have set the policy to drop.
    return [
        ("nat", "POSTROUTING", "-s", POD_CIDR, "!", "-d", POD_CIDR, "-j", "MASQUERADE"),
        ("filter", "FORWARD", "-s", POD_CIDR, "-j", "ACCEPT"),
        ("filter", "FORWARD", "-d", POD_CIDR, "-j", "ACCEPT"),
    ]


def set_up(state: Path) -> None:
    """Give the node its address and let pods reach the world; does only what is missing."""
    before = state / "ip_forward.before"
    if not before.exists():
        before.write_text(_FORWARDING.read_text())
    if _FORWARDING.read_text().strip() != "1":
        _FORWARDING.write_text("1\n")
    if not succeeds("ip", "link", "show", NODE_LINK):
        run("ip", "link", "add", NODE_LINK, "type", "bridge")
    run("ip", "address", "replace", f"{NODE_IP}/32", "dev", NODE_LINK)
    run("ip", "link", "set", NODE_LINK, "up")
    for table, chain, *rule in _rules():
        words = (*rule, "-m", "comment", "--comment", _COMMENT)
        if not succeeds("iptables", "-w", "5", "-t", table, "-C", chain, *words):
            run("iptables", "-w", "5", "-t", table, "-I", chain, *words)


def tear_down(state: Path) -> None:
    """Undo set_up, and remove all chains of kube-proxy and of the pod network."""
    if succeeds("ip", "link", "show", NODE_LINK):
        run("ip", "link", "delete", NODE_LINK)
    for family in ("iptables", "ip6tables"):
        for table in _TABLES:
            script = removal_script(run(f"{family}-save", "-t", table), table)
            if script:
                run(f"{family}-restore", "-w", "5", "--noflush", stdin=script)
    before = state / "ip_forward.before"
    if before.exists():
        _FORWARDING.write_text(before.read_text())


def removal_script(saved: str, table: str) -> str:
    """Input for ``iptables-restore --noflush`` that removes what is ours from a saved table, or nothing."""
    chains = [
        line[1:].split()[0] for line in saved.splitlines() if line.startswith(":") and _OURS.match(line[1:])
    ]
    removals: list[str] = []
    for line in saved.splitlines():
        if not line.startswith("-A ") or _OURS.match(line[3:]):
            continue
        target = re.search(r" -j (\S+)", line)
        if f"--comment {_COMMENT}" in line or (target is not None and _OURS.match(target[1])):
            removals.append("-D " + line[3:])
    if not chains and not removals:
        return ""
    flushes = [f"-F {chain}" for chain in chains]
    deletions = [f"-X {chain}" for chain in chains]
    return "\n".join([f"*{table}", *removals, *flushes, *deletions, "COMMIT", ""])


def remains() -> list[str]:
    """What of ours is left in the machine's network: for `down` to check itself."""
    left = [NODE_LINK] if succeeds("ip", "link", "show", NODE_LINK) else []
    for family in ("iptables", "ip6tables"):
        for table in _TABLES:
            if removal_script(run(f"{family}-save", "-t", table), table):
                left.append(f"{family} table {table}")
    return left
