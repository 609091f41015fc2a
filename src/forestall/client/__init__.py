"""A client of the API of Forestall: what there is comes as typed documents, and what is asked is asked once.

with Client("https://host:7480", token) as client:
    for vm in client.vms(min_risk=0.1):
        print(vm.name, vm.risk)
"""

from forestall.client.client import Client
from forestall.model.errors import ApiError

__all__ = ["ApiError", "Client"]
