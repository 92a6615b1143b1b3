"""The address that edge hosts share (VRRP, by keepalived)."""

from __future__ import annotations

__virtualname__ = "vrrp"


def interface_with(address: str, interfaces: dict[str, list[str]]) -> str:
    """Return the interface that has an address.

    Args:
        address: An IPv4 address.
        interfaces: Addresses by interface, as the grain ``ip4_interfaces``.

    Returns:
        The interface's name.

    Raises:
        ValueError: None has it.

    Example:
        >>> interface_with("10.0.0.4", {"lo": ["127.0.0.1"], "eth0": ["10.0.0.4"]})
        'eth0'
    """
    found = [name for name, addresses in sorted(interfaces.items()) if address in addresses]
    if not found:
        raise ValueError(
            f"no interface of this host has {address}, its address in fleet.yaml, so none can share another"
        )
    return found[0]


def interface(address: str) -> str:
    """Return this host's interface that has an address.

    Args:
        address: An IPv4 address.

    Returns:
        The interface's name.

    Raises:
        ValueError: None has it.

    Example:
        salt-call vrrp.interface 10.0.0.4
    """
    return interface_with(address, __grains__["ip4_interfaces"])
