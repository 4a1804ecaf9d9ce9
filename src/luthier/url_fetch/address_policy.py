"""Which addresses may be connected to: the public internet, and what the operator allows by name or network."""

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

# RFC 6890 and its registry: what is not the public internet, and addresses that carry another one inside. Beyond the
# registry: 168.63.129.16 is where Azure's hosts answer their guests, a public address that leads inside.
_REFUSED_V4 = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("10.0.0.0/8"),
    IPv4Network("100.64.0.0/10"),
    IPv4Network("127.0.0.0/8"),
    IPv4Network("168.63.129.16/32"),
    IPv4Network("169.254.0.0/16"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.0.2.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv4Network("192.168.0.0/16"),
    IPv4Network("198.18.0.0/15"),
    IPv4Network("198.51.100.0/24"),
    IPv4Network("203.0.113.0/24"),
    IPv4Network("224.0.0.0/4"),
    IPv4Network("240.0.0.0/4"),
)
# Of IPv6 only 2000::/3 is given out. That leaves out ::1, fe80::/10, fc00::/7, ff00::/8, IPv4-mapped and NAT64
# addresses; inside it lie Teredo and other protocols' 2001::/23, documentation, and 6to4.
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be reached although it is not public: hosts by their exact name, and networks."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Allowed":
        """Reads `host, 10.1.0.0/16, ...`. Raises ValueError for an entry that is neither a name nor a network."""
        hosts, networks = set(), []
        for entry in filter(None, (part.strip() for part in text.split(","))):
            try:
                networks.append(ip_network(entry))
            except ValueError:
                if not re.fullmatch(r"[A-Za-z0-9._-]+", entry) or ends_in_number(entry):
                    text = f"{entry!r} is neither the name of a host nor a network such as 10.1.0.0/16"
                    raise ValueError(text) from None
                hosts.add(entry.lower().rstrip("."))
        return cls(frozenset(hosts), tuple(networks))

    def takes(self, host: str, address: str) -> bool:
        """Whether the address, found under this name, may be connected to. Raises ValueError for what is no address.

        An allowed name may have any address. `host` is in lower case.
        """
        parsed = ip_address(address)
        if host in self.hosts or any(parsed in network for network in self.networks):
            return True
        if parsed.version == 4:
            return not any(parsed in network for network in _REFUSED_V4)
        return parsed in _GLOBAL_V6 and not any(parsed in network for network in _REFUSED_V6)


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, each once, as the system's resolver gives them; may ask DNS. Raises OSError for none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def literal(host: str) -> str | None:
    """The IP address that a host is, in canonical form; None for a name, and for spellings such as 127.1 or 0x7f.1."""
    try:
        parsed = ip_address(host)
    except ValueError:
        return None
    return str(parsed)


def ends_in_number(host: str) -> bool:
    """Whether a resolver may read the host as an address: 2130706433, 0x7f.1, 127.1, 0177.0.0.1 (WHATWG URL)."""
    return re.fullmatch(r"\d+|0[xX][0-9A-Fa-f]*", host.rstrip(".").rpartition(".")[2]) is not None
