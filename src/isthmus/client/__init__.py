"""The typed client of a node's HTTP interface, and temporary nodes on this machine."""

from isthmus.client.client import Client

__all__ = ["Client"]
