"""Let the nodes of one job find each other.

That is the address that each tells the others, and whether it reaches the first.

torchrun alone tells the others its host's full name. Many a node knows itself as 127.0.1.1, or by a name
that no other node can look up. Then the job waits for minutes and does nothing.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable

from jobctl.jobs.core.errors import UserError

INTERFACE = "JOBCTL_INTERFACE"
"""Environment variable that names the network interface of the site, if it chooses one."""
ARRIVAL_SECONDS = 600.0
"""Seconds for which the first node may not listen yet: containers start at different times."""
UNREACHABLE_SECONDS = 60.0
"""Seconds for which the first node may be unreachable."""
ATTEMPT_SECONDS = 5.0
PAUSE_SECONDS = 1.0
HINT = "set slurm.interface in the site file to the nodes' network; or a firewall closes the port"
_SIOCGIFADDR = 0x8915
"""The ioctl of Linux that tells the IPv4 address of an interface (netdevice(7))."""


def prepare(parsed: argparse.Namespace) -> None:
    """Set this node's address in torchrun's options, and wait until the first node listens.

    Raises UserError where this node has no address for the others, or does not reach the first one in time.
    """
    if parsed.nnodes in ("1", "1:1"):
        # In a Docker container without a network no name but localhost is known.
        parsed.local_addr = parsed.local_addr or "127.0.0.1"
        return

    if parsed.rdzv_backend != "c10d" or not parsed.rdzv_endpoint:
        return  # the scheduler has told every node the address of the first one

    host, port = _split(parsed.rdzv_endpoint)
    first = "is_host=1" in parsed.rdzv_conf
    interface = os.environ.get(INTERFACE, "")
    address = interface_address(interface) if interface else address_towards(host, port)
    if address.startswith("127."):
        raise UserError(
            f"this node cannot reach the first node, {host}: the name leads to {address}, this node itself",
            hint=HINT,
            code=1,
        )

    parsed.local_addr = parsed.local_addr or address
    _choose_interfaces(interface, address)

    # The first node listens only when torchrun has started, and must not wait for itself.
    if not first:
        wait_for(host, port)


def _split(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def _choose_interfaces(interface: str, address: str) -> None:
    """Let gloo and NCCL use the same network. Variables that are already set stay."""
    if interface:
        # An equals sign stands for this name alone, and not for all that begin like it.
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={interface}")

    # gloo would look up the host's name. NCCL finds an interface by itself.
    name = interface or interface_of(address)
    if name:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def interface_address(interface: str) -> str:
    """Return the IPv4 address of a network interface. Raises UserError if it has none."""
    # A name has at most 15 bytes on Linux.
    request = struct.pack("256s", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
        except OSError as error:
            known = ", ".join(name for _, name in socket.if_nameindex())
            raise UserError(
                f"network interface {interface} of this node has no address: {error.strerror}",
                hint=f"interfaces of this node: {known}; see slurm.interface of the site file",
                code=1,
            ) from None

    # The structure ifreq: 16 bytes of name, then a sockaddr_in, whose address is at its bytes 4 to 7.
    return socket.inet_ntoa(answer[20:24])


def interface_of(address: str) -> str:
    """Return the name of the interface with an IPv4 address; empty if none has it."""
    for _, name in socket.if_nameindex():
        try:
            if interface_address(name) == address:
                return name
        except UserError:  # it is down, or has no IPv4 address
            continue

    return ""


def address_towards(host: str, port: int) -> str:
    """Return the address from which this node sends to ``host``. Nothing is sent.

    Raises UserError without a route.
    """
    try:
        # A datagram socket sends nothing to connect. The kernel only chooses the route.
        family, kind, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            address = str(probe.getsockname()[0])
    except OSError as error:
        raise UserError(
            f"this node cannot reach the first one, {host}: {error.strerror}", hint=HINT, code=1
        ) from None

    return address


def wait_for(
    host: str,
    port: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until somebody listens at ``host``. Raises UserError when the time is over."""
    began = clock()
    while True:
        try:
            socket.create_connection((host, port), timeout=ATTEMPT_SECONDS).close()
            return
        except OSError as error:
            # A node that refuses is up: its container only starts later than this one's.
            is_up = error.errno == errno.ECONNREFUSED
            reason = error.strerror or str(error)

        waited = clock() - began
        if waited >= (ARRIVAL_SECONDS if is_up else UNREACHABLE_SECONDS):
            raise UserError(
                f"node {os.environ.get('NODE') or socket.gethostname()} does not reach the first node at "
                f"{host}:{port} in {waited:.0f} s: {reason}",
                hint=HINT,
                code=1,
            )

        sleep(PAUSE_SECONDS)
