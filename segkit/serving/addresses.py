"""Addresses to listen on: how they are written, and what is said of one that cannot be had."""

from __future__ import annotations

import socket

from segkit.errors import ConfigError

__all__ = ["join_address", "listen", "port_error"]


def join_address(host: str, port: int) -> str:
    """host:port, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def listen(host: str, port: int, *, flag: str) -> socket.socket:
    """A socket that listens there; port 0 takes a free one.

    Args:
        host: A name or an address, an IPv6 one with or without brackets.
        port: Its port.
        flag: The flag that named it, such as "--port".

    Raises:
        ConfigError: It cannot be listened on.
    """
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    # Like TensorFlow Serving, "::" takes IPv4 clients too.
    both = bare == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((bare, port), family=family, dualstack_ipv6=both)
    except OSError as err:
        reason = err.strerror or str(err)
        raise port_error(join_address(host, port), reason, flag=flag) from err


def port_error(address: str, reason: str, *, flag: str) -> ConfigError:
    """What to raise where an address cannot be listened on."""
    return ConfigError(
        f"cannot listen on {address}: {reason}",
        expected="a free port on an address of this machine",
        next_step=f"stop the other server, or choose another {flag}",
    )
