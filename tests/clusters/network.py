"""The network of a test cluster: a bridge on this machine, and a cable from it into each node's own namespace."""

from __future__ import annotations

import subprocess

from tests.clusters import slurm_conf


class Network:
    """Addresses 10.78.SLOT.x. The nodes reach each other and this machine, and nothing else."""

    def __init__(self, slot: int) -> None:
        self._slot = slot
        self.name = f"jobctl{slot}"

    @property
    def address(self) -> str:
        """The bridge's address on its cables."""
        return f"02:78:00:01:{self._slot:02x}:00"

    def make(self) -> None:
        """Make the bridge; one that a killed owner has left goes first."""
        self.remove()
        # Without an address of its own a bridge takes the lowest of its cables. It would change with a cable, and the
        # other nodes would not reach the controller for half a minute.
        _ip("link", "add", self.name, "address", self.address, "type", "bridge")
        _ip("addr", "add", f"{slurm_conf.controller(self._slot)}/24", "dev", self.name)
        _ip("link", "set", self.name, "up")

    def remove(self) -> None:
        """Remove the bridge, and the cables of nodes that have no process any more."""
        for link in (self.name, *(self._cable(node) for node in range(len(slurm_conf.NODES)))):
            _ip("link", "del", link, check=False)

    def cut(self, node: int) -> None:
        """Pull a node's cable, so that nothing it sends arrives."""
        _ip("link", "set", self._cable(node), "down")

    def script(self, node: int, command: str) -> str:
        """Return a shell script that runs ``command`` in a namespace of its own on the node's end of a new cable."""
        cable = self._cable(node)
        end = f"{cable}e"
        address = slurm_conf.address(self._slot, node)
        gateway = slurm_conf.controller(self._slot)
        inside = (
            f"until ip link show {end} >/dev/null 2>&1; do sleep 0.02; done; ip link set lo up; "
            # Its peers keep the address of a node that was switched off for a while.
            f"ip link set {end} name eth0 address 02:78:00:00:{self._slot:02x}:{node:02x}; "
            f"ip addr add {address}/24 dev eth0; ip link set eth0 up; "
            f"ip route add default via {gateway}; {command}"
        )
        # A cable is moved again until it has gone: unshare may not have made the namespace yet.
        return (
            f"ip link del {cable} 2>/dev/null || true; ip link add {cable} type veth peer name {end}; "
            f"ip link set {cable} master {self.name} up; unshare --mount --uts --net sh -ec '{inside}' & "
            f"while ip link show {end} >/dev/null 2>&1; do ip link set {end} netns $! || true; sleep 0.02; done; "
            "wait $!"
        )

    def _cable(self, node: int) -> str:
        return f"{self.name}n{node + 1}"


def _ip(*words: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
